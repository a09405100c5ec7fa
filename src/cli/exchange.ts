/** A request and its answer at a socket like that of the API, each one JSON value. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';

export type Json = Record<string, unknown>;

export interface Request {
  execute: string;
  arguments?: Json;
}

/** Rejects with the system's error when nobody is there, and with a SyntaxError when the answer is not JSON. */
export async function exchange(path: string, request: Request): Promise<Json> {
  const socket = connect(path);
  await once(socket, 'connect');
  socket.end(JSON.stringify(request));
  return JSON.parse(await text(socket)) as Json;
}
