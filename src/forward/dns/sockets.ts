/**
 * The sockets by which a resolver is asked over UDP. RFC 5452 §9.2: whoever wants to forge an answer has to guess the id
 * and the source port, so both are random, and a port serves for few queries or a short time; the kernel chooses it, and as
 * the socket is connected lets nobody but the resolver answer.
 *
 * A handful of sockets a resolver, chosen among at random for each turn of the loop, so that the queries of a batch leave in
 * one call and their answers come in one. A socket that is used up takes no more queries and stays for those it has;
 * `sweep` closes the others when they have grown old.
 */

import type { IoHandler } from '../../loop.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { EMFILE } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { HostDatagramSocket } from '../host/datagram-socket.ts';
import type { Resolver } from '../target/resolvers.ts';

/** Sockets that take queries, for each resolver. */
const SOCKETS = 8;
/** Queries that a socket takes, and for how long. */
const QUERIES = 128;
const LIFE_MS = 10_000;

export interface DnsSocketOwner {
  readonly context: FlowContext;
  readonly serverPort: number;
  /** A number that no open socket has, or hardly any. */
  nextNumber(): number;
  /** There may be answers, or an error, on `socket`. */
  onReadable(socket: DnsSocket): void;
}

export class DnsSocket extends HostDatagramSocket implements IoHandler {
  readonly resolver: ResolverSockets;
  /** Tells it from others that are open. */
  readonly number: number;
  waiting = false;
  uses = 0;
  openedMs = 0;
  /** Kept by `DnsAsks`: queries that wait for an answer, and the newest of them. */
  outstanding = 0;
  newest = -1;
  /** Takes no more queries. */
  retired = false;
  readonly #owner: DnsSocketOwner;

  constructor(owner: DnsSocketOwner, resolver: ResolverSockets, number: number) {
    super(owner.context, DescriptorUse.Dns);
    this.#owner = owner;
    this.resolver = resolver;
    this.number = number;
  }

  /** Open and connect it; 0 or `-errno`. */
  start(): number {
    const { resolver, context } = this;
    let result = this.open(resolver.address, 0, this, true);
    if (result < 0) return result;
    context.scratch.putAddress(resolver.address, this.#owner.serverPort, resolver.scopeId);
    result = this.connect();
    if (result < 0) this.close();
    this.openedMs = context.clock.nowMs;
    return result;
  }

  onIo(_events: number): void {
    if (this.fd >= 0) this.#owner.onReadable(this);
  }

  retire(): void {
    this.retired = true;
    this.closeIfDone();
  }

  closeIfDone(): void {
    if (this.retired && this.outstanding === 0) this.close();
  }
}

export class ResolverSockets {
  readonly address: IpAddress;
  readonly scopeId: number;
  readonly #owner: DnsSocketOwner;
  readonly #sockets: (DnsSocket | null)[] = new Array<DnsSocket | null>(SOCKETS).fill(null);
  /** The one that this turn's queries go by. */
  #current: DnsSocket | null = null;
  #currentTurn = -1;
  /** Why the last `take` gave none: `-errno`. */
  error = 0;

  constructor(owner: DnsSocketOwner, { address, scopeId }: Resolver) {
    this.#owner = owner;
    this.address = new IpAddress();
    this.address.copyFrom(address);
    this.scopeId = scopeId;
  }

  is({ address, scopeId }: Resolver): boolean {
    return this.scopeId === scopeId && this.address.equals(address);
  }

  /** A socket for one more query; null and `error` when none can be had. */
  take(): DnsSocket | null {
    const { clock, rng } = this.#owner.context;
    let socket = this.#currentTurn === clock.turn ? this.#current : null;
    if (socket === null || !isFresh(socket, clock.nowMs)) {
      socket = this.#at(rng.u32() % SOCKETS);
      this.#current = socket;
      this.#currentTurn = clock.turn;
    }
    if (socket !== null) socket.uses++;
    return socket;
  }

  /** Close what is old and waits for nothing; whether any are left. */
  sweep(nowMs: number): boolean {
    let isAny = false;
    for (let i = 0; i < SOCKETS; i++) {
      const socket = this.#sockets[i];
      if (socket === null || socket === undefined) continue;
      if (nowMs - socket.openedMs >= LIFE_MS) this.#retire(i);
      else isAny = true;
    }
    return isAny;
  }

  /** No more queries: each socket is closed as soon as it waits for nothing. */
  close(): void {
    for (let i = 0; i < SOCKETS; i++) this.#retire(i);
  }

  #retire(i: number): void {
    this.#sockets[i]?.retire();
    this.#sockets[i] = null;
    this.#current = null;
  }

  #at(i: number): DnsSocket | null {
    const { context } = this.#owner;
    const old = this.#sockets[i] ?? null;
    if (old !== null && isFresh(old, context.clock.nowMs)) return old;
    let result = -EMFILE;
    if (context.descriptors.hasRoom(DescriptorUse.Dns)) {
      const socket = new DnsSocket(this.#owner, this, this.#owner.nextNumber());
      result = socket.start();
      if (result >= 0) {
        this.#retire(i);
        this.#sockets[i] = socket;
        return socket;
      }
    }
    this.error = result;
    if (result !== -EMFILE) return null;
    // No descriptors: a port that is used longer than it should be is better than no name service.
    return this.#sockets.find((socket) => socket !== null) ?? null;
  }
}

function isFresh(socket: DnsSocket, nowMs: number): boolean {
  return socket.fd >= 0 && socket.uses < QUERIES && nowMs - socket.openedMs < LIFE_MS;
}
