/** From what the control plane says about a device to a link that carries frames. */
import { fstatSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, InterfaceDevice, SentDevice } from '../config.ts';
import type { DeviceLink } from '../device/device-link.ts';
import { attachedTap, type InterfaceDescriptors, openInterface } from '../device/open-interface.ts';
import { SocketLink } from '../device/socket-link.ts';
import { TapLink } from '../device/tap-link.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { EINVAL } from '../sys/errno.ts';
import { close, read, setNonBlocking } from '../sys/io.ts';
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
/** Bytes; a line with a path. */
const OPENER_ANSWER_MAX = 8192;
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

function take(holder: number, fd: number): number {
  const taken = takeDescriptor(holder, fd);
  if (taken >= 0) return taken;
  throw new DeviceError(
    'tun',
    -taken,
    `the helper's descriptors cannot be taken over: ${getSystemErrorName(taken)}`,
  );
}

/** What is needed of a namespace, ours now: the TUN and the netlink socket for as long as the guest lives. */
function takeOver({ descriptors }: InterfaceDevice): InterfaceDescriptors {
  const { holder } = descriptors;
  const taken: number[] = [];
  try {
    for (const fd of [descriptors.netlink, descriptors.tun, descriptors.ipv6Settings])
      taken.push(fd < 0 ? -1 : take(holder, fd));
  } catch (error) {
    for (const fd of taken) close(fd);
    throw error;
  }
  const [netlink = -1, tun = -1, ipv6Settings = -1] = taken;
  return { tun, netlink, ipv6Settings, opener: -1 };
}

/** The same, from somebody who has the rights for it. The socket is closed when it does not come. */
function receive({ socket }: SentDevice, slab: Slab, memory: Memory): InterfaceDescriptors {
  const answer = slab.region(OPENER_ANSWER_MAX);
  const length = read(memory, socket, answer, OPENER_ANSWER_MAX);
  const text = Buffer.from(memory.view.buffer, answer, Math.max(0, length)).toString();
  const scratch = slab.region(PASS_SCRATCH_BYTES);
  const tun = text === 'open' ? receiveDescriptor(memory, scratch, socket) : -1;
  const netlink = tun < 0 ? tun : receiveDescriptor(memory, scratch, socket);
  if (netlink >= 0) return { tun, netlink, ipv6Settings: -1, opener: socket };
  if (tun >= 0) close(tun);
  close(socket);
  if (text === 'open')
    throw new DeviceError('tun', -netlink, `the device did not come: ${getSystemErrorName(netlink)}`);
  const [, step = 'namespace', errno = '0', what = 'the process that opens the device has ended'] =
    /^(\w+) (\d+) (.*)$/s.exec(text) ?? [];
  const message = what.replace(/%m$/, () => getSystemErrorName(-Number(errno)));
  throw new DeviceError(step as DeviceStep, Number(errno), message);
}

/** An interface of a namespace. @throws DeviceError */
export function openDevice(
  spec: InterfaceDevice | SentDevice,
  plan: AddressPlan,
  slab: Slab,
  memory: Memory,
): OpenDevice {
  const descriptors = spec.kind === 'sent' ? receive(spec, slab, memory) : takeOver(spec);
  const { tun, netlink, ipv6Settings, opener } = descriptors;
  try {
    setNonBlocking(tun);
    const { name, index, medium, mtu, txQueueLen, notes, ...properties } = openInterface(
      spec,
      plan,
      descriptors,
    );
    const link = new TapLink(tun, { medium, mtu, ...properties }, slab, memory);
    if (index === 0) close(netlink);
    const news = index === 0 ? null : { netlink, index, link };
    return { link, info: { name, medium, mtu, txQueueLen }, notes, news };
  } catch (error) {
    close(tun);
    close(netlink);
    throw error;
  } finally {
    if (ipv6Settings >= 0) close(ipv6Settings);
    if (opener >= 0) close(opener);
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
