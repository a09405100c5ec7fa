/**
 * The resolvers' side of DNS: which of them a query is put to next, by which socket and id, and what of all that comes back
 * is an answer. Theory and rules are at the head of flows.ts.
 */
import { DNS_PORT, DnsHeader, emitDnsTruncated, hasQuestion, parseDnsHeader } from '../../stack/wire/dns.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { EAGAIN, ECONNREFUSED, EINTR, EMFILE, ENOBUFS } from '../../sys/errno.ts';
import { send } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { isPendingError } from '../host/datagram-socket.ts';
import type { ReceiveSlots } from '../udp/batch.ts';
import { DnsAsks, NO_ASK } from './asks.ts';
import { DnsOutbox, type OutboxOwner } from './outbox.ts';
import { type DnsQueries, NO_SLOT } from './queries.ts';
import { DnsRelay, type RelayOwner } from './relay.ts';
import { type DnsSocket, type DnsSocketOwner, ResolverSockets } from './sockets.ts';

/** Calls that receive in one turn: a resolver that floods us must not hold up the others. */
const RECEIVES_PER_TURN = 8;

/** Filled and used within one call; shared by all guests. */
const header = new DnsHeader();

export interface DnsAskerOwner {
  readonly context: FlowContext;
  /** Port that the resolvers are asked at. */
  readonly serverPort: number;
  /** Nobody will answer the query in `slot`. */
  fail(slot: number): void;
  /** Send the guest the answer of `length` bytes at `at`. */
  reply(slot: number, at: number, length: number): void;
  /** The query in `slot` is over. */
  end(slot: number): void;
  /** A query goes by a socket that `sweep` is to close some time. */
  socketUsed(): void;
}

export class DnsAsker implements DnsSocketOwner, OutboxOwner, RelayOwner {
  readonly context: FlowContext;
  readonly serverPort: number;
  readonly #owner: DnsAskerOwner;
  readonly #queries: DnsQueries;
  readonly #asks: DnsAsks;
  readonly #outbox: DnsOutbox;
  readonly #slots: ReceiveSlots;
  /** For resolvers that are to be asked by TCP only; ids are slots. */
  readonly #relay: DnsRelay;
  /** Those of the resolvers, in their order, as of `#version` of the list. */
  #resolvers: ResolverSockets[] = [];
  #version = -1;
  #lastNumber = 0;

  constructor(owner: DnsAskerOwner, queries: DnsQueries) {
    const { context, serverPort } = owner;
    const { rng, scratch } = context;
    this.#owner = owner;
    this.#queries = queries;
    this.context = context;
    this.serverPort = serverPort;
    this.#asks = new DnsAsks(rng);
    this.#outbox = new DnsOutbox(this);
    this.#slots = scratch.plainSlots;
    this.#relay = new DnsRelay(context, serverPort, this);
  }

  nextNumber(): number {
    return ++this.#lastNumber;
  }

  /** Some resolver may yet answer the query in `slot`. */
  isAsked(slot: number): boolean {
    return this.#asks.isAsked(slot);
  }

  /** No answer to the query in `slot` is of use any more. */
  forget(slot: number): void {
    this.#asks.removeAll(slot);
    this.#relay.forget(slot);
  }

  /** Close sockets that are old; whether there are others. */
  sweep(nowMs: number): boolean {
    let isAny = false;
    for (const resolver of this.#resolvers) if (resolver.sweep(nowMs)) isAny = true;
    return isAny;
  }

  /** Go by the list of resolvers as it is now; what waits for others begins anew at its next try. */
  follow(): void {
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

  /**
   * Ask the next resolver, and the one after it where that cannot be; SERVFAIL when there is none. The query lies at `frame`
   * with room for an id of ours, or is to be taken from its slot where that is -1.
   */
  ask(slot: number, frame: number): void {
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
        this.#owner.socketUsed();
      }
      if (frame < 0) {
        this.#send(ask, isNew);
      } else {
        memory.view.setUint16(frame, this.#asks.idOf(ask));
        this.#outbox.add(this.#asks.socketOf(ask), frame, this.#queries.length[slot] as number);
      }
      return;
    }
    if (count === 0 || !this.#asks.isAsked(slot)) this.#owner.fail(slot);
  }

  /** Send what the frames of a batch brought, before their memory is used again. */
  flush(): void {
    this.#outbox.flush();
  }

  /** No more queries, and those that there were have been forgotten. */
  close(): void {
    for (const resolver of this.#resolvers) resolver.close();
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

  onAnswer(message: Buffer): void {
    const { memory, slab } = this.context;
    const slot = message.readUInt16BE(0);
    const at = this.#slots.payloadAt(0);
    slab.bytes.set(message, at);
    memory.view.setUint16(at, (this.#queries.ports[slot] as number) & 0xffff);
    const isTooLong = message.length > (this.#queries.udpSize[slot] as number);
    this.#owner.reply(
      slot,
      at,
      isTooLong ? emitDnsTruncated(memory.view, at, message.length, at) : message.length,
    );
    this.#owner.end(slot);
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
    if (this.#saidNo(ask)) this.#owner.fail(slot);
    else this.#askOther(slot);
    return earlier;
  }

  /** Its resolver is out; whether all are. */
  #saidNo(ask: number): boolean {
    this.follow();
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
      if (!this.#asks.isAsked(slot)) this.#owner.end(slot);
    } else if ((queries.tries[slot] as number) < this.context.resolvers.count || !this.#asks.isAsked(slot)) {
      this.ask(slot, -1);
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
      this.#owner.end(slot);
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
      this.#owner.end(slot);
      return NO_SLOT;
    }
    if (header.saysNo && !this.#saidNo(ask)) {
      this.#askOther(slot);
      return NO_SLOT;
    }
    const ports = queries.ports[slot] as number;
    view.setUint16(at, ports & 0xffff);
    if (length <= (queries.udpSize[slot] as number)) return slot;
    this.#owner.reply(slot, at, emitDnsTruncated(view, at, length, at));
    this.#owner.end(slot);
    return NO_SLOT;
  }
}
