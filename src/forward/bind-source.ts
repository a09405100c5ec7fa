/**
 * What every host socket that carries guest traffic has in common: the source address that the user chose for it. Each
 * opener calls `bindSource` between socket(2) and connect(2) or the first datagram; those of the gateway mapping, of
 * DNS and of remote forwards too.
 */
import { bind, IP_BIND_ADDRESS_NO_PORT, IPPROTO_IP, setsockoptInt } from '../sys/socket.ts';
import type { FlowContext } from './context.ts';

/**
 * Bind `fd` to the chosen source address of its family, if there is one; 0 or `-errno`. The kernel picks the port: at
 * connect(2), where the tuple is known and ports can be shared, and for an unconnected socket at its first datagram.
 */
export function bindSource(context: FlowContext, fd: number, isV4: boolean): number {
  const source = isV4 ? context.source4 : context.source6;
  if (source === null) return 0;
  const { memory, scratch } = context;
  setsockoptInt(memory, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, scratch.option);
  scratch.putAddress(source, 0, 0);
  return bind(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
}
