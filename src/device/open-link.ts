/** From what the control plane says about a device to a link that carries frames. */
import { fstatSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, DescriptorDevice, DeviceSpec, InterfaceDevice } from '../config.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import { EINVAL } from '../sys/errno.ts';
import { close, read, setNonBlocking } from '../sys/io.ts';
import { receiveDescriptor } from '../sys/pass-descriptor.ts';
import {
  AF_UNIX,
  getsockoptInt,
  SHUT_WR,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_TYPE,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOL_SOCKET,
  shutdown,
} from '../sys/socket.ts';
import { BessListener } from './bess-listener.ts';
import type { DeviceLink, LinkServices } from './device-link.ts';
import { attachedTap, openInterface } from './open-interface.ts';
import { SocketLink } from './socket-link.ts';
import { TapLink } from './tap-link.ts';

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
  order: LinkOrder,
): PendingLink | null {
  if (spec.kind !== 'bess') {
    settle(order, () =>
      spec.kind === 'interface' ? openNamed(spec, plan, services) : openDescriptor(spec, services),
    );
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

/** What is needed of a namespace, from somebody inside. @throws DeviceError */
function receive(socket: number, { memory, frames }: LinkServices): { tun: number; netlink: number } {
  const answer = frames.scratch;
  const length = read(memory, socket, answer, frames.scratchSize);
  const text = Buffer.from(memory.view.buffer, answer, Math.max(0, length)).toString();
  const tun = text === 'open' ? receiveDescriptor(memory, answer, socket) : -1;
  const netlink = tun < 0 ? tun : receiveDescriptor(memory, answer, socket);
  if (netlink >= 0) return { tun, netlink };
  if (tun >= 0) close(tun);
  if (text === 'open')
    throw new DeviceError('tun', -netlink, `the device did not come: ${getSystemErrorName(netlink)}`);
  const [, step = 'namespace', errno = '0', what = 'the process that opens the device has ended'] =
    /^(\w+) (\d+) (.*)$/s.exec(text) ?? [];
  const message = what.replace(/%m$/, () => getSystemErrorName(-Number(errno)));
  throw new DeviceError(step as DeviceStep, Number(errno), message);
}

/** Returns when the other side has let go as well: an interface lives as long as the last descriptor attached to it. */
function release(socket: number, { memory, frames }: LinkServices): void {
  shutdown(socket, SHUT_WR);
  while (read(memory, socket, frames.scratch, frames.scratchSize) > 0);
  close(socket);
}

/** An interface of a namespace. @throws DeviceError */
function openNamed(spec: InterfaceDevice, plan: AddressPlan, services: LinkServices): OpenLink {
  const { socket } = spec;
  let tun = -1;
  let netlink = -1;
  try {
    ({ tun, netlink } = receive(socket, services));
    setNonBlocking(tun);
    const { name, index, mtu, txQueueLen, notes, ...properties } = openInterface(spec, plan, tun, socket);
    if (index === 0) {
      close(netlink);
      netlink = -1;
    }
    const link = new TapLink(tun, { mtu, ...properties }, services, netlink, index);
    return { link, info: { name, medium: link.medium, mtu, txQueueLen }, notes };
  } catch (error) {
    if (tun >= 0) close(tun);
    if (netlink >= 0) close(netlink);
    throw error;
  } finally {
    release(socket, services);
  }
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
