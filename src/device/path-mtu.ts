/** How long a packet may be on its way to somewhere, as far as the host's system knows (RFC 1191, RFC 8201). */
import { close } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';
import {
  AF_INET,
  AF_INET6,
  connect,
  getsockoptInt,
  IP_MTU,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_MTU,
  putSockaddr4,
  putSockaddr6,
  SOCK_DGRAM,
  SOCKADDR_SIZE,
  socket,
} from '../sys/socket.ts';
import type { OuterAddress } from '../wireguard/outer-address.ts';

/** IP and UDP headers. */
const AROUND_V4 = 28;
const AROUND_V6 = 48;

/** Bytes that a datagram to `to` may have in it, or `-errno`. `scratch`: of `Memory`, 64 bytes. */
export function pathPayload(memory: Memory, scratch: number, to: OuterAddress): number {
  const { address, port, scopeId } = to;
  const { isV4, w0, w1, w2, w3 } = address;
  // Only a socket that is connected is told.
  const fd = socket(isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
  if (fd < 0) return fd;
  const length = isV4
    ? putSockaddr4(memory, scratch, w3, port)
    : putSockaddr6(memory, scratch, w0, w1, w2, w3, port, scopeId);
  const value = scratch + SOCKADDR_SIZE;
  const [level, name] = isV4 ? [IPPROTO_IP, IP_MTU] : [IPPROTO_IPV6, IPV6_MTU];
  let result = connect(memory, fd, scratch, length);
  if (result === 0) result = getsockoptInt(memory, fd, level, name, value);
  close(fd);
  return result < 0 ? result : memory.view.getInt32(value, true) - (isV4 ? AROUND_V4 : AROUND_V6);
}
