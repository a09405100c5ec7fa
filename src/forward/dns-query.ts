/**
 * One DNS query that waits for its answer, and the socket that asks for the guest.
 *
 * Theory of operation:
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
 */
import { Counter } from '../stack/counters.ts';
import { IpAddress } from '../stack/wire/address.ts';
import {
  DNS_HEADER_LEN,
  DNS_PORT,
  DnsHeader,
  ednsUdpSize,
  emitDnsServfail,
  emitDnsTruncated,
  parseDnsHeader,
  sameQuestion,
} from '../stack/wire/dns.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { EAGAIN, EINTR, EMFILE } from '../sys/errno.ts';
import { recv, send } from '../sys/socket.ts';
import type { FlowContext } from './context.ts';
import type { Keyed } from './flow-table.ts';
import { HostDatagramSocket } from './host-datagram-socket.ts';
import { type IoHandler, TimerNode } from './loop-services.ts';
import type { Resolver } from './resolvers.ts';

/** How often a query is sent, in all. resolv.conf(5) has at most three servers too. */
const MAX_TRIES = 3;
/** How long one try may take. Three of them stay below the 5 s after which clients ask again. */
const TRY_MS = 1500;
/** Bytes a UDP datagram can have at most. */
export const MAX_ANSWER = 65535;
/** Datagrams one query looks at in one turn: a resolver that floods us must not hold up the others. */
const ANSWERS_PER_TURN = 8;

export interface DnsQueryOwner {
  readonly context: FlowContext;
  /** Arena offset of `MAX_ANSWER` bytes, for the answer being looked at. */
  readonly answer: number;
  /** Port that the resolvers are asked at. */
  readonly serverPort: number;
  /** The query is over. */
  ended(query: DnsQuery): void;
}

/** Filled and used within one call; shared by all queries. */
const header = new DnsHeader();

export class DnsQuery extends TimerNode implements IoHandler, Keyed {
  readonly guest: IpAddress;
  readonly remote: IpAddress;
  /** Guest port in the upper 16 bits, the guest's id in the lower. */
  readonly ports: number;
  keyHash = 0;
  readonly #owner: DnsQueryOwner;
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
    owner: DnsQueryOwner,
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
