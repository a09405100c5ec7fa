/**
 * Keeps the host-route table true: what is the host's is known before the first packet, and again before every verdict, as
 * it was when the turn of the loop began.
 *
 * Additions are applied as their news arrive. Removals never are: the kernel tells of some only by their cause, and of
 * others in a way that does not say what is left (sys/route-monitor). They make the table *stale*, which errs on the side
 * of denying, and it is then read anew. Lost news may be additions, so the table is *unsure* until it was read anew, and no
 * verdict should be taken meanwhile. Reading anew blocks this thread (about 1 ms for a few hundred routes, 1 s for a
 * million), so for staleness alone it may take a twentieth of the time at most; being unsure has no such limit.
 *
 * What counts: routes of every table, because policy rules may select any of them, with a destination, so default routes
 * do not (nor what the table itself takes for "everything"). Of those,
 *  - all whose destination is private, wherever they lead: a company's network behind its VPN is one;
 *  - others where the host meets its neighbours: networks of its interfaces, and what it reaches on a link without a router.
 *    Not what goes by way of a router or into a tunnel: that is the way to the internet, be it in one piece or in many (VPN
 *    software writes 0.0.0.0/0 less the private ranges as dozens of prefixes; a router of the backbone has a million);
 *  - all that are not unicast: local, broadcast and anycast are the host's own; blackhole, unreachable, prohibit and throw were
 *    named by the administrator as something not to be treated like the rest of the world, and a table that a rule prefers
 *    may well lead there; multicast is reserved anyway.
 * In doubt an address is the host's. Then the addresses of all interfaces, also of those that are down, and their IPv4
 * broadcast addresses.
 *
 * Left out on purpose: flows that were permitted before an address became the host's go on.
 */
import { HostRouteTable } from '../firewall/host-routes.ts';
import { V4_BITS } from '../firewall/prefix.ts';
import { isPrivate } from '../firewall/private.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { EAFNOSUPPORT, EIO, ENOBUFS, EOPNOTSUPP, errnoText } from '../sys/errno.ts';
import type { Memory } from '../sys/memory.ts';
import { RouteMessage, type RouteRecord } from '../sys/route-messages.ts';
import { ROUTE_MONITOR_BYTES, RouteDump, RouteMonitor } from '../sys/route-monitor.ts';

/** Dumps that were interrupted by a change are repeated this often. */
const DUMP_ATTEMPTS = 4;
/** Rounds of one `refresh`: changes that arrive while it reads. */
const REFRESH_ROUNDS = 4;
/** Share of the time that may be spent on repairing a merely stale table, and how much may be saved up (ms). */
const REPAIR_SHARE = 0.05;
const REPAIR_SAVED_MS = 100;
/** After a failure the next dump is not tried before this (ms): it may have cost a second of waiting. */
const RETRY_MS = 1000;

/** Result of a dump: complete, or complete but made while something changed. Negative is `-errno`. */
const COMPLETE = 0;
const INTERRUPTED = 1;

/** Types of routes (rtnetlink(7)): RTN_UNICAST, and RTN_BROADCAST for the broadcast addresses of a link. */
const UNICAST = 1;
const BROADCAST = 3;
/** RTPROT_KERNEL: made with an address of an interface. */
const BY_KERNEL = 2;

function isBroadcast({ isV4, type, prefixLength }: RouteRecord): boolean {
  return isV4 && type === BROADCAST && prefixLength === 32;
}

/** Length of a route's destination in the 128-bit form. */
function bitsOf({ isV4, prefixLength }: RouteRecord): number {
  return prefixLength + (isV4 ? V4_BITS : 0);
}

export class HostRoutes {
  /** Readable when something changed: watching it keeps the backlog short, but `refresh` does not depend on that. */
  readonly fd: number;
  /** How often everything was read, the first time included. */
  reloads = 0;
  readonly #monitor: RouteMonitor;
  readonly #table: HostRouteTable;
  readonly #log: (message: string) => void;
  readonly #address = new IpAddress();
  /** By index, whether the link is a tunnel. */
  #links = new Map<number, boolean>();
  /** Something may have been removed. */
  #stale = false;
  /** Something may have been added. True until the first `load`. */
  #unsure = true;
  #repairMs = REPAIR_SAVED_MS;
  #repairAt = 0;
  #retryAt = 0;
  #error = 0;
  /** The turn of the loop that asked last, and what it was told. */
  #askedIn = -1;
  #answer = false;

  /** @throws Error with one line when the kernel cannot be asked: a policy that does not know the host is not safe. */
  constructor(memory: Memory, slab: Slab, table: HostRouteTable, log: (message: string) => void) {
    this.#table = table;
    this.#log = log;
    this.#monitor = new RouteMonitor(memory, slab.region(ROUTE_MONITOR_BYTES));
    this.fd = this.#monitor.fd;
    if (this.fd < 0)
      throw new Error(`cannot watch the host's routes and addresses: netlink socket: ${errnoText(this.fd)}`);
  }

  /**
   * The first reading; blocks until it is done.
   * @throws Error with one line when it fails
   */
  load(): void {
    this.#reload();
    if (this.#unsure || !this.refresh())
      throw new Error(`cannot read the host's routes and addresses: ${errnoText(this.#error)}`);
  }

  /**
   * Bring the table up to date; to be called before a verdict. One receive call when nothing changed. False when the
   * table may lack something that is the host's, because it could not be read anew: then nothing new should be permitted.
   */
  refresh(): boolean {
    const received = this.#monitor.receive();
    if (received === 0 && !this.#stale && !this.#unsure) return true;
    return this.#update(received);
  }

  /**
   * As `refresh`, once in a turn of the loop: what else that turn opens goes by the same answer. `mayHaveNews` is whether
   * `fd` may have been readable when the turn began; if not there was nothing to hear.
   */
  refreshIn(turn: number, mayHaveNews: boolean): boolean {
    if (turn !== this.#askedIn) {
      this.#askedIn = turn;
      const isTrue = !mayHaveNews && !this.#stale && !this.#unsure;
      this.#answer = isTrue || this.refresh();
    }
    return this.#answer;
  }

  close(): void {
    this.#monitor.close();
    this.#unsure = true;
  }

  #update(first: number): boolean {
    this.#drain(first);
    // What changed while it was read is in the queue again.
    for (let round = 0; round < REFRESH_ROUNDS && this.#wantsReload(); round++) {
      this.#reload();
      this.#drain(this.#monitor.receive());
    }
    if (this.#unsure) return false;
    if (this.#error !== 0) this.#log("the host's routes and addresses are known again");
    this.#error = 0;
    return true;
  }

  /** Apply news until there are none. */
  #drain(first: number): void {
    const { messages } = this.#monitor;
    let received = first;
    for (; received > 0 || received === -ENOBUFS; received = this.#monitor.receive()) {
      if (received < 0) {
        this.#unsure = true;
        continue;
      }
      for (let kind = messages.next(); kind !== RouteMessage.None; kind = messages.next()) this.#apply(kind);
    }
    if (received < 0) this.#fail(received);
  }

  #apply(kind: RouteMessage): void {
    const { added } = this.#monitor.messages.record;
    const isRemoval = (kind === RouteMessage.Route || kind === RouteMessage.Address) && !added;
    if (isRemoval || kind === RouteMessage.Withdrawal) this.#stale = true;
    if (!isRemoval && !this.#take(kind, this.#table)) this.#unsure = true;
  }

  /** Note what the message read last says there is; false when it tells of something else. */
  #take(kind: RouteMessage, table: HostRouteTable): boolean {
    const { record } = this.#monitor.messages;
    const address = this.#address.set(record.w0, record.w1, record.w2, record.w3);
    switch (kind) {
      case RouteMessage.Link:
      case RouteMessage.Withdrawal:
        if (record.link !== 0) this.#links.set(record.link, record.isTunnel);
        return true;
      case RouteMessage.Route:
        if (this.#isHosts(record, address)) table.add(address, bitsOf(record));
        if (isBroadcast(record)) table.addBroadcast(address);
        return true;
      case RouteMessage.Address:
        table.addLocal(address);
        if (record.broadcast !== 0) table.addLocal(address.setV4(record.broadcast));
        return true;
      default:
        return false;
    }
  }

  /** Whether the destination of a route, which is in `address`, is one of the host's networks. */
  #isHosts(record: RouteRecord, address: IpAddress): boolean {
    // Mapped destinations of IPv6 routes lead nowhere: sockets take such an address for the IPv4 one.
    if (record.prefixLength === 0 || address.isV4 !== record.isV4) return false;
    if (record.type !== UNICAST || record.protocol === BY_KERNEL) return true;
    if (record.hasGateway) return isPrivate(address, bitsOf(record));
    const isTunnel = this.#links.get(record.link);
    // The link came while routes were read: look again, and until then it is a link with neighbours.
    if (isTunnel === undefined && record.link !== 0) this.#stale = true;
    return isTunnel !== true || isPrivate(address, bitsOf(record));
  }

  #wantsReload(): boolean {
    if (!this.#stale && !this.#unsure) return false;
    const now = performance.now();
    if (now < this.#retryAt) return false;
    if (this.#unsure) return true;
    this.#repairMs = Math.min(REPAIR_SAVED_MS, this.#repairMs + (now - this.#repairAt) * REPAIR_SHARE);
    this.#repairAt = now;
    return this.#repairMs > 0;
  }

  /** Read everything. Success makes the table sure; an unbroken reading makes it exact. */
  #reload(): void {
    const begin = performance.now();
    let result = INTERRUPTED;
    for (let attempt = 0; attempt < DUMP_ATTEMPTS && result === INTERRUPTED; attempt++) {
      const read = new HostRouteTable();
      this.#stale = false;
      result = this.#dumpAll(read);
      if (result < 0) break;
      this.reloads++;
      if (result === COMPLETE) this.#table.replace(read);
      // May lack something that the table, or another attempt, has: all together lack nothing.
      else this.#table.include(read);
    }
    const now = performance.now();
    this.#repairMs -= now - begin;
    if (result < 0) {
      this.#monitor.abandonDump();
      this.#fail(result);
      return;
    }
    this.#unsure = false;
    if (result === INTERRUPTED) this.#stale = true;
  }

  #dumpAll(read: HostRouteTable): number {
    // Those that are gone have no routes any more.
    this.#links = new Map();
    let worst = COMPLETE;
    for (const what of [RouteDump.Links, RouteDump.Routes4, RouteDump.Routes6, RouteDump.Addresses]) {
      const result = this.#dump(what, read);
      const isWithoutIpv6 = result === -EOPNOTSUPP || result === -EAFNOSUPPORT;
      if (what === RouteDump.Routes6 && isWithoutIpv6) continue;
      if (result < 0) return result;
      worst = Math.max(worst, result);
    }
    return worst;
  }

  #dump(what: RouteDump, read: HostRouteTable): number {
    const { messages } = this.#monitor;
    const started = this.#monitor.startDump(what);
    if (started < 0) return started;
    for (;;) {
      const received = this.#monitor.receiveDump();
      if (received < 0) return received;
      for (let kind = messages.next(); kind !== RouteMessage.None; kind = messages.next()) {
        if (kind === RouteMessage.Done) return messages.interrupted ? INTERRUPTED : COMPLETE;
        if (kind === RouteMessage.Failed) return messages.error;
        if (!this.#take(kind, read)) return -EIO;
      }
    }
  }

  /** Note why the table is unsure; one line for each new reason. */
  #fail(error: number): void {
    this.#unsure = true;
    this.#retryAt = performance.now() + RETRY_MS;
    if (error === this.#error) return;
    this.#error = error;
    this.#log(`the host's routes and addresses cannot be read: ${errnoText(error)}`);
  }
}
