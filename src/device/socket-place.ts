/** Sockets of links, as `SocketPlace` says where: their addresses for the kernel, and as people read them. Set-up only. */
import { getSystemErrorName } from 'node:util';
import { DeviceError } from '../device-error.ts';
import type { SocketPlace } from '../device-spec.ts';
import { formatEndpoint, parseIpAddress } from '../stack/wire/address.ts';
import type { Memory } from '../sys/memory.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  AF_VSOCK,
  putSockaddr4,
  putSockaddr6,
  putSockaddrUnix,
  putSockaddrVsock,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockoptInt,
  socket,
} from '../sys/socket.ts';

const TYPES: Record<'stream' | 'seqpacket' | 'dgram', number> = {
  stream: SOCK_STREAM,
  seqpacket: SOCK_SEQPACKET,
  dgram: SOCK_DGRAM,
};
export type SocketType = keyof typeof TYPES;
/** Asked for on unix sockets, whose buffers bound what is under way; the kernel cuts this to what is allowed. */
const BUFFER_BYTES = 4 * 1024 * 1024;

export function typeNumber(type: SocketType): number {
  return TYPES[type];
}

export function placeText(at: SocketPlace): string {
  if (at.family === 'unix') return `unix:${at.path}`;
  return at.family === 'vsock' ? `vsock:${at.cid}:${at.port}` : formatEndpoint(at);
}

/** Write the socket address at `to`; its length. */
export function putPlace(memory: Memory, to: number, at: SocketPlace): number {
  if (at.family === 'unix') return putSockaddrUnix(memory, to, Buffer.from(at.path));
  if (at.family === 'vsock') return putSockaddrVsock(memory, to, at.cid, at.port);
  const { isV4, w0, w1, w2, w3 } = parseIpAddress(at.address);
  return isV4 ? putSockaddr4(memory, to, w3, at.port) : putSockaddr6(memory, to, w0, w1, w2, w3, at.port, 0);
}

/** A socket of the family that `at` needs, or `-errno`. */
export function socketFor(memory: Memory, scratch: number, at: SocketPlace, type: SocketType): number {
  const families = { unix: AF_UNIX, vsock: AF_VSOCK, ip: 0 } as const;
  const family = families[at.family] || (at.family === 'ip' && at.address.includes(':') ? AF_INET6 : AF_INET);
  const fd = socket(family, TYPES[type], 0);
  if (fd >= 0 && at.family === 'unix') enlarge(memory, scratch, fd);
  return fd;
}

/** Ask for room for what is under way. */
export function enlarge(memory: Memory, scratch: number, fd: number): void {
  for (const name of [SO_SNDBUF, SO_RCVBUF])
    setsockoptInt(memory, fd, SOL_SOCKET, name, BUFFER_BYTES, scratch);
}

export function placeError(verb: string, at: SocketPlace, error: number): DeviceError {
  return new DeviceError('link', -error, `cannot ${verb} ${placeText(at)}: ${getSystemErrorName(error)}`);
}
