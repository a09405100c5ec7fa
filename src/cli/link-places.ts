/** Where links are that were not said exactly: by name, or wherever there is room. Found out once, at the start. */
import { createConnection } from 'node:net';
import type { GuestConfig } from '../config.ts';
import type { SocketPlace } from '../device-spec.ts';
import { resolveEndpoint } from './wireguard-endpoints.ts';

/** Where passt looks for the first that is free. */
const PASST_SOCKETS = 64;
const passtPath = (number: number): string => `/tmp/passt_${number}.socket`;

/** Places of `target` become exact. Rejects with one line. */
export async function settlePlaces(target: GuestConfig['target']): Promise<void> {
  if (target.kind === 'listen' || target.kind === 'dial') await settle(target.at);
}

async function settle(at: SocketPlace): Promise<void> {
  if (at.family === 'ip') await resolveEndpoint(at, 'a link');
  if (at.family === 'unix' && at.path === '') at.path = await freePath(passtPath);
}

/** The first of `path(1)`, `path(2)` … that nobody listens at. */
export async function freePath(path: (number: number) => string): Promise<string> {
  for (let number = 1; number <= PASST_SOCKETS; number++) if (await isFree(path(number))) return path(number);
  throw new Error(
    `option --link: all of ${path(1)} to ${path(PASST_SOCKETS)} are in use; accepted: passt:/PATH`,
  );
}

function isFree(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    // Somebody else's that we may not connect to is in use as well.
    socket.once('error', ({ code }: NodeJS.ErrnoException) =>
      resolve(code === 'ENOENT' || code === 'ECONNREFUSED'),
    );
  });
}
