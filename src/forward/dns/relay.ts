/**
 * Queries by TCP to the resolvers, for one who asks (RFC 7766): one connection a resolver, made when it is needed, for any
 * number of queries; answers come in any order. The rules are those of flows.ts: silence, an error, REFUSED, SERVFAIL or
 * NOTIMP → the next resolver too, whoever answers first counts, all say no → the last one's answer, all silent → SERVFAIL.
 * A resolver may end a connection that has served, at any time: what it had not answered is asked again by another.
 *
 * A zone transfer is answered by many messages (RFC 5936 §2.2): the first decides, those behind it are passed on.
 */

import { TimerNode } from '../../loop.ts';
import {
  DNS_HEADER_LEN,
  DnsHeader,
  emitDnsServfail,
  hasQuestion,
  parseDnsHeader,
} from '../../stack/wire/dns.ts';
import { ECONNREFUSED, EMFILE } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { dialAddress } from '../tcp/dial.ts';
import { DnsMessageSocket, type MessageOwner } from './message-socket.ts';

const GIVE_UP_MS = 4500;
const TRY_MS = 1500;
const TYPE_IXFR = 251;
const TYPE_AXFR = 252;

/** Filled and used within one call. */
const header = new DnsHeader();

class Upstream extends DnsMessageSocket {
  /** Something was answered by it: that it ends is no sign of a resolver that does not serve TCP. */
  hasServed = false;
}

class RelayedQuery {
  readonly message: Buffer;
  readonly view: DataView;
  readonly questionEnd: number;
  readonly since: number;
  deadline: number;
  tries = 0;
  failed = 0;
  answered = false;

  constructor(message: Buffer, questionEnd: number, nowMs: number) {
    this.message = message;
    this.view = viewOf(message);
    this.questionEnd = questionEnd;
    this.since = nowMs;
    this.deadline = nowMs;
  }

  get isTransfer(): boolean {
    const type = this.view.getUint16(this.questionEnd - 4);
    return type === TYPE_AXFR || type === TYPE_IXFR;
  }
}

export interface RelayOwner {
  /** An answer to the query with its id, or one of several. */
  onAnswer(message: Buffer): void;
}

export class DnsRelay extends TimerNode implements MessageOwner {
  readonly #context: FlowContext;
  readonly #port: number;
  readonly #owner: RelayOwner;
  /** By id. */
  readonly #queries = new Map<number, RelayedQuery>();
  #outstanding = 0;
  /** By the resolver's place in the list, as of `#version` of it. */
  #upstreams: (Upstream | null)[] = [];
  #version = -1;

  /** Resolvers are asked at `port`. */
  constructor(context: FlowContext, port: number, owner: RelayOwner) {
    super();
    this.#context = context;
    this.#port = port;
    this.#owner = owner;
  }

  /** Queries that wait for an answer. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Ask; a query of the same id is forgotten. The question ends at `questionEnd`. */
  ask(message: Buffer, questionEnd: number): void {
    const id = message.readUInt16BE(0);
    this.forget(id);
    const query = new RelayedQuery(message, questionEnd, this.#context.clock.nowMs);
    this.#queries.set(id, query);
    this.#outstanding++;
    this.#next(query);
  }

  forget(id: number): void {
    if (this.#queries.size === 0) return;
    if (this.#queries.get(id)?.answered === false) this.#outstanding--;
    this.#queries.delete(id);
  }

  close(): void {
    this.#context.timers.cancel(this);
    this.#queries.clear();
    this.#outstanding = 0;
    for (const upstream of this.#upstreams) upstream?.close();
    this.#upstreams = [];
  }

  onTimer(nowMs: number): void {
    for (const query of [...this.#queries.values()]) {
      if (query.answered || query.deadline > nowMs) continue;
      if (nowMs - query.since >= GIVE_UP_MS) this.#fail(query);
      else this.#next(query);
    }
    this.#schedule();
  }

  onMessage(socket: DnsMessageSocket, message: Buffer): void {
    const index = this.#upstreams.indexOf(socket as Upstream);
    const view = viewOf(message);
    if (parseDnsHeader(view, 0, message.length, header) < 0 || !header.isResponse) return;
    const query = this.#queries.get(header.id);
    if (query === undefined) return;
    (socket as Upstream).hasServed = true;
    if (query.answered) {
      // Others that were asked answer too.
      if (query.isTransfer) this.#owner.onAnswer(message);
      return;
    }
    const { saysNo } = header;
    const isSame = hasQuestion(query.view, 0, query.questionEnd, view, 0, message.length);
    if (saysNo || !isSame) {
      query.failed |= 1 << index;
      if (!this.#allFailed(query)) this.#next(query);
      else if (isSame) this.#answer(query, message);
      else this.#fail(query);
      return;
    }
    this.#answer(query, message);
  }

  onDrained(): void {}

  onEnd(socket: DnsMessageSocket): void {
    socket.close();
    const index = this.#upstreams.indexOf(socket as Upstream);
    if (index < 0) return;
    this.#upstreams[index] = null;
    if (!(socket as Upstream).hasServed) this.#tell(index, ECONNREFUSED);
    for (const query of [...this.#queries.values()]) {
      if (query.answered || !this.#wasAsked(query, index)) continue;
      if ((socket as Upstream).hasServed) query.tries = 0;
      else query.failed |= 1 << index;
      if (this.#allFailed(query)) this.#fail(query);
      else this.#next(query);
    }
  }

  #tell(index: number, errno: number): void {
    const { resolvers, denials } = this.#context;
    if (resolvers.count > 0) denials.resolverFailed(resolvers.at(index).address, this.#port, errno, 'tcp');
  }

  #wasAsked(query: RelayedQuery, index: number): boolean {
    return (query.failed & (1 << index)) === 0 && index < query.tries;
  }

  #allFailed(query: RelayedQuery): boolean {
    return query.failed === (1 << this.#context.resolvers.count) - 1;
  }

  /** Ask the next resolver that may answer; SERVFAIL when there is none. */
  #next(query: RelayedQuery): void {
    this.#follow();
    const { resolvers, clock } = this.#context;
    const { count, options } = resolvers;
    const tryMs = Math.min(TRY_MS, options.timeoutMs / Math.max(1, count));
    query.deadline = Math.min(clock.nowMs + tryMs, query.since + GIVE_UP_MS);
    this.#schedule();
    // Over TCP nothing is lost: each is asked once.
    while (query.tries < count) {
      const index = query.tries++;
      if ((query.failed & (1 << index)) !== 0) continue;
      const upstream = this.#upstream(index);
      if (upstream !== null) {
        upstream.send(query.message);
        return;
      }
      query.failed |= 1 << index;
    }
    if (this.#allFailed(query)) this.#fail(query);
  }

  #upstream(index: number): Upstream | null {
    const existing = this.#upstreams[index];
    if (existing !== null && existing !== undefined) return existing;
    const { resolvers, descriptors } = this.#context;
    const { address, scopeId } = resolvers.at(index);
    const hasRoom = descriptors.hasRoom(DescriptorUse.Dns);
    const fd = hasRoom ? dialAddress(this.#context, address, this.#port, scopeId, true) : -EMFILE;
    if (fd < 0) return null;
    const upstream = new Upstream(this.#context, this);
    if (upstream.attach(fd) < 0) return null;
    this.#upstreams[index] = upstream;
    return upstream;
  }

  /** Go by the list of resolvers as it is now. */
  #follow(): void {
    const { version } = this.#context.resolvers;
    if (this.#version === version) return;
    this.#version = version;
    for (const upstream of this.#upstreams) upstream?.close();
    this.#upstreams = [];
    for (const query of this.#queries.values()) {
      query.tries = 0;
      query.failed = 0;
    }
  }

  #answer(query: RelayedQuery, message: Buffer): void {
    query.answered = true;
    this.#outstanding--;
    if (!query.isTransfer) this.#queries.delete(query.view.getUint16(0));
    this.#owner.onAnswer(message);
  }

  #fail(query: RelayedQuery): void {
    this.#tell(0, 0);
    const answer = Buffer.alloc(Math.max(query.questionEnd, DNS_HEADER_LEN));
    query.message.copy(answer);
    emitDnsServfail(viewOf(answer), 0, answer.length, 0);
    this.#answer(query, answer);
  }

  #schedule(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const query of this.#queries.values()) if (!query.answered) next = Math.min(next, query.deadline);
    this.deadline = next;
    if (next === Number.POSITIVE_INFINITY) this.#context.timers.cancel(this);
    else this.#context.timers.update(this);
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
