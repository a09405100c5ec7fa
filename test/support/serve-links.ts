/** `tslirp serve` for tests, and a place where it may make sockets whoever runs it. */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { directory, OPEN, ready, tslirpCommand } from './namespaces.ts';
import { type Running, start } from './processes.ts';

/** Everything is open to its guests; ready. */
export async function serveLinks(...options: string[]): Promise<Running> {
  const stack = start(tslirpCommand('serve', ...OPEN, '--ready-fd', '3', ...options), {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  await ready(stack);
  return stack;
}

export function socketDirectory(): string {
  const path = join(directory, 'sockets');
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o777);
  return path;
}
