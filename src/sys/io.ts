/** Plain descriptor input and output on arena memory. Results are byte counts or `-errno`. */
import { errno, libcFunction } from './libc.ts';
import { IOVEC_SIZE, type Memory } from './memory.ts';

const cRead = libcFunction('read', 'intptr_t', ['int', 'uintptr_t', 'size_t']);
const cWrite = libcFunction('write', 'intptr_t', ['int', 'uintptr_t', 'size_t']);
const cReadv = libcFunction('readv', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cWritev = libcFunction('writev', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cClose = libcFunction('close', 'int', ['int']);
const cEventfd = libcFunction('eventfd', 'int', ['uint', 'int']);
const cMadvise = libcFunction('madvise', 'int', ['uintptr_t', 'size_t', 'int']);
const cFcntl = libcFunction('fcntl', 'int', ['int', 'int', 'int']);

const SYSTEM_PAGE = libcFunction('getpagesize', 'int', [])();

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;
const MADV_DONTNEED = 4;
const F_DUPFD_CLOEXEC = 1030;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;
const O_NONBLOCK = 0x800;

export function read(memory: Memory, fd: number, offset: number, length: number): number {
  const n = cRead(fd, memory.address(offset, length), length);
  return n < 0 ? -errno() : n;
}

export function write(memory: Memory, fd: number, offset: number, length: number): number {
  const n = cWrite(fd, memory.address(offset, length), length);
  return n < 0 ? -errno() : n;
}

/** `iov` is an array of `count` iovecs in the structures, which `Memory.putIovec` filled (and so checked). */
export function readv(memory: Memory, fd: number, iov: number, count: number): number {
  const n = cReadv(fd, memory.structures.address(iov, count * IOVEC_SIZE), count);
  return n < 0 ? -errno() : n;
}

export function writev(memory: Memory, fd: number, iov: number, count: number): number {
  const n = cWritev(fd, memory.structures.address(iov, count * IOVEC_SIZE), count);
  return n < 0 ? -errno() : n;
}

export function close(fd: number): number {
  return cClose(fd) < 0 ? -errno() : 0;
}

/** A non-blocking, close-on-exec eventfd(2). */
export function eventfd(): number {
  const fd = cEventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fd < 0 ? -errno() : fd;
}

/** Another descriptor for the same, or `-errno`. */
export function duplicate(fd: number): number {
  const copy = cFcntl(fd, F_DUPFD_CLOEXEC, 0);
  return copy < 0 ? -errno() : copy;
}

/** O_NONBLOCK and the like of an open file, or `-errno`. */
export function statusFlags(fd: number): number {
  const flags = cFcntl(fd, F_GETFL, 0);
  return flags < 0 ? -errno() : flags;
}

/** 0 or `-errno`. */
export function setStatusFlags(fd: number, flags: number): number {
  return cFcntl(fd, F_SETFL, flags) < 0 ? -errno() : 0;
}

/** Set O_NONBLOCK and FD_CLOEXEC. */
export function setNonBlocking(fd: number): number {
  const flags = statusFlags(fd);
  const result = flags < 0 ? flags : setStatusFlags(fd, flags | O_NONBLOCK);
  if (result < 0) return result;
  return cFcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno() : 0;
}

/** Hand what is whole pages of the system in the memory behind (`offset`, `length`) back to the kernel; 0 or `-errno`. */
export function discard(memory: Memory, offset: number, length: number): number {
  const address = memory.address(offset, length);
  const first = Math.ceil(address / SYSTEM_PAGE) * SYSTEM_PAGE;
  const end = Math.floor((address + length) / SYSTEM_PAGE) * SYSTEM_PAGE;
  return end > first && cMadvise(first, end - first, MADV_DONTNEED) < 0 ? -errno() : 0;
}
