/**
 * DNS over UDP at the stack's own DNS addresses: every query of the guest is asked again, by the host, at the host's
 * resolvers. RFC 1035, RFC 5452 (what makes an answer believable), RFC 5625 (how a forwarder behaves), RFC 2181 §9.
 *
 * Theory of operation. One `DnsQuery` per outstanding query:
 *
 *   query → copied → socket connected to resolver 1, fresh id → answer checked → the guest's id put back → guest
 *   1.5 s of silence, or an error of the socket → resolver 2 → resolver 3 → SERVFAIL, at most 4.5 s after the query
 *
 * An answer counts only when it came to that socket (so from the resolver's address and port: the kernel sees to it),
 * with that id and the same question; everything else is counted and waited past. A new resolver means a new socket,
 * thus a new source port, and a new id; where the list has nobody else to offer, the same datagram is sent again as any
 * client would, so that an answer that takes longer than 1.5 s is still taken. The list is read anew for every try, so a
 * change of it reaches queries in flight.
 *
 * Records are never read or changed, except that an answer larger than the guest can take becomes one without records
 * and with TC set: the guest then asks over TCP, which is a TCP flow like any other.
 *
 * Limits: `dnsMaxOutstanding` queries, each with one descriptor of the flows' budget and at most 4 KiB of query.
 *
 * Left out on purpose: a cache; taking turns between resolvers on their SERVFAIL or REFUSED (the guest gets the answer as
 * it is); opcodes other than QUERY (NOTIMP: a resolver might trust the host's address with an UPDATE or NOTIFY).
 */
import { Counter } from '../stack/counters.ts';
import type { Packet } from '../stack/packet.ts';
import { IpAddress } from '../stack/wire/address.ts';
import {
  DNS_HEADER_LEN,
  DNS_PORT,
  DNS_RCODE_FORMERR,
  DNS_RCODE_NOTIMP,
  DNS_RCODE_SERVFAIL,
  DnsHeader,
  ednsUdpSize,
  emitDnsServfail,
  emitDnsTruncated,
  parseDnsHeader,
  questionEnd,
  sameQuestion,
} from '../stack/wire/dns.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../stack/wire/udp.ts';
import { EAGAIN, EINTR, EMFILE } from '../sys/errno.ts';
import { recv, send } from '../sys/socket.ts';
import { type FlowContext, type IoHandler, TimerNode } from './context.ts';
import { FlowTable, type Keyed } from './flow-table.ts';
import { HostDatagramSocket } from './host-datagram-socket.ts';
import { MAX_QUERIES_PER_SECOND, RateWindow } from './rate-window.ts';
import type { Resolver } from './resolvers.ts';

/** How often a query is sent, in all. resolv.conf(5) has at most three servers too. */
const MAX_TRIES = 3;
/** How long one try may take. Three of them stay below the 5 s after which clients ask again. */
const TRY_MS = 1500;
/** Bytes of a query. Real ones have less than 300; also the size of `HostScratch.message`. */
const MAX_QUERY = 4096;
/** Bytes a UDP datagram can have at most. */
const MAX_ANSWER = 65535;
/** Datagrams one query looks at in one turn: a resolver that floods us must not hold up the others. */
const ANSWERS_PER_TURN = 8;

/** Filled and used within one call; shared by all queries. */
const header = new DnsHeader();

/** All outstanding DNS queries of a guest. */
export class DnsFlows {
  readonly context: FlowContext;
  /** Arena offset of `MAX_ANSWER` bytes, for the answer being looked at. */
  readonly answer: number;
  /** Port that the resolvers are asked at. */
  readonly serverPort: number;
  readonly #table: FlowTable<DnsQuery>;
  readonly #rate = new RateWindow(MAX_QUERIES_PER_SECOND);

  /** Takes 64 KiB of the slab's fixed regions. A `serverPort` other than 53 is for tests without privileges. */
  constructor(context: FlowContext, serverPort: number = DNS_PORT) {
    this.context = context;
    this.serverPort = serverPort;
    this.answer = context.slab.region(MAX_ANSWER);
    this.#table = new FlowTable(context.hash, PROTOCOL_UDP);
  }

  /** Queries that wait for an answer. */
  get size(): number {
    return this.#table.size;
  }

  /** A datagram of the guest to port 53 of a DNS address. Everything passed is borrowed. */
  onQuery(p: Packet, h: UdpHeader): void {
    const { counters, limits, memory, descriptors, clock } = this.context;
    const view = memory.view;
    const at = p.offset + UDP_HEADER_LEN;
    const length = h.length - UDP_HEADER_LEN;
    if (parseDnsHeader(view, at, length, header) < 0) {
      counters.drop(DropReason.DnsMalformed);
      return;
    }
    // An answer to an answer would be the beginning of a loop (U-06).
    if (header.isResponse) {
      counters.drop(DropReason.DnsResponse);
      return;
    }
    if (header.opcode !== 0) {
      this.#refuse(p, h, DNS_RCODE_NOTIMP);
      return;
    }
    if (length > MAX_QUERY || questionEnd(view, at, length) < 0) {
      counters.drop(DropReason.DnsMalformed);
      this.#refuse(p, h, DNS_RCODE_FORMERR);
      return;
    }
    counters.add(Counter.DnsQueries, 1);
    const key = ((h.srcPort << 16) | header.id) >>> 0;
    const earlier = this.#table.find(p.src, p.dst, key);
    if (earlier !== null) {
      if (earlier.asksSame(view, at, length)) return;
      // The guest has used its id again, so it does not wait for that answer any more.
      earlier.end();
    }
    if (
      this.#table.size >= limits.dnsMaxOutstanding ||
      descriptors.used >= descriptors.limit ||
      !this.#rate.allow(clock.nowMs)
    ) {
      counters.drop(DropReason.DnsLimit);
      counters.add(Counter.DnsFailures, 1);
      this.#refuse(p, h, DNS_RCODE_SERVFAIL);
      return;
    }
    const query = new DnsQuery(this, p.src, p.dst, key, at, length);
    this.#table.add(query);
    query.ask();
  }

  /** The query is over. */
  ended(query: DnsQuery): void {
    this.#table.remove(query);
  }

  /** Answer the query in `p` with an error. */
  #refuse(p: Packet, h: UdpHeader, rcode: number): void {
    const { egress, memory, scratch } = this.context;
    const at = p.offset + UDP_HEADER_LEN;
    // Header and question at most, whatever the length of the query.
    const length = emitDnsServfail(memory.view, at, h.length - UDP_HEADER_LEN, scratch.message, rcode);
    egress.sendUdp(p.dst, h.dstPort, p.src, h.srcPort, scratch.message, length);
  }
}

/** One query that waits for its answer, and the socket that asks for the guest. */
class DnsQuery extends TimerNode implements IoHandler, Keyed {
  readonly guest: IpAddress;
  readonly remote: IpAddress;
  /** Guest port in the upper 16 bits, the guest's id in the lower. */
  readonly ports: number;
  keyHash = 0;
  readonly #owner: DnsFlows;
  /** The query as the guest sent it. */
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Resolver asked last. */
  readonly #server = new IpAddress();
  #scopeId = 0;
  waiting = false;
  readonly #socket: HostDatagramSocket;
  /** Id of what we sent. */
  #id = 0;
  #tries = 0;
  #over = false;

  constructor(
    owner: DnsFlows,
    guest: IpAddress,
    remote: IpAddress,
    ports: number,
    at: number,
    length: number,
  ) {
    super();
    this.#owner = owner;
    this.#socket = new HostDatagramSocket(owner.context);
    this.guest = guest.clone();
    this.remote = remote.clone();
    this.ports = ports;
    this.#bytes = owner.context.slab.bytes.slice(at, at + length);
    this.#view = new DataView(this.#bytes.buffer);
  }

  asksSame(view: DataView, at: number, length: number): boolean {
    return sameQuestion(this.#view, 0, this.#bytes.length, view, at, length);
  }

  /** Ask the next resolver, and the one after it where that cannot be; SERVFAIL when the tries are used up. */
  ask(): void {
    const { resolvers, clock, timers } = this.#owner.context;
    while (this.#tries < MAX_TRIES && resolvers.count > 0) {
      const resolver = resolvers.at(this.#tries);
      this.#tries++;
      const result = this.#sendTo(resolver);
      if (result >= 0) {
        this.deadline = clock.nowMs + TRY_MS;
        timers.update(this);
        return;
      }
      if (result === -EMFILE) break;
    }
    this.#fail();
  }

  onTimer(_nowMs: number): void {
    if (!this.#over) this.ask();
  }

  onIo(_events: number): void {
    const { context, answer } = this.#owner;
    for (let i = 0; !this.#over; i++) {
      if (i === ANSWERS_PER_TURN) {
        context.poller.ready(this);
        return;
      }
      const n = recv(context.memory, this.#socket.fd, answer, MAX_ANSWER);
      if (n >= 0) this.#onAnswer(n);
      else if (n === -EAGAIN) return;
      // Port unreachable, for one: this resolver will not answer.
      else if (n !== -EINTR) this.ask();
    }
  }

  /** Give everything back without a word to the guest. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#owner.context.timers.cancel(this);
    this.#socket.close();
    this.#owner.ended(this);
  }

  /** Send the query to `resolver`; what send(2) returned, or `-errno` of a step before it. */
  #sendTo(resolver: Resolver): number {
    const { memory, scratch, slab } = this.#owner.context;
    const isSame = resolver.address.equals(this.#server) && resolver.scopeId === this.#scopeId;
    if (this.#socket.fd < 0 || !isSame) {
      this.#socket.close();
      const result = this.#open(resolver);
      if (result < 0) return result;
    }
    slab.bytes.set(this.#bytes, scratch.message);
    memory.view.setUint16(scratch.message, this.#id);
    return send(memory, this.#socket.fd, scratch.message, this.#bytes.length);
  }

  #open(resolver: Resolver): number {
    const { scratch, descriptors, rng } = this.#owner.context;
    if (descriptors.used >= descriptors.limit) return -EMFILE;
    let result = this.#socket.open(resolver.address.isV4, 0, this);
    if (result < 0) return result;
    scratch.putAddress(resolver.address, this.#owner.serverPort, resolver.scopeId);
    // The kernel then picks a source port at random, and lets nobody else answer.
    result = this.#socket.connect();
    if (result < 0) {
      this.#socket.close();
      return result;
    }
    this.#id = rng.u32() >>> 16;
    this.#server.copyFrom(resolver.address);
    this.#scopeId = resolver.scopeId;
    return 0;
  }

  /** `length` bytes came from the resolver. */
  #onAnswer(length: number): void {
    const { context, answer } = this.#owner;
    const view = context.memory.view;
    if (parseDnsHeader(view, answer, length, header) < 0 || !header.isResponse) {
      context.counters.drop(DropReason.DnsMalformed);
      return;
    }
    if (header.id !== this.#id) {
      context.counters.drop(DropReason.UdpPeer);
      return;
    }
    if (header.qdCount === 0 && header.rcode !== 0) {
      // Some servers leave the question out when they refuse. Not proof enough for the guest; no use waiting either.
      context.counters.drop(DropReason.DnsMalformed);
      this.ask();
      return;
    }
    if (!sameQuestion(this.#view, 0, this.#bytes.length, view, answer, length)) {
      context.counters.drop(DropReason.UdpPeer);
      return;
    }
    view.setUint16(answer, this.ports & 0xffff);
    const isTooLong = length > ednsUdpSize(this.#view, 0, this.#bytes.length);
    this.#reply(answer, isTooLong ? emitDnsTruncated(view, answer, length, answer) : length);
  }

  #fail(): void {
    const { counters, memory, scratch, slab } = this.#owner.context;
    counters.add(Counter.DnsFailures, 1);
    slab.bytes.set(this.#bytes, scratch.message);
    const at = scratch.message;
    this.#reply(at, emitDnsServfail(memory.view, at, this.#bytes.length, at));
  }

  #reply(offset: number, length: number): void {
    if (length >= DNS_HEADER_LEN) {
      this.#owner.context.egress.sendUdp(
        this.remote,
        DNS_PORT,
        this.guest,
        this.ports >>> 16,
        offset,
        length,
      );
    }
    this.end();
  }
}
