/** Running `bin/slirp4netns` in end-to-end tests the way its callers do, and asking its API socket. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { asOwner, directory, programPath, ready } from './namespaces.ts';
import { type Ended, type Running, type RunOptions, run, start } from './processes.ts';
import { within } from './wait.ts';

let sockets = 0;

/** A place for an API socket. */
export function socketPath(): string {
  return join(directory, `api-${process.pid}-${++sockets}.sock`);
}

/** Run it to its end. */
export function slirp4netns(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return run(asOwner(programPath('slirp4netns'), ...args), options);
}

export interface Service extends AsyncDisposable {
  process: Running;
  /** Closes the descriptor that `-e` names. */
  closeExitFd: () => void;
  /** Path of its API socket. */
  api: string;
}

/** Start it with `-r 3 -e 4 -a PATH` before the other arguments, and wait until it is ready. */
export async function startSlirp4netns(args: readonly string[]): Promise<Service> {
  const api = socketPath();
  const argv = asOwner(programPath('slirp4netns'), '-r', '3', '-e4', '--api-socket', api, ...args);
  const process = start(argv, { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'] });
  try {
    await ready(process);
    // Ready means that the socket can be used.
    if (!existsSync(api)) throw new Error('ready, but there is no API socket');
  } catch (error) {
    await process.stop();
    throw error;
  }
  const exitFd = process.child.stdio[4] as NodeJS.WritableStream & { destroy: () => void };
  return {
    process,
    api,
    closeExitFd: () => exitFd.destroy(),
    [Symbol.asyncDispose]: async () => {
      exitFd.destroy();
      await process.stop('SIGTERM');
    },
  };
}

/** One request, given as text or as what becomes JSON; the parsed answer. */
export async function ask(api: string, request: unknown): Promise<Record<string, unknown>> {
  const text = await askText(api, typeof request === 'string' ? request : `${JSON.stringify(request)}\n`);
  return JSON.parse(text) as Record<string, unknown>;
}

export async function askText(api: string, request: string | Buffer): Promise<string> {
  const socket = createConnection({ path: api, allowHalfOpen: true });
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  socket.end(request);
  await within(once(socket, 'end'), 'the answer of the API');
  return text;
}

export interface ForwardRequest {
  proto?: string;
  host_addr?: string;
  host_port?: number;
  guest_addr?: string;
  guest_port?: number;
}

/** `add_hostfwd`, which must succeed: its `return`. */
export async function addForward(
  api: string,
  request: ForwardRequest,
): Promise<{ id: number; host_port?: number }> {
  const answer = await ask(api, { execute: 'add_hostfwd', arguments: request });
  if (answer['return'] === undefined) throw new Error(JSON.stringify(answer));
  return answer['return'] as { id: number; host_port?: number };
}
