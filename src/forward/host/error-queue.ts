/**
 * Errors that the network sent about our datagrams, read from a socket's error queue (ip(7) IP_RECVERR) so that they
 * can be passed to the guest about *its* datagram: traceroute, path MTU discovery and "port unreachable" depend on it.
 */
import { IpAddress } from '../../stack/wire/address.ts';
import {
  ICMP4_ADMIN_PROHIBITED,
  ICMP4_FRAGMENTATION_NEEDED,
  ICMP4_HOST_UNREACHABLE,
  ICMP4_NET_UNREACHABLE,
  ICMP4_UNREACHABLE,
  ICMP6_ADDRESS_UNREACHABLE,
  ICMP6_ADMIN_PROHIBITED,
  ICMP6_NO_ROUTE,
  ICMP6_PACKET_TOO_BIG,
  ICMP6_UNREACHABLE,
} from '../../stack/wire/icmp.ts';
import { CMSGHDR_SIZE, findControlMessage } from '../../sys/control-message.ts';
import { EACCES, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, EPERM } from '../../sys/errno.ts';
import {
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  MSG_ERRQUEUE,
  recvmsg,
} from '../../sys/socket.ts';
import { type HostScratch, readSockaddr } from './scratch.ts';

/** struct sock_extended_err: errno (4), origin, type, code, pad (1 each), info (4), data (4). */
const EXTENDED_ERR_SIZE = 16;
const SO_EE_ORIGIN_LOCAL = 1;
const SO_EE_ORIGIN_ICMP = 2;
const SO_EE_ORIGIN_ICMP6 = 3;

export class QueuedError {
  /** Who reported it; unspecified when our own kernel did. */
  readonly offender: IpAddress = new IpAddress();
  /** Where the datagram was going. */
  readonly destination: IpAddress = new IpAddress();
  port = 0;
  /** Positive errno: what the next call of a connected socket would have failed with. */
  errno = 0;
  /** ICMP (or ICMPv6) type and code, and the word behind the checksum (the MTU, where there is one). */
  type = 0;
  code = 0;
  rest = 0;
  /** Bytes of the datagram that the network quoted: the payload as the socket sent it, at `scratch.message`. */
  quoted = 0;

  /** What our own kernel said of a datagram, with the MTU where there is one; false: it means nothing to the guest. */
  setLocal(errno: number, mtu: number, isV4: boolean): boolean {
    this.errno = errno;
    this.offender.set(0, 0, 0, 0);
    this.rest = 0;
    switch (errno) {
      case EMSGSIZE:
        this.type = isV4 ? ICMP4_UNREACHABLE : ICMP6_PACKET_TOO_BIG;
        this.code = isV4 ? ICMP4_FRAGMENTATION_NEEDED : 0;
        this.rest = isV4 ? mtu & 0xffff : mtu;
        return true;
      case EHOSTUNREACH:
        this.type = isV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE;
        this.code = isV4 ? ICMP4_HOST_UNREACHABLE : ICMP6_ADDRESS_UNREACHABLE;
        return true;
      case ENETUNREACH:
        this.type = isV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE;
        this.code = isV4 ? ICMP4_NET_UNREACHABLE : ICMP6_NO_ROUTE;
        return true;
      case EACCES:
      case EPERM:
        this.type = isV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE;
        this.code = isV4 ? ICMP4_ADMIN_PROHIBITED : ICMP6_ADMIN_PROHIBITED;
        return true;
      default:
        return false;
    }
  }
}

/**
 * Read the next error of `fd`. 1 = `out` is filled; 0 = there was one that means nothing to the guest; negative: none
 * left, or the call failed.
 */
export function readError(fd: number, scratch: HostScratch, out: QueuedError): number {
  const { memory } = scratch;
  scratch.putReceive(scratch.message, scratch.messageSize);
  const n = recvmsg(memory, fd, scratch.msghdr, MSG_ERRQUEUE);
  if (n < 0) return n;
  out.quoted = n;
  out.port = readSockaddr(memory, scratch.sockaddr, out.destination);
  if (out.port < 0) return 0;
  const length = scratch.receivedControl;
  let at = findControlMessage(memory, scratch.control, length, IPPROTO_IP, IP_RECVERR, EXTENDED_ERR_SIZE);
  if (at < 0)
    at = findControlMessage(memory, scratch.control, length, IPPROTO_IPV6, IPV6_RECVERR, EXTENDED_ERR_SIZE);
  return at < 0 ? 0 : translate(scratch, at, out);
}

function translate(scratch: HostScratch, at: number, out: QueuedError): number {
  const view = scratch.memory.view;
  const isV4 = out.destination.isV4;
  const error = view.getUint32(at, true);
  out.errno = error;
  const origin = view.getUint8(at + 4);
  const info = view.getUint32(at + 8, true);
  out.offender.set(0, 0, 0, 0);
  out.rest = 0;
  if (origin === SO_EE_ORIGIN_ICMP || origin === SO_EE_ORIGIN_ICMP6) {
    out.type = view.getUint8(at + 5);
    out.code = view.getUint8(at + 6);
    const tooBig = isV4
      ? out.type === ICMP4_UNREACHABLE && out.code === ICMP4_FRAGMENTATION_NEEDED
      : out.type === ICMP6_PACKET_TOO_BIG;
    if (tooBig) out.rest = isV4 ? info & 0xffff : info;
    // The whole message's length stands in front of its data.
    if (view.getUint32(at - CMSGHDR_SIZE, true) >= CMSGHDR_SIZE + EXTENDED_ERR_SIZE + 16)
      readSockaddr(scratch.memory, at + EXTENDED_ERR_SIZE, out.offender);
    return 1;
  }
  return origin === SO_EE_ORIGIN_LOCAL && out.setLocal(error, info, isV4) ? 1 : 0;
}
