/**
 * What every host socket that carries guest traffic has in common: the source address and the interface that the user chose
 * for it. Each opener calls `bindSource` between socket(2) and connect(2) or the first datagram; those of the gateway
 * mapping, of DNS and of remote forwards too.
 *
 * Towards the host's loopback neither counts: no other interface leads there, and a service there (systemd-resolved is one)
 * may answer loopback addresses only. An address that is itself loopback does; and so does any under the rules of
 * slirp4netns and slirpnetstack, except for DNS.
 */
import type { IpAddress } from '../../stack/wire/address.ts';
import { bind, bindToDevice, IP_BIND_ADDRESS_NO_PORT, IPPROTO_IP, setsockoptInt } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';

/** What sockets to `towards` are bound by: the guest's wish (`false`), or ours, who ask a resolver. */
export function bindSource(context: FlowContext, fd: number, towards: IpAddress, isOurs = false): number {
  const { memory, scratch, behavior } = context;
  const { isV4, isLoopback } = towards;
  const outboundInterface = isV4 ? context.outboundInterface4 : context.outboundInterface6;
  if (outboundInterface !== '' && !isLoopback) {
    const result = bindToDevice(memory, fd, outboundInterface, scratch.control);
    if (result < 0) return result;
  }
  const source = isV4 ? context.source4 : context.source6;
  if (source === null) return 0;
  if (isLoopback && !source.isLoopback && (isOurs || !behavior.sourceTowardsLoopback)) return 0;
  // The kernel picks the port at connect(2), where the tuple is known and ports can be shared, and for an unconnected socket
  // at its first datagram.
  setsockoptInt(memory, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, scratch.option);
  scratch.putAddress(source, 0, 0);
  return bind(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
}

/** Whether a socket to `towards` is bound otherwise than one to the outside: then it cannot serve both. */
export function isBoundApart(context: FlowContext, towards: IpAddress): boolean {
  if (!towards.isLoopback) return false;
  const source = towards.isV4 ? context.source4 : context.source6;
  const outboundInterface = towards.isV4 ? context.outboundInterface4 : context.outboundInterface6;
  return outboundInterface !== '' || (source !== null && !context.behavior.sourceTowardsLoopback);
}
