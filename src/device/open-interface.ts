/**
 * Making an interface of a network namespace ours: attach to it (or create it), say what we can take over from the kernel,
 * and where asked configure it. What needs rights over the namespace is asked of somebody who has them (sys/netns/exchange).
 *
 * Read: Linux Documentation/networking/tuntap.rst, rtnetlink(7), ip-sysctl.rst (accept_ra, autoconf).
 * Whatever is only an improvement (queue length, offloads, IPv6) fails into `notes`; the rest is a `DeviceError`.
 */
import { getSystemErrorName } from 'node:util';
import type { AddressPlan } from '../config.ts';
import { DeviceError } from '../device-error.ts';
import type { InterfaceSetup } from '../device-spec.ts';
import { EBUSY, EINVAL, ENODEV, EPERM } from '../sys/errno.ts';
import { type Exchange, orderAttach } from '../sys/netns/exchange.ts';
import { IFF_UP, type InterfaceInfo, Rtnetlink } from '../sys/netns/rtnetlink.ts';
import {
  attachRequest,
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_TUN,
  IFF_VNET_HDR,
  offloadChoices,
  TUN_F_CSUM,
  TUN_F_TSO4,
  TUN_F_USO4,
  TunDevice,
} from '../sys/netns/tun.ts';
import { check, InterfaceConfiguration, type InterfaceRequest } from './interface-configuration.ts';
import type { TapProperties } from './tap-link.ts';

/** A burst of this many packets is not lost while the data plane does something else. */
const TX_QUEUE_LENGTH = 10000;
/** MTU of interfaces that we create: the largest a TAP takes, rounded to a multiple of 16 (bytes of IP packet). */
const CREATED_MTU = 65520;
const ARPHRD_NONE = 0xfffe;

export interface OpenedInterface extends TapProperties {
  name: string;
  /** Number of the interface in its namespace; 0: what MTU it has does not matter. */
  index: number;
  txQueueLen: number;
  /** What could not be had, one sentence each. */
  notes: string[];
}

/** Attach with the richest flags that the device takes; returns the flags in force. */
function* attach(
  tun: TunDevice,
  name: string,
  found: InterfaceInfo | null,
  { medium, offloads }: InterfaceSetup,
  notes: string[],
): Exchange<number> {
  const before = tun.flags();
  if (before >= 0) return before;
  const queues = found?.tunMultiQueue === true ? IFF_MULTI_QUEUE : 0;
  const types =
    found === null
      ? [medium === 'ip' ? IFF_TUN : IFF_TAP]
      : found.tunType !== 0
        ? [found.tunType]
        : found.hardwareType === ARPHRD_NONE
          ? [IFF_TUN]
          : [IFF_TAP, IFF_TUN];
  let result = 0;
  for (const type of types) {
    for (const header of offloads ? [IFF_VNET_HDR, 0] : [0]) {
      result = yield* orderAttach(attachRequest(name, type | header | IFF_NO_PI | queues));
      if (result === 0) {
        if (header === 0 && offloads) notes.push('the device does not take virtio-net headers: no offloads');
        const flags = tun.flags();
        check(flags, 'attach', 'TUNGETIFF');
        return flags;
      }
      if (result !== -EINVAL) break;
    }
  }
  const verb = found === null ? 'create' : 'open';
  const message =
    result === -EBUSY
      ? `interface ${name} is in use by another process`
      : result === -EPERM
        ? `no permission to ${verb} interface ${name}`
        : `cannot ${verb} interface ${name}: ${getSystemErrorName(result)}`;
  throw new DeviceError('attach', -result, message);
}

/** The offloads in force. */
function setOffloads(tun: TunDevice, flags: number, segmentation: boolean, notes: string[]): number {
  if ((flags & IFF_VNET_HDR) === 0) return 0;
  check(tun.setVnetHeaderSize(), 'attach', 'TUNSETVNETHDRSZ');
  let refused = 0;
  for (const bits of segmentation ? offloadChoices : [TUN_F_CSUM]) {
    const result = tun.setOffload(bits);
    if (result >= 0) {
      if (refused !== 0)
        notes.push(`offloads 0x${refused.toString(16)} are not supported here, using 0x${bits.toString(16)}`);
      return bits;
    }
    refused |= refused === 0 ? bits : 0;
  }
  // A former owner's offloads must not stay in force.
  check(tun.setOffload(0), 'attach', 'TUNSETOFFLOAD');
  notes.push('no offloads are supported here');
  return 0;
}

function* lookUp(netlink: Rtnetlink, name: string): Exchange<InterfaceInfo | null> {
  const found = yield* netlink.linkByName(name);
  if (typeof found === 'number') {
    throw new DeviceError('lookup', -found, `cannot look up interface ${name}: ${getSystemErrorName(found)}`);
  }
  return found;
}

function mustExist(found: InterfaceInfo | null, name: string, message: string): InterfaceInfo {
  if (found === null) throw new DeviceError('lookup', ENODEV, `interface ${name} ${message}`);
  return found;
}

/** A descriptor that somebody attached to a TAP or TUN: how it can be used as it is. @throws DeviceError */
export function attachedTap(fd: number, mtu: number): TapProperties & { name: string; notes: string[] } {
  const notes: string[] = [];
  const tun = new TunDevice(fd);
  const flags = tun.flags();
  if (flags < 0) {
    throw new DeviceError('descriptor', -flags, `descriptor ${fd} is attached to no interface`);
  }
  if ((flags & IFF_NO_PI) === 0) {
    throw new DeviceError(
      'descriptor',
      EINVAL,
      `descriptor ${fd}: a device without IFF_NO_PI cannot be used`,
    );
  }
  return { name: tun.name, mtu, notes, ...properties(flags, setOffloads(tun, flags, true, notes)) };
}

function properties(flags: number, offloads: number): Omit<TapProperties, 'mtu'> {
  return {
    medium: (flags & IFF_TUN) !== 0 ? 'ip' : 'ethernet',
    vnetHeader: (flags & IFF_VNET_HDR) !== 0,
    checksumOffload: (offloads & TUN_F_CSUM) !== 0,
    tso: (offloads & TUN_F_TSO4) !== 0,
    uso: (offloads & TUN_F_USO4) !== 0,
  };
}

/**
 * What is asked goes to somebody with rights over the namespace, who has opened `tunFd` there, /dev/net/tun, which stays
 * the caller's. @throws DeviceError
 */
export function* openInterface(
  request: InterfaceRequest,
  plan: AddressPlan,
  tunFd: number,
): Exchange<OpenedInterface> {
  const notes: string[] = [];
  const { name, mtu, configure, setup } = request;
  const netlink = new Rtnetlink();
  const before = yield* lookUp(netlink, name);
  if (!setup.create) mustExist(before, name, 'does not exist');
  if (before !== null && before.kind !== 'tun') {
    // Loopback and hardware have no kind.
    const kind = before.kind === '' ? '' : ` (it is a ${before.kind})`;
    throw new DeviceError('attach', EINVAL, `interface ${name} exists but is no TAP or TUN device${kind}`);
  }
  const tun = new TunDevice(tunFd);
  const flags = yield* attach(tun, name, before, setup, notes);
  const offloads = setOffloads(tun, flags, setup.segmentation, notes);

  const created = before ?? mustExist(yield* lookUp(netlink, name), name, 'vanished');
  if (created.txQueueLen < TX_QUEUE_LENGTH) {
    const result = yield* netlink.setLink(created.index, { txQueueLen: TX_QUEUE_LENGTH });
    if (result < 0) {
      const reason = getSystemErrorName(result);
      notes.push(`the transmit queue stays at ${created.txQueueLen} packets: ${reason}`);
    }
  }
  const configured = configure === 'yes' || (configure === 'auto' && before === null);
  const keepMtu = setup.keepMtu && (!configured || mtu === 0);
  const wanted = keepMtu ? 0 : mtu > 0 || before !== null ? mtu : CREATED_MTU;
  if (wanted > 0)
    check(
      yield* netlink.setLink(created.index, { mtu: wanted }),
      'configure',
      `cannot set the MTU to ${wanted}`,
    );
  const configuration = new InterfaceConfiguration(request, netlink, created.index, notes);
  if (configured) yield* configuration.apply(plan);
  else if (setup.prepare) yield* configuration.prepare();

  const {
    mtu: actualMtu,
    txQueueLen,
    flags: state,
  } = mustExist(yield* lookUp(netlink, name), name, 'vanished');
  // One that we made is for somebody to set up who waits for it.
  if (before !== null && (state & IFF_UP) === 0)
    notes.push(
      `interface ${name} is down: nothing passes until somebody brings it up (ip link set ${name} up)`,
    );
  const isGiven = keepMtu && mtu > 0;
  return {
    name,
    index: isGiven ? 0 : created.index,
    mtu: isGiven ? mtu : actualMtu,
    txQueueLen,
    ...properties(flags, offloads),
    notes,
  };
}
