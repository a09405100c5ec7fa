/** From what the control plane says about a device to a link that carries frames. */
import { fstatSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, InterfaceDevice } from '../config.ts';
import type { DeviceLink } from '../device/device-link.ts';
import { attachedTap, openInterface } from '../device/open-interface.ts';
import { SocketLink } from '../device/socket-link.ts';
import { TapLink } from '../device/tap-link.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EINVAL } from '../sys/errno.ts';
import { close, read, setNonBlocking } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';
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
import type { LinkInfo } from './messages.ts';

/** MTU of a descriptor for which none was given. */
const DEFAULT_MTU = 1500;
/**
 * Packets that a descriptor's other end may have on their way to us: the kernel's own queue of a TAP that nobody changed,
 * or what fits into a unix socket's default buffer.
 */
const TAP_QUEUE = 500;
const SOCKET_QUEUE = 90;
/** Bytes; a line with a path. */
const OPENER_ANSWER_MAX = 8192;
/** Character device 10:200 as stat(2) packs it. */
const TUN_DEVICE = (10 << 8) | 200;

export interface OpenDevice {
  link: DeviceLink;
  info: LinkInfo;
  /** What could not be had, one sentence each. */
  notes: string[];
  /** Where changes of the interface are told; null where there is none, or its MTU does not matter. */
  news: InterfaceNews | null;
}

export interface InterfaceNews {
  /** A NETLINK_ROUTE socket of the interface's namespace; whoever has the link closes it. */
  netlink: Descriptor;
  index: number;
  link: TapLink;
}

/** What is needed of a namespace, from somebody inside. @throws DeviceError */
function receive(socket: number, answer: number, memory: Memory): { tun: number; netlink: number } {
  const length = read(memory, socket, answer, OPENER_ANSWER_MAX);
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
function release(socket: number, scratch: number, memory: Memory): void {
  shutdown(socket, SHUT_WR);
  while (read(memory, socket, scratch, OPENER_ANSWER_MAX) > 0);
  close(socket);
}

/** An interface of a namespace. @throws DeviceError */
export function openDevice(spec: InterfaceDevice, plan: AddressPlan, slab: Slab, memory: Memory): OpenDevice {
  const { socket } = spec;
  const scratch = slab.region(OPENER_ANSWER_MAX);
  let tun = -1;
  let netlink = -1;
  try {
    ({ tun, netlink } = receive(socket, scratch, memory));
    setNonBlocking(tun);
    const { name, index, medium, mtu, txQueueLen, notes, ...properties } = openInterface(
      spec,
      plan,
      tun,
      socket,
    );
    const link = new TapLink(tun, { medium, mtu, ...properties }, slab, memory);
    if (index === 0) close(netlink);
    const news = index === 0 ? null : { netlink: new Descriptor(netlink), index, link };
    return { link, info: { name, medium, mtu, txQueueLen }, notes, news };
  } catch (error) {
    if (tun >= 0) close(tun);
    if (netlink >= 0) close(netlink);
    throw error;
  } finally {
    release(socket, scratch, memory);
  }
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
