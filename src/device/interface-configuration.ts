/**
 * What an interface of a network namespace is given, and what it is given later: link, addresses and routes, by rtnetlink
 * messages of somebody with rights over the namespace (sys/netns/exchange).
 */
import { getSystemErrorName, isDeepStrictEqual } from 'node:util';
import type { AddressPlan } from '../config.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import {
  defaultSetup,
  type InterfaceAddress,
  type InterfaceDevice,
  type InterfaceNetwork,
  type InterfaceRoute,
  type InterfaceSetup,
} from '../device-spec.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import {
  EADDRNOTAVAIL,
  EEXIST,
  EHOSTUNREACH,
  EINVAL,
  ENETUNREACH,
  ENOENT,
  EROFS,
  ESRCH,
} from '../sys/errno.ts';
import { type Exchange, orderSetting } from '../sys/netns/exchange.ts';
import {
  LOOPBACK_INDEX,
  type NewAddress,
  type NewRoute,
  RT_SCOPE_LINK,
  RT_SCOPE_UNIVERSE,
  RTPROT_BOOT,
  Rtnetlink,
} from '../sys/netns/rtnetlink.ts';

/** Bits of the 128-bit form in front of an IPv4 address. */
const V4_BITS = 96;

type Route = NonNullable<InterfaceSetup['routes']>[number];

/** What is asked for. */
export type InterfaceRequest = Omit<InterfaceDevice, 'kind' | 'order'>;

export function check(result: number, step: DeviceStep, what: string): void {
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

function newAddress(text: string, prefixLength: number, peer: string, noPrefixRoute: boolean): NewAddress {
  const other = peer === '' ? null : addressBytes(peer);
  return { address: addressBytes(text), prefixLength, peer: other, noPrefixRoute };
}

/** The kernel speaks from the first IPv4 address that it was given and from the last IPv6 one; it lists both kinds as it prefers them. */
function settingOrder(addresses: readonly InterfaceAddress[]): InterfaceAddress[] {
  const isV6 = ({ address }: InterfaceAddress): boolean => address.includes(':');
  return [...addresses.filter((one) => !isV6(one)), ...addresses.filter(isV6).reverse()];
}

/** Those of `before` that are not in `after`. */
function missing<T extends object>(before: readonly T[], after: readonly T[]): T[] {
  return before.filter((one) => !after.some((other) => isDeepStrictEqual(one, other)));
}

/** Have an interface that is there, by its name, changed so; says what could not be done. */
export function* changeInterface(
  name: string,
  before: InterfaceNetwork,
  after: InterfaceNetwork,
): Exchange<string[]> {
  const netlink = new Rtnetlink();
  const found = yield* netlink.linkByName(name);
  if (found === null) return [`there is no interface ${name} any more`];
  if (typeof found === 'number') return [`cannot look up interface ${name}: ${getSystemErrorName(found)}`];
  const notes: string[] = [];
  const request = { name, mtu: 0, configure: 'yes', setup: defaultSetup } as const;
  yield* new InterfaceConfiguration(request, netlink, found.index, notes).change(before, after);
  return notes;
}

export class InterfaceConfiguration {
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
    for (const { address, prefixLength, peer, noPrefixRoute } of settingOrder(addresses))
      yield* this.addAddress(address, prefixLength, peer, noPrefixRoute);
    yield* this.bringUp();
    yield* this.addAllRoutes(routes);
  }

  /**
   * From what the interface was given to what it is to have now. What somebody else has given it stays, and what is gone
   * already need not go. Nothing fails: `notes` say what could not be done.
   */
  *change(before: InterfaceNetwork, after: InterfaceNetwork): Exchange<void> {
    const { index, netlink } = this;
    for (const route of missing(before.routes, after.routes)) {
      const result = yield* netlink.removeRoute(index, newRoute(route, false));
      if (result !== -ESRCH) this.note(result, `remove the route to ${route.destination}`);
    }
    for (const { address, prefixLength } of missing(before.addresses, after.addresses)) {
      const result = yield* netlink.removeAddress(index, addressBytes(address), prefixLength);
      if (result !== -EADDRNOTAVAIL) this.note(result, `remove the address ${address}`);
    }
    // All of them: with an address the kernel takes others of its network, and routes.
    for (const { address, prefixLength, peer, noPrefixRoute } of settingOrder(after.addresses)) {
      const added = newAddress(address, prefixLength, peer, noPrefixRoute);
      this.note(yield* netlink.addAddress(index, added), `set the address ${address}`);
    }
    try {
      yield* this.addAllRoutes(after.routes);
    } catch (error) {
      this.notes.push((error as Error).message);
    }
  }

  private note(result: number, what: string): void {
    if (result < 0) this.notes.push(`cannot ${what}: ${getSystemErrorName(result)}`);
  }

  private *addAllRoutes(routes: readonly InterfaceRoute[]): Exchange<void> {
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
    const added = newAddress(text, prefixLength, peer, noPrefixRoute);
    this.settle(yield* this.netlink.addAddress(this.index, added), added.address, 'address');
  }

  private *setRoute(text: string): Exchange<void> {
    const gateway = addressBytes(text);
    const result = yield* this.netlink.setDefaultRoute(this.index, gateway);
    if (result === -EEXIST) {
      const { name } = this.request;
      this.notes.push(
        `there is a default route besides that by ${text}, which goes first as long as ${name} is there`,
      );
    } else this.settle(result, gateway, 'route', 'default route');
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
  private settle(
    result: number,
    address: ArrayLike<number>,
    step: 'address' | 'route',
    what: string = step,
  ): void {
    if (address.length === 4) check(result, step, `cannot set the IPv4 ${what}`);
    else this.note(result, `set the IPv6 ${what}`);
  }
}
