/**
 * The file of a unix socket that we listen on. One that nobody listens on any more, left behind by a process that is
 * gone, is replaced; anything else in its place is not ours to remove. Set-up only.
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { EADDRINUSE, ECONNREFUSED, ENAMETOOLONG, ENOENT } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import { AF_UNIX, bind, connect, socket, UNIX_PATH_MAX } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import type { HostScratch } from '../host/scratch.ts';
import { listenError } from './forward-error.ts';

interface SocketContext extends Pick<FlowContext, 'memory'> {
  readonly scratch: HostScratch;
}

/** Bind `fd`, of type `type`, to `path`. Throws `ForwardError`; `fd` stays open. */
export function bindUnix(context: SocketContext, fd: number, type: number, path: string): void {
  const { memory, scratch } = context;
  const where = `unix:${path}`;
  if (path === '' || Buffer.byteLength(path) > UNIX_PATH_MAX) throw listenError(where, -ENAMETOOLONG);
  scratch.putUnixPath(path);
  let result = bind(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
  if (result === -EADDRINUSE && isStale(context, type, path)) {
    unlinkSync(path);
    scratch.putUnixPath(path);
    result = bind(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
  }
  if (result < 0) throw listenError(where, result);
}

/** Which file is at `path` now; to be given to `removeSocketFile`. */
export function fileIdentity(path: string): string {
  try {
    const { dev, ino } = lstatSync(path);
    return `${dev}:${ino}`;
  } catch {
    return '';
  }
}

/** Remove the file at `path`, if it is still the one that we made. */
export function removeSocketFile(path: string, identity: string): void {
  if (identity === '' || fileIdentity(path) !== identity) return;
  try {
    unlinkSync(path);
  } catch {
    // The directory is gone, or not ours any more.
  }
}

/** A socket, and nobody listens on it. */
function isStale(context: SocketContext, type: number, path: string): boolean {
  const { memory, scratch } = context;
  try {
    if (!lstatSync(path).isSocket()) return false;
  } catch {
    return false;
  }
  const fd = socket(AF_UNIX, type, 0);
  if (fd < 0) return false;
  scratch.putUnixPath(path);
  const result = connect(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
  close(fd);
  return result === -ECONNREFUSED || result === -ENOENT;
}
