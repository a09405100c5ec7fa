/**
 * Listening on a unix socket in the file system: nobody but its owner may connect from the moment it exists, and what is
 * there already is replaced only when it is a socket that nobody listens on any more.
 */
import { existsSync, lstatSync, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { dirname, resolve } from 'node:path';
import { errnoTextOf } from '../control/errno-text.ts';

/** Bytes of sun_path (unix(7)), the final NUL included. */
const PATH_MAX = 108;
/** A process that is just ending still listens; its successor waits for it this long. */
const SUCCESSION_MS = 2000;
const SUCCESSION_POLL_MS = 20;
/** Only the owner may connect: write permission is what connect(2) asks for. */
const UMASK = 0o177;

/** The socket cannot be had; the message is one line. */
export class SocketFileError extends Error {
  override readonly name = 'SocketFileError';
  /** Of bind(2), as strerror(3) has it; empty when the path itself is too long. */
  readonly reason: string;

  constructor(path: string, reason: string) {
    super(
      reason === ''
        ? `the API socket path is too long (${PATH_MAX - 1} bytes at most): ${path}`
        : `no API socket at ${path}: ${reason}`,
    );
    this.reason = reason;
  }
}

/** Connections waiting to be accepted; one more and a client's connect(2) would wait or fail. */
const BACKLOG = 4096;

type Occupant = 'nothing' | 'stale' | 'live' | 'other';

function connectError(path: string): Promise<string> {
  return new Promise((settle) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      settle('');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? 'failed'));
  });
}

async function occupant(path: string): Promise<Occupant> {
  // lstat: a link is not followed, since what it leads to is not ours to remove.
  const entry = lstatSync(path, { throwIfNoEntry: false });
  if (entry === undefined) return 'nothing';
  if (!entry.isSocket()) return 'other';
  const error = await connectError(path);
  if (error === '') return 'live';
  if (error === 'ENOENT') return 'nothing';
  return error === 'ECONNREFUSED' ? 'stale' : 'other';
}

async function makeRoom(path: string): Promise<void> {
  const deadline = performance.now() + SUCCESSION_MS;
  for (;;) {
    const found = await occupant(path);
    if (found === 'nothing') return;
    if (found === 'stale') {
      unlinkSync(path);
      return;
    }
    if (found === 'other' || performance.now() > deadline)
      throw Object.assign(new Error(), { code: 'EADDRINUSE' });
    await new Promise((settle) => {
      setTimeout(settle, SUCCESSION_POLL_MS);
    });
  }
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((settle, reject) => {
    server.once('error', reject);
    // bind(2) is called before `listen` returns.
    const former = process.umask(UMASK);
    try {
      server.listen({ path, backlog: BACKLOG }, () => {
        server.removeListener('error', reject);
        settle();
      });
    } finally {
      process.umask(former);
    }
  });
}

/** At the end of the process, unless another has taken the place meanwhile. */
function removeAtExit(path: string): void {
  const place = resolve(path);
  const mine = lstatSync(place);
  process.on('exit', () => {
    const found = lstatSync(place, { throwIfNoEntry: false });
    if (found?.dev !== mine.dev || found.ino !== mine.ino) return;
    try {
      unlinkSync(place);
    } catch {
      // The directory has become read-only for us: the next one to want the place will see that nobody listens.
    }
  });
}

/** Rejects with `SocketFileError`. The file is removed when the process ends by itself. */
export async function listenOn(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) >= PATH_MAX) throw new SocketFileError(path, '');
  try {
    await makeRoom(path);
    await bind(server, path);
    removeAtExit(path);
  } catch (error) {
    // libuv says EACCES for a directory that does not exist.
    const missing = (error as NodeJS.ErrnoException).code === 'EACCES' && !existsSync(dirname(path));
    throw new SocketFileError(path, errnoTextOf(missing ? { code: 'ENOENT' } : error));
  }
}
