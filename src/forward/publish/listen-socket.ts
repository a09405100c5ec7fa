/** What local forwards of both protocols need of the host: a bound socket, internet or unix. Set-up only. */
import type { LocalForwardSpec } from '../../config.ts';
import { formatEndpoint, IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { EADDRNOTAVAIL, EMFILE } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  bind,
  bindToDevice,
  IP_FREEBIND,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  listen,
  SO_REUSEADDR,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockoptInt,
  socket,
} from '../../sys/socket.ts';
import { bindUnix } from '../../sys/unix-path.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { splitZone } from '../target/remote-forwards.ts';
import { listenError } from './forward-error.ts';

/** Clients that wait in the kernel; it cuts this to net.core.somaxconn. */
const BACKLOG = 4096;

/** The place as messages name it. */
export function listenPlace({
  protocol,
  listen: end,
}: Pick<LocalForwardSpec, 'protocol' | 'listen'>): string {
  if (end.kind === 'unix') return `unix:${end.path}`;
  return `${protocol}://${formatEndpoint(end)}`;
}

/** AF_… of the socket that `spec` listens on. */
export function listenFamily({ listen: end }: LocalForwardSpec): number {
  if (end.kind === 'unix') return AF_UNIX;
  return parseIpAddress(splitZone(end.address).address).isV4 ? AF_INET : AF_INET6;
}

/** Bind to the address in `scratch`, which the host does not have now: it counts from the moment it does. 0 or `-errno`. */
function bindAhead({ memory, scratch, log }: FlowContext, fd: number, place: string): number {
  // Of the IP level for IPv6 too.
  setsockoptInt(memory, fd, IPPROTO_IP, IP_FREEBIND, 1, scratch.option);
  const result = bind(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
  if (result === 0)
    log('warn', `${place}: the host does not have that address yet; the forward waits for it`);
  return result;
}

/** A bound socket of `type`, listening where that is a thing to do. Throws `ForwardError`. */
export function openListenSocket(context: FlowContext, spec: LocalForwardSpec, type: number): number {
  const { memory, scratch, descriptors, behavior } = context;
  const { listen: end } = spec;
  const place = listenPlace(spec);
  const use = type === SOCK_STREAM ? DescriptorUse.Tcp : DescriptorUse.Udp;
  if (!descriptors.hasRoom(use)) throw listenError(place, -EMFILE);
  let address = new IpAddress();
  let scopeId = 0;
  if (end.kind === 'ip') {
    const zone = splitZone(end.address);
    address = parseIpAddress(zone.address);
    scopeId = zone.scopeId;
  }
  const fd = socket(listenFamily(spec), type, 0);
  if (fd < 0) throw listenError(place, fd);
  try {
    let result = 0;
    if (end.kind === 'unix') {
      result = bindUnix(memory, scratch.sockaddr, fd, type, end.path);
    } else {
      // A restart on the same port must not wait for the old connections' TIME-WAIT (P-04). Datagrams have none, and
      // there it would let two forwards have the same port.
      if (type === SOCK_STREAM) setsockoptInt(memory, fd, SOL_SOCKET, SO_REUSEADDR, 1, scratch.option);
      if (!address.isV4) {
        setsockoptInt(memory, fd, IPPROTO_IPV6, IPV6_V6ONLY, spec.dualStack ? 0 : 1, scratch.option);
      }
      if (spec.device !== undefined) {
        result = bindToDevice(memory, fd, spec.device, scratch.control);
        if (result < 0) throw listenError(`${place} by ${spec.device}`, result);
      }
      scratch.putAddress(address, end.port, scopeId);
      result = bind(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
      if (result === -EADDRNOTAVAIL && behavior.listenAhead) result = bindAhead(context, fd, place);
    }
    if (result === 0 && type === SOCK_STREAM) result = listen(fd, BACKLOG);
    if (result < 0) throw listenError(place, result);
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}
