/**
 * DNS over UDP at the stack's own DNS addresses: every query of the guest is asked again, by the host, at the host's
 * resolvers. RFC 1035, RFC 5452 (what makes an answer believable), RFC 5625 (how a forwarder behaves), RFC 2181 §9, and
 * resolv.conf(5): what the host's own libc finds, the guest finds, and no later.
 *
 *   query → kept in a slot → a socket of the first resolver, a fresh id → answer checked → the guest's id put back → guest
 *   silence, an error, REFUSED, SERVFAIL or NOTIMP → also the next resolver; whoever answers first counts
 *   all say no → the last one's answer; nobody says anything for 4.5 s → SERVFAIL
 *
 * Where libc itself would wait longer, the query lingers: a guest that asks the same again takes it over, and what the
 * resolver says to the first question answers the second. Ids are written into the frame that the guest sent, and into the
 * datagram that the resolver sent; records are never read or changed, except that an answer larger than the guest can take
 * becomes one without records and with TC set: the guest then asks over TCP.
 *
 * Limits: `dnsMaxOutstanding` queries of at most 4 KiB; the oldest gives way, without a word, for its guest will ask again
 * and a refusal would be final. Left out on purpose: a cache; opcodes other than QUERY (NOTIMP: a resolver might trust the
 * host's address with an UPDATE or NOTIFY).
 */

import { TimerNode } from '../../loop.ts';
import { Counter } from '../../stack/counters.ts';
import type { Packet } from '../../stack/link/packet.ts';
import {
  DNS_PORT,
  DNS_RCODE_FORMERR,
  DNS_RCODE_NOTIMP,
  DnsHeader,
  ednsUdpSize,
  emitDnsServfail,
  hasQuestion,
  parseDnsHeader,
  questionEnd,
} from '../../stack/wire/dns.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { UDP_HEADER_LEN, type UdpHeader } from '../../stack/wire/udp.ts';
import type { FlowContext } from '../flow/context.ts';
import { DnsAsker, type DnsAskerOwner } from './asker.ts';
import { DnsQueries, NO_SLOT } from './queries.ts';
import { DnsStreams } from './streams.ts';

/** Bytes of a query. Real ones have less than 300; also the size of `HostScratch.message`. */
const MAX_QUERY = 4096;
/** How long a resolver may be silent before the next one is asked too, unless resolv.conf(5) has less patience. */
const TRY_MS = 1500;
/** When the guest is told, within the 5 s after which clients ask again. */
const GIVE_UP_MS = 4500;
/** Queries that the guest was told SERVFAIL of and that a resolver may yet answer. */
const MAX_LINGERING = 64;
/** Old sockets are looked for this often. */
const SWEEP_MS = 1000;

/** Filled and used within one call; shared by all guests. */
const header = new DnsHeader();

export class DnsFlows extends TimerNode implements DnsAskerOwner {
  readonly context: FlowContext;
  readonly serverPort: number;
  readonly #queries: DnsQueries;
  readonly #asker: DnsAsker;
  readonly #streams: DnsStreams;
  #rotation = 0;
  #sweepMs = Number.POSITIVE_INFINITY;

  /** A `serverPort` other than 53 is for tests without privileges. */
  constructor(context: FlowContext, serverPort: number = DNS_PORT) {
    super();
    this.context = context;
    this.serverPort = serverPort;
    this.#queries = new DnsQueries(context.hash, context.limits.dnsMaxOutstanding);
    this.#asker = new DnsAsker(this, this.#queries);
    this.#streams = new DnsStreams(context, serverPort);
  }

  /** Queries that wait for an answer. */
  get size(): number {
    return this.#queries.waiting.size;
  }

  /** A socket connected to the service over TCP, for a connection of the guest; `-errno`. */
  dial(): number {
    return this.#streams.dial();
  }

  /** A datagram of the guest to port 53 of a DNS address. Everything passed is borrowed, the frame until `flush`. */
  onQuery(p: Packet, h: UdpHeader): void {
    const { counters, memory, slab } = this.context;
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
    const end = length > MAX_QUERY ? -1 : questionEnd(view, at, length);
    if (end < 0) {
      counters.drop(DropReason.DnsMalformed);
      this.#refuse(p, h, DNS_RCODE_FORMERR);
      return;
    }
    counters.add(Counter.DnsQueries, 1);
    const queries = this.#queries;
    const ports = ((h.srcPort << 16) | header.id) >>> 0;
    const earlier = queries.find(p.src, p.dst, ports);
    if (earlier !== NO_SLOT) {
      if (
        hasQuestion(
          queries.view,
          queries.at(earlier),
          queries.questionEnd[earlier] as number,
          view,
          at,
          length,
        )
      )
        return;
      // The guest has used its id again, so it does not wait for that answer any more.
      this.end(earlier);
    }
    this.#asker.follow();
    const again = queries.lingering.size === 0 ? NO_SLOT : queries.findLingering(slab.bytes, at, length);
    if (again !== NO_SLOT) {
      this.#begin(again, p, ports);
      this.#asker.ask(again, -1);
      return;
    }
    if (queries.isFull) this.#makeRoom();
    const slot = queries.add(slab.bytes, at, length);
    queries.questionEnd[slot] = end;
    queries.udpSize[slot] = ednsUdpSize(view, at, length);
    queries.start[slot] = this.context.resolvers.options.rotate ? this.#rotation++ & 0xff : 0;
    this.#begin(slot, p, ports);
    this.#asker.ask(slot, at);
    // Reassembled bytes lie where the next datagram will be put together.
    if (p.reassembled) this.#asker.flush();
  }

  /** Send what the frames of a batch brought, before their memory is used again. */
  flush(): void {
    this.#asker.flush();
  }

  /** The guest is gone: nobody waits for answers any more. */
  close(): void {
    const { waiting, lingering } = this.#queries;
    while (waiting.size > 0) this.end(waiting.first);
    while (lingering.size > 0) this.end(lingering.first);
    this.#asker.close();
    this.#streams.close();
    this.context.timers.cancel(this);
  }

  onTimer(nowMs: number): void {
    const queries = this.#queries;
    this.#asker.follow();
    for (let slot = queries.waiting.first; slot !== NO_SLOT; slot = queries.waiting.first) {
      if ((queries.deadline[slot] as number) > nowMs) break;
      if (nowMs - (queries.since[slot] as number) >= GIVE_UP_MS) {
        this.fail(slot);
      } else {
        queries.deadline[slot] = nowMs + this.#tryMs();
        queries.waiting.remove(slot);
        queries.waiting.add(slot);
        this.#asker.ask(slot, -1);
      }
    }
    if (nowMs >= this.#sweepMs) this.#sweep(nowMs);
    this.#schedule();
  }

  /** Nobody answers. A query that some resolver may yet answer stays, for a guest that asks it again. */
  fail(slot: number): void {
    const { counters, memory, scratch, slab, clock, resolvers } = this.context;
    const queries = this.#queries;
    if (queries.isLingering(slot)) {
      this.end(slot);
      return;
    }
    counters.add(Counter.DnsFailures, 1);
    if (resolvers.count > 0) {
      const { address } = resolvers.at(queries.start[slot] as number);
      this.context.denials.resolverFailed(address, this.serverPort, 0);
    }
    const at = scratch.message;
    const length = queries.copyTo(slot, slab.bytes, at);
    memory.view.setUint16(at, (queries.ports[slot] as number) & 0xffff);
    this.reply(slot, at, emitDnsServfail(memory.view, at, length, at));
    const end = (queries.since[slot] as number) + resolvers.patienceMs;
    if (end <= clock.nowMs || !this.#asker.isAsked(slot)) {
      this.end(slot);
      return;
    }
    if (queries.lingering.size === MAX_LINGERING) this.end(queries.lingering.first);
    queries.deadline[slot] = end;
    queries.linger(slot);
  }

  reply(slot: number, at: number, length: number): void {
    const queries = this.#queries;
    const port = (queries.ports[slot] as number) >>> 16;
    const { egress } = this.context;
    egress.beginUdp(queries.remote(slot), DNS_PORT, queries.guest(slot), port).add(at, length);
    egress.send();
  }

  end(slot: number): void {
    this.#asker.forget(slot);
    this.#queries.remove(slot);
  }

  /** From now on there is a socket to be closed some time. */
  socketUsed(): void {
    if (this.#sweepMs !== Number.POSITIVE_INFINITY) return;
    this.#sweepMs = this.context.clock.nowMs + SWEEP_MS;
    this.#schedule();
  }

  /** The guest of `p` waits for the query in `slot` from now on. */
  #begin(slot: number, p: Packet, ports: number): void {
    const queries = this.#queries;
    const { nowMs } = this.context.clock;
    queries.since[slot] = nowMs;
    queries.deadline[slot] = nowMs + this.#tryMs();
    queries.tries[slot] = 0;
    queries.failed[slot] = 0;
    queries.await(slot, p.src, p.dst, ports);
    if ((queries.deadline[slot] as number) < this.deadline) this.#schedule();
  }

  /** The time between two tries: all resolvers within the time that clients with the host's options wait, say. */
  #tryMs(): number {
    const { resolvers } = this.context;
    const most = Math.min(TRY_MS, resolvers.options.timeoutMs / Math.max(1, resolvers.count));
    // As many of them as make the whole.
    return GIVE_UP_MS / Math.ceil(GIVE_UP_MS / most);
  }

  /** Too many: the oldest gives way. Its guest will ask again. */
  #makeRoom(): void {
    const { waiting, lingering } = this.#queries;
    this.context.counters.drop(DropReason.DnsLimit);
    this.end(lingering.size > 0 ? lingering.first : waiting.first);
  }

  /** Answer the query in `p` with an error. */
  #refuse(p: Packet, h: UdpHeader, rcode: number): void {
    const { egress, memory, scratch } = this.context;
    const at = p.offset + UDP_HEADER_LEN;
    // Header and question at most, whatever the length of the query.
    const length = emitDnsServfail(memory.view, at, h.length - UDP_HEADER_LEN, scratch.message, rcode);
    egress.beginUdp(p.dst, h.dstPort, p.src, h.srcPort).add(scratch.message, length);
    egress.send();
  }

  #sweep(nowMs: number): void {
    const { lingering, deadline } = this.#queries;
    for (
      let slot = lingering.first;
      slot !== NO_SLOT && (deadline[slot] as number) <= nowMs;
      slot = lingering.first
    )
      this.end(slot);
    const isAny = this.#asker.sweep(nowMs) || lingering.size > 0;
    this.#sweepMs = isAny ? nowMs + SWEEP_MS : Number.POSITIVE_INFINITY;
  }

  #schedule(): void {
    const { waiting, deadline } = this.#queries;
    const next = waiting.first === NO_SLOT ? Number.POSITIVE_INFINITY : (deadline[waiting.first] as number);
    this.deadline = Math.min(next, this.#sweepMs);
    if (this.deadline === Number.POSITIVE_INFINITY) this.context.timers.cancel(this);
    else this.context.timers.update(this);
  }
}
