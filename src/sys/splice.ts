/** Bytes from socket to socket without coming by here: pipe(7), splice(2). */
import { errno, libcFunction } from './libc.ts';
import type { Memory } from './memory.ts';

const cPipe2 = libcFunction('pipe2', 'int', ['uintptr_t', 'int']);
const cFcntl = libcFunction('fcntl', 'int', ['int', 'int', 'int']);
const cSplice = libcFunction('splice', 'intptr_t', [
  'int',
  'uintptr_t',
  'int',
  'uintptr_t',
  'size_t',
  'uint',
]);

const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;
const F_SETPIPE_SZ = 1031;
const SPLICE_F_MOVE = 1;
const SPLICE_F_NONBLOCK = 2;

/** A pipe, non-blocking and close-on-exec: its reading and its writing end as two 32-bit numbers at `at`; 0 or `-errno`. */
export function pipe(memory: Memory, at: number): number {
  return cPipe2(memory.address(at, 8), O_NONBLOCK | O_CLOEXEC) < 0 ? -errno() : 0;
}

/** How many bytes the pipe has room for from now on, or `-errno`, and it is as it was. */
export function setPipeSize(fd: number, bytes: number): number {
  const size = cFcntl(fd, F_SETPIPE_SZ, bytes);
  return size < 0 ? -errno() : size;
}

/** Move up to `length` bytes between a pipe and a socket, either way; how many were, 0 at the end of file, or `-errno`. */
export function splice(from: number, to: number, length: number): number {
  const n = cSplice(from, 0, to, 0, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  return n < 0 ? -errno() : n;
}
