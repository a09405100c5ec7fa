/** From what the control plane says about a device to a link that carries frames. */
import { fstatSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, InterfaceDevice, SentDevice } from '../config.ts';
import type { DeviceLink } from '../device/device-link.ts';
import { attachedTap, type OpenedInterface, openInterface } from '../device/open-interface.ts';
import { SocketLink } from '../device/socket-link.ts';
import { TapLink } from '../device/tap-link.ts';
import { DeviceError } from '../device-error.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { EINVAL } from '../sys/errno.ts';
import { close, setNonBlocking } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';
import { PASS_SCRATCH_BYTES, receiveDescriptor } from '../sys/pass-descriptor.ts';
import { takeDescriptor } from '../sys/pidfd.ts';
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
import type { LinkInfo } from './messages.ts';

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

export interface OpenDevice {
  /** The owner closes its descriptor. */
  link: DeviceLink;
  info: LinkInfo;
  /** What could not be had, one sentence each. */
  notes: string[];
  /** Where changes of the interface are told; null where there is none, or its MTU does not matter. */
  news: InterfaceNews | null;
}

export interface InterfaceNews {
  /** A NETLINK_ROUTE socket of the interface's namespace; the owner of the link closes it. */
  netlink: number;
  index: number;
  link: TapLink;
}

/** The descriptors are the caller's. */
export interface AttachedInterface {
  tun: number;
  /** The namespace's NETLINK_ROUTE socket, or -1 when the interface is not to be followed. */
  netlink: number;
  opened: OpenedInterface;
}

function take(holder: number, fd: number): number {
  const taken = takeDescriptor(holder, fd);
  if (taken >= 0) return taken;
  throw new DeviceError(
    'tun',
    -taken,
    `the helper's descriptors cannot be taken over: ${getSystemErrorName(taken)}`,
  );
}

/** Attach to an interface and configure it, with what a helper has opened in its namespace. @throws DeviceError */
export function attachInterface(spec: InterfaceDevice, plan: AddressPlan): AttachedInterface {
  const { holder } = spec.descriptors;
  const taken: number[] = [];
  const takeOver = (fd: number): number => {
    const own = take(holder, fd);
    taken.push(own);
    return own;
  };
  let tun = -1;
  let netlink = -1;
  try {
    netlink = take(holder, spec.descriptors.netlink);
    const ipv6Settings = spec.descriptors.ipv6Settings < 0 ? -1 : takeOver(spec.descriptors.ipv6Settings);
    tun = take(holder, spec.descriptors.tun);
    setNonBlocking(tun);
    const opened = openInterface(spec, plan, { tun, netlink, ipv6Settings });
    if (opened.index === 0) {
      close(netlink);
      netlink = -1;
    }
    return { tun, netlink, opened };
  } catch (error) {
    if (tun >= 0) close(tun);
    if (netlink >= 0) close(netlink);
    throw error;
  } finally {
    for (const fd of taken) close(fd);
  }
}

function receive(spec: SentDevice, slab: Slab, memory: Memory): AttachedInterface {
  const scratch = slab.region(PASS_SCRATCH_BYTES);
  const tun = receiveDescriptor(memory, scratch, spec.socket);
  const netlink = tun < 0 || spec.index === 0 ? -1 : receiveDescriptor(memory, scratch, spec.socket);
  close(spec.socket);
  const result = tun < 0 || spec.index === 0 ? tun : netlink;
  if (result >= 0) return { tun, netlink, opened: { ...spec, notes: [] } };
  if (tun >= 0) close(tun);
  throw new DeviceError('tun', -result, `the device did not come: ${getSystemErrorName(result)}`);
}

/** An interface of a namespace. @throws DeviceError */
export function openDevice(
  spec: InterfaceDevice | SentDevice,
  plan: AddressPlan,
  slab: Slab,
  memory: Memory,
): OpenDevice {
  const attached = spec.kind === 'sent' ? receive(spec, slab, memory) : attachInterface(spec, plan);
  const { tun, netlink, opened } = attached;
  const { name, index, medium, mtu, txQueueLen, notes } = opened;
  const link = new TapLink(tun, opened, slab, memory);
  const news = netlink < 0 ? null : { netlink, index, link };
  return { link, info: { name, medium, mtu, txQueueLen }, notes, news };
}

/** Look what the descriptor is, and take it. It is closed when that fails. @throws DeviceError */
export function openDescriptor(fd: number, askedMtu: number, slab: Slab, memory: Memory): OpenDevice {
  const mtu = askedMtu === 0 ? DEFAULT_MTU : askedMtu;
  const result = setNonBlocking(fd);
  if (result < 0) throw new DeviceError('link', -result, `descriptor ${fd}: ${getSystemErrorName(result)}`);
  const scratch = slab.region(16);
  const option = (name: number): number => {
    const failed = getsockoptInt(memory, fd, SOL_SOCKET, name, scratch);
    return failed < 0 ? failed : memory.view.getInt32(scratch, true);
  };
  const found = fstatSync(fd);
  if (found.isSocket()) {
    const type = option(SO_TYPE);
    const usable = (type === SOCK_DGRAM || type === SOCK_SEQPACKET) && option(SO_DOMAIN) === AF_UNIX;
    if (!usable || option(SO_ACCEPTCONN) !== 0) throw notALink(fd, 'is a socket of another kind');
    const link = new SocketLink(fd, mtu, type === SOCK_SEQPACKET, slab, memory);
    return {
      link,
      info: { name: '', medium: 'ethernet', mtu, txQueueLen: SOCKET_QUEUE },
      notes: [],
      news: null,
    };
  }
  if (!found.isCharacterDevice() || found.rdev !== TUN_DEVICE) throw notALink(fd, 'is something else');
  const { notes, name, ...device } = attachedTap(fd, mtu);
  const { medium } = device;
  return {
    link: new TapLink(fd, device, slab, memory),
    info: { name, medium, mtu, txQueueLen: TAP_QUEUE },
    notes,
    news: null,
  };
}

function notALink(fd: number, what: string): DeviceError {
  const accepted = 'an attached TAP or TUN, or a unix datagram or seqpacket socket';
  return new DeviceError('link', EINVAL, `descriptor ${fd} ${what}; accepted: ${accepted}`);
}
