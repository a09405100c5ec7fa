/** From what the control plane says about a device to a link that carries frames. */
import { getSystemErrorName } from 'node:util';
import type { AddressPlan, DeviceSpec, InterfaceDevice, SentDevice } from '../config.ts';
import type { DeviceLink } from '../device/device-link.ts';
import { type OpenedInterface, openInterface } from '../device/open-interface.ts';
import { TapLink } from '../device/tap-link.ts';
import { DeviceError } from '../device-error.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { close, setNonBlocking } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';
import { PASS_SCRATCH_BYTES, receiveDescriptor } from '../sys/pass-descriptor.ts';
import { takeDescriptor } from '../sys/pidfd.ts';
import type { LinkInfo } from './messages.ts';

export interface OpenDevice {
  /** The owner closes its descriptor. */
  link: DeviceLink;
  info: LinkInfo;
  /** What could not be had, one sentence each. */
  notes: string[];
}

/** `tun` is the caller's. */
export interface AttachedInterface {
  tun: number;
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
  try {
    const netlink = takeOver(spec.descriptors.netlink);
    const ipv6Settings = spec.descriptors.ipv6Settings < 0 ? -1 : takeOver(spec.descriptors.ipv6Settings);
    tun = take(holder, spec.descriptors.tun);
    setNonBlocking(tun);
    return { tun, opened: openInterface(spec, plan, { tun, netlink, ipv6Settings }) };
  } catch (error) {
    if (tun >= 0) close(tun);
    throw error;
  } finally {
    for (const fd of taken) close(fd);
  }
}

function receive(spec: SentDevice, slab: Slab, memory: Memory): number {
  const tun = receiveDescriptor(memory, slab.region(PASS_SCRATCH_BYTES), spec.socket);
  close(spec.socket);
  if (tun < 0) throw new DeviceError('tun', -tun, `the device did not come: ${getSystemErrorName(tun)}`);
  return tun;
}

/** @throws DeviceError */
export function openDevice(spec: DeviceSpec, plan: AddressPlan, slab: Slab, memory: Memory): OpenDevice {
  const { tun, opened } =
    spec.kind === 'sent'
      ? { tun: receive(spec, slab, memory), opened: { ...spec, notes: [] } }
      : attachInterface(spec, plan);
  const { name, medium, mtu, txQueueLen, notes } = opened;
  return { link: new TapLink(tun, opened, slab, memory), info: { name, medium, mtu, txQueueLen }, notes };
}
