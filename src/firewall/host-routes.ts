/**
 * What belongs to the host: its networks, as its routing tables tell them, its own addresses and its broadcast addresses. The data
 * plane keeps one table for all guests, filled from a netlink dump and kept current by netlink events, so that an address
 * added a second ago is already known. Mutable; lookups allocate nothing.
 *
 * Routes that only say "everything" are not the host's networks and are left out: default routes, and the halves and the
 * global-unicast eighth (0.0.0.0/1, 128.0.0.0/1, ::/1, 8000::/1, 2000::/3) that VPN software uses to override a default
 * route without replacing it.
 *
 * Only ever added to: what was removed goes with the next `replace`. Which routes count is the caller's choice
 * (engine/route-watch.ts).
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { comparePrefixes } from './address-set.ts';
import { type Prefix, V4_BITS } from './prefix.ts';
import { PrefixSet } from './prefix-set.ts';
import { isWithin } from './private.ts';

/** Longest prefixes that still mean "everything", in the 128-bit form: IPv4 /1, IPv6 /3. */
const EVERYTHING_V4 = V4_BITS + 1;
const EVERYTHING_V6 = 3;

export class HostRouteTable {
  /** Changes with every change of the table: a verdict taken at one version holds until the next. */
  version = 0;
  #routes = new PrefixSet();
  #locals = new PrefixSet();
  #broadcasts = new PrefixSet();

  /** Forgets all and takes what is in `read`, which is given away. */
  replace(read: HostRouteTable): void {
    this.version++;
    this.#routes = read.#routes;
    this.#locals = read.#locals;
    this.#broadcasts = read.#broadcasts;
  }

  /** Adds all that is in `read`. */
  include(read: HostRouteTable): void {
    for (const { address, bits } of read.#routes.prefixes()) this.add(address, bits);
    for (const { address } of read.#locals.prefixes()) this.addLocal(address);
    for (const { address } of read.#broadcasts.prefixes()) this.addBroadcast(address);
  }

  /** `bits` in the 128-bit form. What means "everything" is left out. */
  add(prefix: IpAddress, bits: number): void {
    if (bits <= (prefix.isV4 ? EVERYTHING_V4 : EVERYTHING_V6)) return;
    this.version++;
    this.#routes.add(prefix, bits);
  }

  /** A unicast or broadcast address of one of the host's interfaces. */
  addLocal(address: IpAddress): void {
    this.version++;
    this.#locals.add(address, 128);
  }

  /** A broadcast address of one of the host's links. */
  addBroadcast(address: IpAddress): void {
    this.version++;
    this.#broadcasts.add(address, 128);
  }

  /** Whether the address is everybody's on one of the host's links: nobody's to connect to, whatever a rule says. */
  isBroadcast(addr: IpAddress): boolean {
    return this.#broadcasts.size > 0 && this.#broadcasts.contains(addr);
  }

  /** Whether the address is the host's own or lies in one of its networks. */
  contains(addr: IpAddress): boolean {
    return this.#locals.contains(addr) || this.#routes.contains(addr);
  }

  /** The networks, those that lie in others left out. For people to read: without loopback, link-local and groups. */
  networks(): Prefix[] {
    const found = this.#routes.prefixes().filter(({ address, bits }) => !isOfNoInterest(address, bits));
    const own = found.filter(({ address, bits }) => bits < 128 || !this.#locals.contains(address));
    own.sort((a, b) => comparePrefixes(a, b));
    const outer: Prefix[] = [];
    for (const prefix of own) {
      const last = outer.at(-1);
      if (last === undefined || !isWithin(prefix.address, last.address, last.bits)) outer.push(prefix);
    }
    return outer;
  }

  /** Whether the address is one of the host's own, broadcast addresses included. */
  isLocal(addr: IpAddress): boolean {
    return this.#locals.contains(addr);
  }
}

function isOfNoInterest(address: IpAddress, bits: number): boolean {
  return address.isLoopback || address.isLinkLocal || address.isMulticast || bits === 0;
}
