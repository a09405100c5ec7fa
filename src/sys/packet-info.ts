/**
 * Which of our addresses a datagram was sent to, and which one another is to leave from: ip(7) IP_PKTINFO and ipv6(7)
 * IPV6_PKTINFO. An IPv6 socket that takes IPv4 clients deals in mapped addresses.
 */
import { controlSpace, findControlMessage, putControlMessage } from './control-message.ts';
import type { Memory } from './memory.ts';
import {
  AF_INET,
  IP_PKTINFO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  IPV6_RECVPKTINFO,
  setsockoptInt,
} from './socket.ts';

/** struct in_pktinfo: interface, our address, the header's destination (4 each); struct in6_pktinfo: address, interface. */
const SIZE_4 = 12;
const SIZE_6 = 20;
/** Room for either with its header. */
export const PACKET_INFO_SPACE: number = controlSpace(SIZE_6);

/** Have `fd` tell it with each datagram. `scratch` is 8 bytes. */
export function wantPacketInfo(memory: Memory, fd: number, family: number, scratch: number): number {
  return family === AF_INET
    ? setsockoptInt(memory, fd, IPPROTO_IP, IP_PKTINFO, 1, scratch)
    : setsockoptInt(memory, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, scratch);
}

/** Where in `length` bytes of ancillary data at `at` the address stands (4 bytes for AF_INET, else 16); or -1. */
export function packetInfoAddress(memory: Memory, at: number, length: number, family: number): number {
  if (family !== AF_INET) return findControlMessage(memory, at, length, IPPROTO_IPV6, IPV6_PKTINFO, SIZE_6);
  const info = findControlMessage(memory, at, length, IPPROTO_IP, IP_PKTINFO, SIZE_4);
  return info < 0 ? -1 : info + 4;
}

/**
 * Begin, at `at`, the ancillary data that let a datagram leave from an address of ours, of any interface; where to write
 * it (4 bytes for AF_INET, else 16). `PACKET_INFO_SPACE` bytes or fewer are used, see `packetInfoSpace`.
 */
export function putPacketInfo(memory: Memory, at: number, family: number): number {
  return family === AF_INET
    ? putControlMessage(memory, at, IPPROTO_IP, IP_PKTINFO, SIZE_4) + 4
    : putControlMessage(memory, at, IPPROTO_IPV6, IPV6_PKTINFO, SIZE_6);
}

/** Bytes that `putPacketInfo` makes. */
export function packetInfoSpace(family: number): number {
  return controlSpace(family === AF_INET ? SIZE_4 : SIZE_6);
}
