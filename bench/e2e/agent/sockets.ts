/**
 * Blocking sockets for the programs that the benchmark runs at both ends of a stack.
 *
 * Calls go to libc directly, from one thread, because Node's own sockets would add an event loop's delay and allocation
 * to every figure. Addresses and small buffers live in one scratch block whose address is taken once. IPv4, and unix
 * sockets for the API.
 */
import { addressOf, errno, type LibcFunction, libcFunction } from '../../../src/sys/libc.ts';

/** Scratch memory; offsets below are into it. */
export const scratch: ArrayBuffer = new ArrayBuffer(65536);
/** View of {@link scratch}. */
export const view: DataView = new DataView(scratch);
/** Machine address of {@link scratch}. */
export const base: number = addressOf(scratch);

/** Bytes of {@link block}. */
export const BLOCK: number = 262144;
/** A block for bulk traffic; exported, so that it is not collected while its address is in use. */
export const block: ArrayBuffer = new ArrayBuffer(BLOCK);
/** Machine address of {@link block}. */
export const blockAt: number = addressOf(block);

const AT_ADDRESS = 0; // struct sockaddr_in, 16 bytes
const AT_LENGTH = 32; // socklen_t
const AT_OPTION = 48; // int, or struct timeval of 16 bytes
const AT_TIMESPEC = 80; // struct timespec, 16 bytes
const AT_EVENT = 112; // struct epoll_event
/** Where one-byte payloads are. */
export const AT_BYTE = 160;
const AT_UNIX_ADDRESS = 256; // struct sockaddr_un, 110 bytes
/** Where requests and answers in text are, up to 4 KiB. */
export const AT_TEXT = 16384;
/** Where `epollWait` writes its events. */
export const AT_EVENTS = 1024;
/** Most events taken by one `epollWait`. */
export const MAX_EVENTS = 256;

const AF_UNIX = 1;
const UNIX_PATH_MAX = 107;
const AF_INET = 2;
/** SOCK_STREAM. */
export const STREAM = 1;
/** SOCK_DGRAM. */
export const DATAGRAM = 2;
/** SOCK_NONBLOCK, to be added to a type. */
export const NONBLOCK = 0o4000;
const RAW = 3;
const IPPROTO_ICMP = 1;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
/** EPOLLIN. */
export const EPOLLIN = 1;
/** EPOLLOUT. */
export const EPOLLOUT = 4;
/** EPOLLERR | EPOLLHUP. */
export const EPOLL_BROKEN = 0x18;
/** EPOLLRDHUP. */
export const EPOLLRDHUP = 0x2000;
/** EPOLLET. */
export const EPOLLET = 0x80000000;
// struct epoll_event is packed on x86-64 only.
const EVENT_SIZE = process.arch === 'x64' ? 12 : 16;
const EVENT_DATA = process.arch === 'x64' ? 4 : 8;
const EINTR = 4;
const EAGAIN = 11;
const EINPROGRESS = 115;
const PR_SET_TIMERSLACK = 29;
const CLOCK_MONOTONIC = 1;

const encoder = new TextEncoder();

const cSocket: LibcFunction = libcFunction('socket', 'int', ['int', 'int', 'int']);
const cConnect: LibcFunction = libcFunction('connect', 'int', ['int', 'uintptr_t', 'int']);
const cBind: LibcFunction = libcFunction('bind', 'int', ['int', 'uintptr_t', 'int']);
const cListen: LibcFunction = libcFunction('listen', 'int', ['int', 'int']);
const cAccept: LibcFunction = libcFunction('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);
const cSetOption: LibcFunction = libcFunction('setsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'int']);
const cReceiveFrom: LibcFunction = libcFunction('recvfrom', 'intptr_t', [
  ...['int', 'uintptr_t', 'size_t', 'int', 'uintptr_t', 'uintptr_t'],
]);
const cSendTo: LibcFunction = libcFunction('sendto', 'intptr_t', [
  ...['int', 'uintptr_t', 'size_t', 'int', 'uintptr_t', 'int'],
]);
const cEpollCreate: LibcFunction = libcFunction('epoll_create1', 'int', ['int']);
const cEpollControl: LibcFunction = libcFunction('epoll_ctl', 'int', ['int', 'int', 'int', 'uintptr_t']);
const cEpollWait: LibcFunction = libcFunction('epoll_wait', 'int', ['int', 'uintptr_t', 'int', 'int']);
const cSleep: LibcFunction = libcFunction('clock_nanosleep', 'int', ['int', 'int', 'uintptr_t', 'uintptr_t']);
const cPrctl: LibcFunction = libcFunction('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
/** close(2). */
export const close: LibcFunction = libcFunction('close', 'int', ['int']);
/** send(2), at a machine address. */
export const send: LibcFunction = libcFunction('send', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
/** recv(2), at a machine address. */
export const receive: LibcFunction = libcFunction('recv', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
/** shutdown(2). */
export const shutdown: LibcFunction = libcFunction('shutdown', 'int', ['int', 'int']);
/** sendmmsg(2). */
export const sendMany: LibcFunction = libcFunction('sendmmsg', 'int', ['int', 'uintptr_t', 'uint', 'int']);
/** recvmmsg(2). */
export const receiveMany: LibcFunction = libcFunction('recvmmsg', 'int', [
  ...['int', 'uintptr_t', 'uint', 'int', 'uintptr_t'],
]);

/** Failure of `call`, to be thrown. */
export function failure(call: string): Error {
  return new Error(`${call}: errno ${errno()}`);
}

function check(result: number, call: string): number {
  if (result < 0) throw failure(call);
  return result;
}

/** True when the last call failed only because it would have had to wait (or was interrupted). */
export function wouldWait(): boolean {
  const code = errno();
  return code === EAGAIN || code === EINTR || code === EINPROGRESS;
}

/** Milliseconds of CLOCK_MONOTONIC: comparable between processes. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

function putAddress(address: string, port: number): void {
  view.setUint16(AT_ADDRESS, AF_INET, true);
  view.setUint16(AT_ADDRESS + 2, port);
  address.split('.').forEach((part, index) => {
    view.setUint8(AT_ADDRESS + 4 + index, Number(part));
  });
}

/** Write `address` as a `struct sockaddr_in` at `offset` of {@link scratch} for repeated use by {@link connectAt}. */
export function prepareAddress(address: string, port: number, offset: number): void {
  putAddress(address, port);
  new Uint8Array(scratch).copyWithin(offset, AT_ADDRESS, AT_ADDRESS + 16);
}

/** socket(2), IPv4; returns the descriptor or −1. */
export function open(type: number): number {
  return cSocket(AF_INET, type, 0);
}

/** A raw socket for ICMP, which gets IP packets; returns the descriptor or −1. */
export function openIcmp(): number {
  return cSocket(AF_INET, RAW, IPPROTO_ICMP);
}

/** connect(2) to the address prepared at `offset`. */
export function connectAt(fd: number, offset: number): number {
  return cConnect(fd, base + offset, 16);
}

/** connect(2). */
export function connect(fd: number, address: string, port: number): number {
  putAddress(address, port);
  return connectAt(fd, AT_ADDRESS);
}

/** A unix stream socket; returns the descriptor or −1. */
export function openUnix(): number {
  return cSocket(AF_UNIX, STREAM, 0);
}

/** connect(2) to the unix socket at `path`. */
export function connectUnix(fd: number, path: string): number {
  view.setUint16(AT_UNIX_ADDRESS, AF_UNIX, true);
  const { written } = encoder.encodeInto(path, new Uint8Array(scratch, AT_UNIX_ADDRESS + 2, UNIX_PATH_MAX));
  return cConnect(fd, base + AT_UNIX_ADDRESS, 2 + written);
}

/** Write `value` to {@link AT_TEXT}; returns its length in bytes. */
export function putText(value: string): number {
  return encoder.encodeInto(value, new Uint8Array(scratch, AT_TEXT, 4096)).written;
}

/** The `length` bytes at {@link AT_TEXT} as text. */
export function text(length: number): string {
  return Buffer.from(scratch, AT_TEXT, length).toString('utf8');
}

/** A socket bound to `port` of `address`; for TCP it listens. */
export function serve(type: number, port: number, address = '0.0.0.0'): number {
  const fd = check(open(type), 'socket');
  setInteger(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  putAddress(address, port);
  check(cBind(fd, base + AT_ADDRESS, 16), 'bind');
  if ((type & 0xf) === STREAM) check(cListen(fd, 65535), 'listen');
  return fd;
}

/** accept4(2) with the flags of `type` (0 or {@link NONBLOCK}); −1 when there is none. */
export function accept(fd: number, flags: number): number {
  return cAccept(fd, 0, 0, flags);
}

function setInteger(fd: number, level: number, option: number, value: number): void {
  view.setInt32(AT_OPTION, value, true);
  check(cSetOption(fd, level, option, base + AT_OPTION, 4), 'setsockopt');
}

/** TCP_NODELAY. */
export function noDelay(fd: number): void {
  setInteger(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/** Buffers of `bytes` for a measuring socket, past the limit for ordinary users. */
export function largeBuffers(fd: number, bytes: number): void {
  setInteger(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes);
  setInteger(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes);
}

/** Let receiving calls give up after `ms`. */
export function receiveTimeout(fd: number, ms: number): void {
  setTimeLimit(fd, SO_RCVTIMEO, ms);
}

/** Let sending calls give up after `ms`. */
export function sendTimeout(fd: number, ms: number): void {
  setTimeLimit(fd, SO_SNDTIMEO, ms);
}

function setTimeLimit(fd: number, option: number, ms: number): void {
  view.setBigInt64(AT_OPTION, BigInt(Math.floor(ms / 1000)), true);
  view.setBigInt64(AT_OPTION + 8, BigInt(Math.floor((ms % 1000) * 1000)), true);
  check(cSetOption(fd, SOL_SOCKET, option, base + AT_OPTION, 16), 'setsockopt');
}

/** recvfrom(2) of up to `length` bytes to `at`; the sender is kept for {@link answer} and {@link lastSender}. */
export function receiveFrom(fd: number, at: number, length: number): number {
  view.setUint32(AT_LENGTH, 16, true);
  return cReceiveFrom(fd, at, length, 0, base + AT_ADDRESS, base + AT_LENGTH);
}

/** sendto(2) to whoever {@link receiveFrom} heard last. */
export function answer(fd: number, at: number, length: number): number {
  return cSendTo(fd, at, length, 0, base + AT_ADDRESS, 16);
}

/** Who {@link receiveFrom} heard last. */
export function lastSender(): { address: string; port: number } {
  const parts = [0, 1, 2, 3].map((index) => view.getUint8(AT_ADDRESS + 4 + index));
  return { address: parts.join('.'), port: view.getUint16(AT_ADDRESS + 2) };
}

/** A new epoll descriptor. */
export function epollOpen(): number {
  return check(cEpollCreate(0), 'epoll_create1');
}

/** Watch `fd` for `events`; events carry the descriptor. */
export function epollAdd(epoll: number, fd: number, events: number): void {
  view.setUint32(AT_EVENT, events, true);
  view.setUint32(AT_EVENT + EVENT_DATA, fd, true);
  check(cEpollControl(epoll, 1, fd, base + AT_EVENT), 'epoll_ctl');
}

/** epoll_wait(2): the number of events, 0 after `timeoutMs`; read them with {@link eventFd} and {@link eventMask}. */
export function epollWait(epoll: number, timeoutMs: number): number {
  return Math.max(0, cEpollWait(epoll, base + AT_EVENTS, MAX_EVENTS, timeoutMs));
}

/** Descriptor of event `index`. */
export function eventFd(index: number): number {
  return view.getUint32(AT_EVENTS + index * EVENT_SIZE + EVENT_DATA, true);
}

/** Event bits of event `index`. */
export function eventMask(index: number): number {
  return view.getUint32(AT_EVENTS + index * EVENT_SIZE, true);
}

/** Sleep `microseconds`, exactly enough for pacing once {@link sharpTimers} was called. */
export function sleepMicroseconds(microseconds: number): void {
  view.setBigInt64(AT_TIMESPEC, 0n, true);
  view.setBigInt64(AT_TIMESPEC + 8, BigInt(microseconds) * 1000n, true);
  cSleep(CLOCK_MONOTONIC, 0, base + AT_TIMESPEC, 0);
}

/** Timer slack of 1 ns instead of 50 µs for this thread. */
export function sharpTimers(): void {
  cPrctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}
