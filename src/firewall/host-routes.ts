/**
 * What belongs to the host: its networks, as its routing tables tell them, its own addresses and its broadcast addresses. The data
 * plane keeps one table for all guests, filled from a netlink dump and kept current by netlink events, so that an address
 * added a second ago is already known. Mutable; lookups allocate nothing.
 *
 * Routes that only say "everything" are not the host's networks and are left out: default routes, and the halves and the
 * global-unicast eighth (0.0.0.0/1, 128.0.0.0/1, ::/1, 8000::/1, 2000::/3) that VPN software uses to override a default
 * route without replacing it.
 *
 * Counting: one prefix may be in several tables, or in one table with several metrics; it stays known until each was
 * removed. Lost events are repaired by `replace` with a fresh dump. Which routes count is the caller's choice
 * (engine/host-routes.ts).
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { comparePrefixes } from './address-set.ts';
import { type Prefix, V4_BITS } from './prefix.ts';
import { PrefixCounter } from './prefix-counter.ts';
import { isWithin } from './private.ts';

/** One route; `bits` in the 128-bit form. The address is copied. */
export interface HostRoute {
  prefix: IpAddress;
  bits: number;
  /** Kernel table number (rtnetlink RTA_TABLE): 254 main, 255 local. */
  table: number;
}

/** Longest prefixes that still mean "everything", in the 128-bit form: IPv4 /1, IPv6 /3. */
const EVERYTHING_V4 = V4_BITS + 1;
const EVERYTHING_V6 = 3;

export class HostRouteTable {
  /** Changes with every change of the table: a verdict taken at one version holds until the next. */
  version = 0;
  readonly #routes = new PrefixCounter();
  readonly #locals = new PrefixCounter();
  readonly #broadcasts = new PrefixCounter();
  /** Adds not yet taken back, by table: removing from a table where a route is not must not unmake another's. */
  readonly #perTable = new Map<string, number>();

  /** Forgets all routes and takes these. Local addresses are kept. */
  replace(routes: Iterable<HostRoute>): void {
    this.version++;
    this.#routes.clear();
    this.#perTable.clear();
    for (const { prefix, bits, table } of routes) this.add(prefix, bits, table);
  }

  /** Forgets all local and broadcast addresses and takes these. */
  replaceLocals(addresses: Iterable<IpAddress>): void {
    this.version++;
    this.#locals.clear();
    for (const address of addresses) this.addLocal(address);
  }

  /** Forgets all broadcast addresses of links and takes these. */
  replaceBroadcasts(addresses: Iterable<IpAddress>): void {
    this.version++;
    this.#broadcasts.clear();
    for (const address of addresses) this.addBroadcast(address);
  }

  /** False when the route means "everything" and is left out. */
  add(prefix: IpAddress, bits: number, table: number): boolean {
    if (bits <= (prefix.isV4 ? EVERYTHING_V4 : EVERYTHING_V6)) return false;
    const key = routeKey(prefix, bits, table);
    this.#perTable.set(key, (this.#perTable.get(key) ?? 0) + 1);
    this.version++;
    this.#routes.add(prefix, bits);
    return true;
  }

  /** Takes back one `add`. False when there was none. */
  remove(prefix: IpAddress, bits: number, table: number): boolean {
    const key = routeKey(prefix, bits, table);
    const count = this.#perTable.get(key);
    if (count === undefined) return false;
    if (count === 1) this.#perTable.delete(key);
    else this.#perTable.set(key, count - 1);
    this.version++;
    return this.#routes.remove(prefix, bits);
  }

  /** A unicast or broadcast address of one of the host's interfaces; the same address may be on several. */
  addLocal(address: IpAddress): void {
    this.version++;
    this.#locals.add(address, 128);
  }

  /** Takes back one `addLocal`. False when there was none. */
  removeLocal(address: IpAddress): boolean {
    this.version++;
    return this.#locals.remove(address, 128);
  }

  /** A broadcast address of one of the host's links. It is taken back only by `replaceBroadcasts`. */
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

function routeKey(prefix: IpAddress, bits: number, table: number): string {
  return `${prefix.w0},${prefix.w1},${prefix.w2},${prefix.w3}/${bits}@${table}`;
}
