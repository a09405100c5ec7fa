/**
 * Making an interface of a network namespace ours: attach to it (or create it), say what we can take over from the kernel,
 * and where asked configure it. What needs rights over the namespace is asked of somebody who has them (sys/netns/exchange).
 *
 * Read: Linux Documentation/networking/tuntap.rst, rtnetlink(7), ip-sysctl.rst (accept_ra, autoconf).
 * Whatever is only an improvement (queue length, offloads, IPv6) fails into `notes`; the rest is a `DeviceError`.
 */
import { getSystemErrorName } from 'node:util';
import type {
  AddressPlan,
  InterfaceDevice,
  InterfaceNetwork,
  InterfaceRoute,
  InterfaceSetup,
} from '../config.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import {
  EBUSY,
  EEXIST,
  EHOSTUNREACH,
  EINVAL,
  ENETUNREACH,
  ENODEV,
  ENOENT,
  EPERM,
  EROFS,
} from '../sys/errno.ts';
import { type Exchange, orderAttach, orderSetting } from '../sys/netns/exchange.ts';
import {
  IFF_UP,
  type InterfaceInfo,
  LOOPBACK_INDEX,
  type NewRoute,
  RT_SCOPE_LINK,
  RT_SCOPE_UNIVERSE,
  RTPROT_BOOT,
  Rtnetlink,
} from '../sys/netns/rtnetlink.ts';
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
import type { TapProperties } from './tap-link.ts';

/** A burst of this many packets is not lost while the data plane does something else. */
const TX_QUEUE_LENGTH = 10000;
/** MTU of interfaces that we create: the largest a TAP takes, rounded to a multiple of 16 (bytes of IP packet). */
const CREATED_MTU = 65520;
const ARPHRD_NONE = 0xfffe;

/** Bits of the 128-bit form in front of an IPv4 address. */
const V4_BITS = 96;

type Route = NonNullable<InterfaceSetup['routes']>[number];

/** What is asked for. */
export type InterfaceRequest = Omit<InterfaceDevice, 'kind' | 'order'>;

export interface OpenedInterface extends TapProperties {
  name: string;
  /** Number of the interface in its namespace; 0: what MTU it has does not matter. */
  index: number;
  txQueueLen: number;
  /** What could not be had, one sentence each. */
  notes: string[];
}

function check(result: number, step: DeviceStep, what: string): void {
  if (result < 0) throw new DeviceError(step, -result, `${what}: ${getSystemErrorName(result)}`);
}

/** Address text as bytes in network order. */
function addressBytes(text: string): number[] {
  const { isV4, w0, w1, w2, w3 } = parseIpAddress(text);
  const words = isV4 ? [w3] : [w0, w1, w2, w3];
  return words.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]);
}

/** `onLink`: whatever the addresses say of its routers. */
function newRoute(route: InterfaceRoute, onLink: boolean): NewRoute {
  const { destination, prefixLength, nextHops, metric, protocol, scope, source } = route;
  return {
    ...{ destination: addressBytes(destination), prefixLength, metric, protocol, scope },
    source: source === '' ? null : addressBytes(source),
    nextHops: nextHops.map((hop) => ({
      gateway: hop.gateway === '' ? null : addressBytes(hop.gateway),
      weight: hop.weight,
      onLink: hop.onLink || (onLink && hop.gateway !== ''),
    })),
  };
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

class Configuration {
  private readonly request: InterfaceRequest;
  private readonly netlink: Rtnetlink;
  private readonly index: number;
  private readonly notes: string[];

  constructor(request: InterfaceRequest, netlink: Rtnetlink, index: number, notes: string[]) {
    this.request = request;
    this.netlink = netlink;
    this.index = index;
    this.notes = notes;
  }

  /** What there is to do whether or not somebody else sets addresses. */
  *prepare(): Exchange<void> {
    const { netlink, index } = this;
    const { mac: text } = this.request.setup;
    check(yield* netlink.setLink(LOOPBACK_INDEX, { up: true }), 'configure', 'cannot bring lo up');
    if (text === '') return;
    const mac = text.split(':').map((octet) => Number.parseInt(octet, 16));
    check(yield* netlink.setLink(index, { mac }), 'configure', `cannot set the MAC address to ${text}`);
  }

  *apply(plan: AddressPlan): Exchange<void> {
    const { setup } = this.request;
    const ipv6 = plan.ipv6 && !setup.ipv6ByAdvertisement;
    yield* this.prepare();
    if (setup.network !== null) {
      yield* this.copy(setup.network);
      return;
    }
    if (ipv6) yield* this.ignoreAdvertisements(['accept_ra', 'autoconf']);
    yield* this.addAddress(plan.guest4, plan.prefix4);
    if (ipv6) yield* this.addAddress(plan.guest6, plan.prefix6);
    yield* this.bringUp();
    if (setup.routes === null) {
      yield* this.setRoute(plan.gateway4);
      if (ipv6) yield* this.setRoute(plan.gateway6);
    } else for (const route of setup.routes) yield* this.addRoute(route);
  }

  /** Routes that depend on others come after those; a router that none leads to is on the link all the same. */
  private *copy({ addresses, routes }: InterfaceNetwork): Exchange<void> {
    // The kernel's own address is to be usable at once too.
    yield* this.ignoreAdvertisements(['accept_ra', 'autoconf', 'accept_dad']);
    for (const { address, prefixLength, peer, noPrefixRoute } of addresses)
      yield* this.addAddress(address, prefixLength, peer, noPrefixRoute);
    yield* this.bringUp();
    let left: readonly InterfaceRoute[] = routes;
    for (let before = -1; left.length !== before; ) {
      before = left.length;
      left = yield* this.addRoutes(left, false);
    }
    for (const { destination, prefixLength, nextHops } of yield* this.addRoutes(left, true)) {
      const by = nextHops.map(({ gateway }) => gateway).join(', ');
      this.notes.push(
        `the route to ${destination}/${prefixLength} by ${by} is left out: no way to its router`,
      );
    }
  }

  /** Those that want another one first, or are left out. */
  private *addRoutes(routes: readonly InterfaceRoute[], onLink: boolean): Exchange<InterfaceRoute[]> {
    const left: InterfaceRoute[] = [];
    for (const route of routes) {
      const result = yield* this.netlink.addRoute(this.index, newRoute(route, onLink));
      if (result === -ENETUNREACH || result === -EHOSTUNREACH || result === -EINVAL) left.push(route);
      // The kernel has made it with the address.
      else if (result !== -EEXIST) this.settle(result, addressBytes(route.destination), 'route');
    }
    return left;
  }

  private *bringUp(): Exchange<void> {
    const { name, setup } = this.request;
    const { multicast } = setup;
    const result = yield* this.netlink.setLink(this.index, { up: true, multicast });
    check(result, 'configure', `cannot bring ${name} up`);
  }

  /** We set addresses and routes ourselves; a router advertisement would add others. */
  private *ignoreAdvertisements(settings: readonly string[]): Exchange<void> {
    const { name } = this.request;
    let failed = 0;
    for (const setting of settings) {
      const result = yield* orderSetting(name, setting, '0');
      // Without IPv6 in the kernel there is nothing to set.
      if (result !== -ENOENT) failed ||= result;
    }
    if (failed === 0) return;
    const why = failed === -EROFS ? '/proc/sys is read-only here' : getSystemErrorName(failed);
    this.notes.push(`${name} will take IPv6 addresses and routes from router advertisements too: ${why}`);
  }

  private *addAddress(text: string, prefixLength: number, peer = '', noPrefixRoute = false): Exchange<void> {
    const address = addressBytes(text);
    const other = peer === '' ? null : addressBytes(peer);
    const result = yield* this.netlink.addAddress(this.index, {
      ...{ address, prefixLength, peer: other, noPrefixRoute },
    });
    this.settle(result, address, 'address');
  }

  private *setRoute(text: string): Exchange<void> {
    const gateway = addressBytes(text);
    const result = yield* this.netlink.setDefaultRoute(this.index, gateway);
    if (result === -EEXIST) {
      const { name } = this.request;
      this.notes.push(
        `there is a default route besides that by ${text}, which goes first as long as ${name} is there`,
      );
    } else this.settle(result, gateway, 'default route');
  }

  private *addRoute({ address: text, bits }: Route): Exchange<void> {
    const address = addressBytes(text);
    const length = address.length === 4 ? bits - V4_BITS : bits;
    const result = yield* this.netlink.addRoute(this.index, {
      ...{ destination: address, prefixLength: length, metric: 0, source: null },
      nextHops: [{ gateway: null, weight: 1, onLink: false }],
      protocol: RTPROT_BOOT,
      scope: address.length === 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    });
    check(result, 'configure', `cannot set the route to ${text}/${length}`);
  }

  /** A kernel may have no IPv6. */
  private settle(result: number, address: number[], what: string): void {
    if (address.length === 4) check(result, 'configure', `cannot set the IPv4 ${what}`);
    else if (result < 0) this.notes.push(`cannot set the IPv6 ${what}: ${getSystemErrorName(result)}`);
  }
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
  const configuration = new Configuration(request, netlink, created.index, notes);
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
