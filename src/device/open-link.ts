/** From what the control plane says about a device to a link that carries frames. */
import { fstatSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, DescriptorDevice, DeviceSpec } from '../config.ts';
import { DeviceError } from '../device-error.ts';
import { EINVAL } from '../sys/errno.ts';
import { close, setNonBlocking } from '../sys/io.ts';
import {
  AF_UNIX,
  getsockoptInt,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_TYPE,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOL_SOCKET,
} from '../sys/socket.ts';
import { BessListener } from './bess-listener.ts';
import type { DeviceLink, LinkServices } from './device-link.ts';
import type { OpenInterface } from './device-opening.ts';
import type { DeviceOpenings } from './device-openings.ts';
import { attachedTap } from './open-interface.ts';
import { SocketLink } from './socket-link.ts';
import { TapLink } from './tap-link.ts';
import type { WireGuardInterfaces } from './wireguard-interfaces.ts';

/** MTU of a descriptor for which none was given. */
const DEFAULT_MTU = 1500;
/**
 * Packets that a descriptor's other end may have on their way to us: the kernel's own queue of a TAP that nobody changed,
 * or what fits into a unix socket's default buffer.
 */
const TAP_QUEUE = 500;
const SOCKET_QUEUE = 90;
/** Character device 10:200 as stat(2) packs it. */
const TUN_DEVICE = (10 << 8) | 200;

/** What the link turned out to be. */
export interface LinkInfo {
  /** Name of the interface; empty for a descriptor that has none. */
  name: string;
  medium: 'ethernet' | 'ip';
  /** Bytes of IP packet. */
  mtu: number;
  /** Packets the device queues towards us before it drops. */
  txQueueLen: number;
}

export interface OpenLink {
  link: DeviceLink;
  info: LinkInfo;
  /** What could not be had, one sentence each. */
  notes: string[];
}

/** Who wants a link. */
export interface LinkOrder {
  /** Its other end is waited for, at `path`. */
  onWaiting(path: string): void;
  /** It is there, and whoever ordered it closes it from now on. */
  onOpen(opened: OpenLink): void;
  onFailure(error: DeviceError): void;
}

/** Those who have what several links of a data plane are opened with. */
export interface LinkOpeners {
  readonly interfaces: DeviceOpenings;
  /** Null where none was expected. */
  readonly wireguard: WireGuardInterfaces | null;
}

/** What waits for a link to be there. */
export interface PendingLink {
  /** Wait no longer. May be called at any time. */
  close(): void;
}

/** Open what `spec` says. What comes of it is told to `order`, now, or later: then there is something that waits. */
export function openLink(
  spec: DeviceSpec,
  plan: AddressPlan,
  services: LinkServices,
  openers: LinkOpeners,
  order: LinkOrder,
): PendingLink | null {
  if (spec.kind === 'interface') {
    return openers.interfaces.open(spec, plan, (opened) =>
      settle(order, () => {
        if (opened instanceof Error) throw opened;
        return interfaceLink(opened, services);
      }),
    );
  }
  if (spec.kind === 'wireguard') {
    settle(order, () => {
      if (openers.wireguard === null) throw new DeviceError('link', EINVAL, 'WireGuard was not loaded');
      return openers.wireguard.open(spec, services);
    });
    return null;
  }
  if (spec.kind === 'descriptor') {
    settle(order, () => openDescriptor(spec, services));
    return null;
  }
  const { path, mtu } = spec;
  try {
    const listener = new BessListener(services, path, (fd) =>
      settle(order, () => openDescriptor({ fd, mtu }, services)),
    );
    order.onWaiting(path);
    return listener;
  } catch (error) {
    order.onFailure(asDeviceError(error));
    return null;
  }
}

function settle(order: LinkOrder, open: () => OpenLink): void {
  let opened: OpenLink;
  try {
    opened = open();
  } catch (error) {
    order.onFailure(asDeviceError(error));
    return;
  }
  order.onOpen(opened);
}

function asDeviceError(error: unknown): DeviceError {
  if (error instanceof DeviceError) return error;
  return new DeviceError('link', 0, error instanceof Error ? error.message : String(error));
}

/** An interface that was opened for us. */
function interfaceLink(opened: OpenInterface, services: LinkServices): OpenLink {
  const { name, index, mtu, txQueueLen, notes, tun, netlink, ...properties } = opened;
  if (index === 0) close(netlink);
  const link = new TapLink(tun, { mtu, ...properties }, services, index === 0 ? -1 : netlink, index);
  return { link, info: { name, medium: link.medium, mtu, txQueueLen }, notes };
}

/** Look what the descriptor is, and take it. @throws DeviceError */
function openDescriptor(
  { fd, mtu: asked }: Omit<DescriptorDevice, 'kind'>,
  services: LinkServices,
): OpenLink {
  const mtu = asked === 0 ? DEFAULT_MTU : asked;
  const result = setNonBlocking(fd);
  if (result < 0) throw new DeviceError('link', -result, `descriptor ${fd}: ${getSystemErrorName(result)}`);
  const { memory, frames } = services;
  const option = (name: number): number => {
    const failed = getsockoptInt(memory, fd, SOL_SOCKET, name, frames.scratch);
    return failed < 0 ? failed : memory.view.getInt32(frames.scratch, true);
  };
  const found = fstatSync(fd);
  if (found.isSocket()) {
    const type = option(SO_TYPE);
    const usable = (type === SOCK_DGRAM || type === SOCK_SEQPACKET) && option(SO_DOMAIN) === AF_UNIX;
    if (!usable || option(SO_ACCEPTCONN) !== 0) throw notALink(fd, 'is a socket of another kind');
    const link = new SocketLink(fd, mtu, type === SOCK_SEQPACKET, services);
    return { link, info: { name: '', medium: link.medium, mtu, txQueueLen: SOCKET_QUEUE }, notes: [] };
  }
  if (!found.isCharacterDevice() || found.rdev !== TUN_DEVICE) throw notALink(fd, 'is something else');
  const { notes, name, ...properties } = attachedTap(fd, mtu);
  const link = new TapLink(fd, properties, services);
  return { link, info: { name, medium: link.medium, mtu: link.mtu, txQueueLen: TAP_QUEUE }, notes };
}

function notALink(fd: number, what: string): DeviceError {
  const accepted = 'an attached TAP or TUN, or a unix datagram or seqpacket socket';
  return new DeviceError('link', EINVAL, `descriptor ${fd} ${what}; accepted: ${accepted}`);
}
