/** The API socket of slirp4netns, or of tslirp in its place: a connection for each request, as its callers do. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TIMEOUT_MS = 5000;

let directory = '';
let sockets = 0;

/** A place for a socket, in a directory that goes when we do. */
export function socketPath(): string {
  if (directory === '') {
    directory = mkdtempSync(join(tmpdir(), 'tslirp-bench-'));
    process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  }
  return join(directory, String(++sockets));
}

/** Send `request`; the answer. Rejects when there is none within 5 s, or it is an error. */
export async function call(path: string, request: object): Promise<Record<string, unknown>> {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = createConnection({ path, allowHalfOpen: true });
    let answer = '';
    socket
      .setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`${path}: no answer within ${TIMEOUT_MS} ms`)))
      .setEncoding('utf8')
      .on('data', (part: string) => {
        answer += part;
      })
      .on('end', () => {
        socket.destroy();
        resolve(answer);
      })
      .on('error', reject)
      .end(JSON.stringify(request));
  });
  const answer = JSON.parse(text) as Record<string, unknown>;
  if ('error' in answer) throw new Error(`API: ${text}`);
  return answer;
}
