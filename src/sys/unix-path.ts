/**
 * The file of a unix socket that we listen on. One that nobody listens on any more, left behind by a process that is
 * gone, is replaced; anything else in its place is not ours to remove. Set-up only.
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { EADDRINUSE, ECONNREFUSED, ENAMETOOLONG, ENOENT } from './errno.ts';
import { close } from './io.ts';
import type { Memory } from './memory.ts';
import { AF_UNIX, bind, connect, putSockaddrUnix, socket, UNIX_PATH_MAX } from './socket.ts';

/** Bind `fd`, of type `type`, to `path`; `scratch` is the offset of `SOCKADDR_UN_SIZE` arena bytes. 0 or `-errno`. */
export function bindUnix(memory: Memory, scratch: number, fd: number, type: number, path: string): number {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > UNIX_PATH_MAX) return -ENAMETOOLONG;
  const length = putSockaddrUnix(memory, scratch, name);
  const result = bind(memory, fd, scratch, length);
  if (result !== -EADDRINUSE || !isStale(memory, scratch, length, type, path)) return result;
  try {
    unlinkSync(path);
  } catch {
    // The directory is not ours.
    return result;
  }
  return bind(memory, fd, scratch, length);
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

/** What is at `path`, whose address is at `sockaddr`, is a socket, and nobody listens on it. */
function isStale(memory: Memory, sockaddr: number, length: number, type: number, path: string): boolean {
  try {
    if (!lstatSync(path).isSocket()) return false;
  } catch {
    return false;
  }
  const fd = socket(AF_UNIX, type, 0);
  if (fd < 0) return false;
  const result = connect(memory, fd, sockaddr, length);
  close(fd);
  return result === -ECONNREFUSED || result === -ENOENT;
}
