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
import { Counter } from '../stack/counters.ts';
import type { Packet } from '../stack/packet.ts';
import {
  DNS_PORT,
  DNS_RCODE_FORMERR,
  DNS_RCODE_NOTIMP,
  DNS_RCODE_REFUSED,
  DNS_RCODE_SERVFAIL,
  DnsHeader,
  ednsUdpSize,
  emitDnsServfail,
  emitDnsTruncated,
  hasQuestion,
  parseDnsHeader,
  questionEnd,
} from '../stack/wire/dns.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { UDP_HEADER_LEN, type UdpHeader } from '../stack/wire/udp.ts';
import { EAGAIN, ECONNREFUSED, EINTR, EMFILE, ENOBUFS } from '../sys/errno.ts';
import { send } from '../sys/socket.ts';
import type { FlowContext } from './context.ts';
import { DnsAsks, NO_ASK } from './dns-asks.ts';
import { DnsOutbox, type OutboxOwner } from './dns-outbox.ts';
import { DnsQueries, NO_SLOT } from './dns-queries.ts';
import { DnsRelay, type RelayOwner } from './dns-relay.ts';
import { type DnsSocket, type DnsSocketOwner, ResolverSockets } from './dns-sockets.ts';
import { DnsStreams } from './dns-streams.ts';
import { isPendingError } from './host-datagram-socket.ts';
import { TimerNode } from './loop-services.ts';
import { ReceiveSlots } from './udp-batch.ts';

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
/** Calls that receive in one turn: a resolver that floods us must not hold up the others. */
const RECEIVES_PER_TURN = 8;

/** Filled and used within one call; shared by all guests. */
const header = new DnsHeader();

export class DnsFlows extends TimerNode implements DnsSocketOwner, OutboxOwner, RelayOwner {
  readonly context: FlowContext;
  readonly serverPort: number;
  readonly #queries: DnsQueries;
  readonly #asks: DnsAsks;
  readonly #outbox: DnsOutbox;
  readonly #slots: ReceiveSlots;
  readonly #streams: DnsStreams;
  /** For resolvers that are to be asked by TCP only; ids are slots. */
  readonly #relay: DnsRelay;
  /** Those of the resolvers, in their order, as of `#version` of the list. */
  #resolvers: ResolverSockets[] = [];
  #version = -1;
  #rotation = 0;
  #lastNumber = 0;
  #sweepMs = Number.POSITIVE_INFINITY;

  /** `payloads` is as for `ReceiveSlots`. A `serverPort` other than 53 is for tests without privileges. */
  constructor(context: FlowContext, payloads: number, serverPort: number = DNS_PORT) {
    super();
    const { hash, limits, rng, slab, memory } = context;
    this.context = context;
    this.serverPort = serverPort;
    this.#queries = new DnsQueries(hash, limits.dnsMaxOutstanding);
    this.#asks = new DnsAsks(rng, limits.dnsMaxOutstanding);
    this.#outbox = new DnsOutbox(this);
    this.#slots = new ReceiveSlots(slab, memory, payloads, 0, 0);
    this.#streams = new DnsStreams(context, payloads, serverPort);
    this.#relay = new DnsRelay(context, payloads, serverPort, this);
  }

  /** Queries that wait for an answer. */
  get size(): number {
    return this.#queries.waiting.size;
  }

  /** A socket connected to the service over TCP, for a connection of the guest; `-errno`. */
  dial(): number {
    return this.#streams.dial();
  }

  nextNumber(): number {
    return ++this.#lastNumber;
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
      this.#end(earlier);
    }
    this.#follow();
    const again = queries.lingering.size === 0 ? NO_SLOT : queries.findLingering(slab.bytes, at, length);
    if (again !== NO_SLOT) {
      this.#begin(again, p, ports);
      this.#ask(again, -1);
      return;
    }
    if (queries.isFull) this.#makeRoom();
    const slot = queries.add(slab.bytes, at, length);
    queries.questionEnd[slot] = end;
    queries.udpSize[slot] = ednsUdpSize(view, at, length);
    queries.start[slot] = this.context.resolvers.options.rotate ? this.#rotation++ & 0xff : 0;
    this.#begin(slot, p, ports);
    this.#ask(slot, at);
    // Reassembled bytes lie where the next datagram will be put together.
    if (p.reassembled) this.flush();
  }

  /** Send what the frames of a batch brought, before their memory is used again. */
  flush(): void {
    this.#outbox.flush();
  }

  onReadable(socket: DnsSocket): void {
    for (let i = 0; i < RECEIVES_PER_TURN; i++) {
      const isOne = socket.outstanding <= 1;
      const count = this.#slots.receive(socket.fd, isOne);
      if (count === -EAGAIN) return;
      if (count > 0) {
        this.#onAnswers(socket, count);
        if (socket.fd < 0 || (isOne ? socket.outstanding === 0 : count < this.#slots.count)) return;
      } else if (count !== -EINTR) {
        // Port unreachable, for one: this resolver will not answer.
        this.onRefused(socket, 0);
        if (socket.fd < 0) return;
      }
    }
    this.context.poller.ready(socket);
  }

  onRefused(socket: DnsSocket, but: number): void {
    let ask = socket.newest;
    for (let i = 0; i < but && ask !== NO_ASK; i++) ask = this.#asks.earlier(ask);
    while (ask !== NO_ASK) ask = this.#giveUp(ask);
  }

  onUnsent(socket: DnsSocket, count: number): void {
    let ask = socket.newest;
    for (let i = 0; i < count && ask !== NO_ASK; i++) ask = this.#giveUp(ask);
  }

  onTimer(nowMs: number): void {
    const queries = this.#queries;
    this.#follow();
    for (let slot = queries.waiting.first; slot !== NO_SLOT; slot = queries.waiting.first) {
      if ((queries.deadline[slot] as number) > nowMs) break;
      if (nowMs - (queries.since[slot] as number) >= GIVE_UP_MS) {
        this.#fail(slot);
      } else {
        queries.deadline[slot] = nowMs + this.#tryMs();
        queries.waiting.remove(slot);
        queries.waiting.add(slot);
        this.#ask(slot, -1);
      }
    }
    if (nowMs >= this.#sweepMs) this.#sweep(nowMs);
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

  /**
   * Ask the next resolver, and the one after it where that cannot be; SERVFAIL when there is none. The query lies at `frame`
   * with room for an id of ours, or is to be taken from its slot where that is -1.
   */
  #ask(slot: number, frame: number): void {
    const { resolvers, memory, counters } = this.context;
    if (resolvers.options.useTcp && resolvers.count > 0) {
      this.#askByTcp(slot);
      return;
    }
    const { tries, start, failed } = this.#queries;
    const count = resolvers.count;
    const most = Math.min(255, count * resolvers.options.attempts);
    while ((tries[slot] as number) < most) {
      const index = ((start[slot] as number) + (tries[slot] as number)) % count;
      tries[slot] = (tries[slot] as number) + 1;
      if (((failed[slot] as number) & (1 << index)) !== 0) continue;
      const resolver = this.#resolvers[index] as ResolverSockets;
      // Nobody else to ask: the same datagram again, so that the answer to either counts.
      let ask = this.#asks.ofResolver(slot, resolver);
      const isNew = ask === NO_ASK;
      if (isNew) {
        const socket = resolver.take();
        if (socket === null && resolver.error === -EMFILE) counters.drop(DropReason.DnsLimit);
        ask = socket === null ? NO_ASK : this.#asks.add(slot, socket);
        if (ask === NO_ASK) {
          failed[slot] = (failed[slot] as number) | (1 << index);
          continue;
        }
        if (this.#sweepMs === Number.POSITIVE_INFINITY) {
          this.#sweepMs = this.context.clock.nowMs + SWEEP_MS;
          this.#schedule();
        }
      }
      if (frame < 0) {
        this.#send(ask, isNew);
      } else {
        memory.view.setUint16(frame, this.#asks.idOf(ask));
        this.#outbox.add(this.#asks.socketOf(ask), frame, this.#queries.length[slot] as number);
      }
      return;
    }
    if (count === 0 || !this.#asks.isAsked(slot)) this.#fail(slot);
  }

  #askByTcp(slot: number): void {
    const queries = this.#queries;
    // The relay sees to the other resolvers.
    if (queries.tries[slot] !== 0) return;
    queries.tries[slot] = 1;
    const message = Buffer.alloc(queries.length[slot] as number);
    queries.copyTo(slot, message, 0);
    message.writeUInt16BE(slot, 0);
    this.#relay.ask(message, queries.questionEnd[slot] as number);
  }

  onAnswer(message: Buffer): void {
    const { memory, slab } = this.context;
    const slot = message.readUInt16BE(0);
    const at = this.#slots.payloadAt(0);
    slab.bytes.set(message, at);
    memory.view.setUint16(at, (this.#queries.ports[slot] as number) & 0xffff);
    const isTooLong = message.length > (this.#queries.udpSize[slot] as number);
    this.#reply(slot, at, isTooLong ? emitDnsTruncated(memory.view, at, message.length, at) : message.length);
    this.#end(slot);
  }

  /** Send a query from its slot. */
  #send(ask: number, isNew: boolean): void {
    // What counts queries from the newest on must not be taken by surprise.
    this.#outbox.flush();
    const { memory, scratch, slab } = this.context;
    const socket = this.#asks.socketOf(ask);
    const at = scratch.message;
    const length = this.#queries.copyTo(this.#asks.slotOf(ask), slab.bytes, at);
    memory.view.setUint16(at, this.#asks.idOf(ask));
    let result = send(memory, socket.fd, at, length);
    const wasRefused = isPendingError(result);
    if (wasRefused) result = send(memory, socket.fd, at, length);
    if (result < 0 && result !== -EAGAIN && result !== -ENOBUFS && result !== -EINTR)
      this.#giveUp(ask, -result);
    else if (wasRefused) this.onRefused(socket, isNew ? 1 : 0);
  }

  /** There will be no answer to `ask`: the next resolver. The one that was asked before it on the same socket. */
  #giveUp(ask: number, errno: number = ECONNREFUSED): number {
    const { address } = this.#asks.socketOf(ask).resolver;
    this.context.denials.resolverFailed(address, this.serverPort, errno);
    const earlier = this.#asks.earlier(ask);
    const slot = this.#asks.slotOf(ask);
    if (this.#saidNo(ask)) this.#fail(slot);
    else this.#askOther(slot);
    return earlier;
  }

  /** Its resolver is out; whether all are. */
  #saidNo(ask: number): boolean {
    this.#follow();
    const slot = this.#asks.slotOf(ask);
    const index = this.#resolvers.indexOf(this.#asks.socketOf(ask).resolver);
    this.#asks.remove(ask);
    const { failed } = this.#queries;
    if (index >= 0) failed[slot] = (failed[slot] as number) | (1 << index);
    return failed[slot] === (1 << this.context.resolvers.count) - 1;
  }

  /** One resolver is out: ask one that was not asked yet, unless that is for the timer to do. */
  #askOther(slot: number): void {
    const queries = this.#queries;
    if (queries.isLingering(slot)) {
      if (!this.#asks.isAsked(slot)) this.#end(slot);
    } else if ((queries.tries[slot] as number) < this.context.resolvers.count || !this.#asks.isAsked(slot)) {
      this.#ask(slot, -1);
    }
  }

  /** Datagrams came from the resolver: those that follow one another for the same port of the guest leave together. */
  #onAnswers(socket: DnsSocket, count: number): void {
    let first = 0;
    let run = NO_SLOT;
    for (let i = 0; i < count; i++) {
      const slot = this.#judge(socket, this.#slots.payloadAt(i), this.#slots.lengthAt(i));
      if (run !== NO_SLOT && (slot === NO_SLOT || !this.#isSameEnd(slot, run))) {
        this.#deliver(first, i, run);
        run = NO_SLOT;
      }
      if (slot === NO_SLOT) continue;
      if (run === NO_SLOT) {
        first = i;
        run = slot;
      }
      // Its ends stay readable until the slot is used again.
      this.#end(slot);
    }
    if (run !== NO_SLOT) this.#deliver(first, count, run);
  }

  #isSameEnd(a: number, b: number): boolean {
    const { ports } = this.#queries;
    return (
      (ports[a] as number) >>> 16 === (ports[b] as number) >>> 16 &&
      this.#queries.guest(a).equals(this.#queries.guest(b)) &&
      this.#queries.remote(a).equals(this.#queries.remote(b))
    );
  }

  #deliver(first: number, end: number, slot: number): void {
    const { ports } = this.#queries;
    const guest = this.#queries.guest(slot);
    const remote = this.#queries.remote(slot);
    this.#slots.pass(first, end, 0, remote, DNS_PORT, guest, (ports[slot] as number) >>> 16, this.context);
  }

  /** What came is an answer, with the guest's id in its place: the query's slot. `NO_SLOT`: nothing to pass on as it is. */
  #judge(socket: DnsSocket, at: number, length: number): number {
    const { counters, memory } = this.context;
    const view = memory.view;
    const queries = this.#queries;
    if (parseDnsHeader(view, at, length, header) < 0 || !header.isResponse) {
      counters.drop(DropReason.DnsMalformed);
      return NO_SLOT;
    }
    const ask = this.#asks.find(socket, header.id);
    if (ask === NO_ASK) {
      counters.drop(DropReason.UdpPeer);
      return NO_SLOT;
    }
    const { rcode } = header;
    if (header.qdCount === 0 && rcode !== 0) {
      // Some servers leave the question out when they refuse. Not proof enough for the guest; no use waiting either.
      counters.drop(DropReason.DnsMalformed);
      this.#giveUp(ask);
      return NO_SLOT;
    }
    const slot = this.#asks.slotOf(ask);
    if (!hasQuestion(queries.view, queries.at(slot), queries.questionEnd[slot] as number, view, at, length)) {
      counters.drop(DropReason.UdpPeer);
      return NO_SLOT;
    }
    if (queries.isLingering(slot)) {
      this.#end(slot);
      return NO_SLOT;
    }
    const isNo = rcode === DNS_RCODE_SERVFAIL || rcode === DNS_RCODE_NOTIMP || rcode === DNS_RCODE_REFUSED;
    if (isNo && !this.#saidNo(ask)) {
      this.#askOther(slot);
      return NO_SLOT;
    }
    const ports = queries.ports[slot] as number;
    view.setUint16(at, ports & 0xffff);
    if (length <= (queries.udpSize[slot] as number)) return slot;
    this.#reply(slot, at, emitDnsTruncated(view, at, length, at));
    this.#end(slot);
    return NO_SLOT;
  }

  /** Nobody answers. A query that some resolver may yet answer stays, for a guest that asks it again. */
  #fail(slot: number): void {
    const { counters, memory, scratch, slab, clock, resolvers } = this.context;
    const queries = this.#queries;
    if (queries.isLingering(slot)) {
      this.#end(slot);
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
    this.#reply(slot, at, emitDnsServfail(memory.view, at, length, at));
    const end = (queries.since[slot] as number) + resolvers.patienceMs;
    if (end <= clock.nowMs || !this.#asks.isAsked(slot)) {
      this.#end(slot);
      return;
    }
    if (queries.lingering.size === MAX_LINGERING) this.#end(queries.lingering.first);
    queries.deadline[slot] = end;
    queries.linger(slot);
  }

  /** Too many: the oldest gives way. Its guest will ask again. */
  #makeRoom(): void {
    const { waiting, lingering } = this.#queries;
    this.context.counters.drop(DropReason.DnsLimit);
    this.#end(lingering.size > 0 ? lingering.first : waiting.first);
  }

  #reply(slot: number, at: number, length: number): void {
    const queries = this.#queries;
    const port = (queries.ports[slot] as number) >>> 16;
    this.context.egress.sendUdp(queries.remote(slot), DNS_PORT, queries.guest(slot), port, at, length);
  }

  #end(slot: number): void {
    this.#asks.removeAll(slot);
    this.#relay.forget(slot);
    this.#queries.remove(slot);
  }

  /** Answer the query in `p` with an error. */
  #refuse(p: Packet, h: UdpHeader, rcode: number): void {
    const { egress, memory, scratch } = this.context;
    const at = p.offset + UDP_HEADER_LEN;
    // Header and question at most, whatever the length of the query.
    const length = emitDnsServfail(memory.view, at, h.length - UDP_HEADER_LEN, scratch.message, rcode);
    egress.sendUdp(p.dst, h.dstPort, p.src, h.srcPort, scratch.message, length);
  }

  /** Go by the list of resolvers as it is now; what waits for others begins anew at its next try. */
  #follow(): void {
    const { resolvers } = this.context;
    if (this.#version === resolvers.version) return;
    this.#version = resolvers.version;
    const old = this.#resolvers;
    const kept: ResolverSockets[] = [];
    for (let i = 0; i < resolvers.count; i++) {
      const resolver = resolvers.at(i);
      kept.push(old.find((sockets) => sockets.is(resolver)) ?? new ResolverSockets(this, resolver));
    }
    this.#resolvers = kept;
    for (const sockets of old) if (!kept.includes(sockets)) sockets.close();
    const { waiting, tries, failed } = this.#queries;
    for (let slot = waiting.first; slot !== NO_SLOT; slot = waiting.after(slot)) {
      tries[slot] = 0;
      failed[slot] = 0;
    }
  }

  #sweep(nowMs: number): void {
    const { lingering, deadline } = this.#queries;
    for (
      let slot = lingering.first;
      slot !== NO_SLOT && (deadline[slot] as number) <= nowMs;
      slot = lingering.first
    )
      this.#end(slot);
    let isAny = lingering.size > 0;
    for (const resolver of this.#resolvers) if (resolver.sweep(nowMs)) isAny = true;
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
