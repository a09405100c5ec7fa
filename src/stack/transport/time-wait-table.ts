/**
 * Connections in TIME-WAIT (RFC 9293 §3.6.1), in a form that costs little: a proxy of a busy server has tens of
 * thousands. Old duplicates are answered, a new SYN that proves to be newer takes the place (RFC 6191), and beyond
 * the limit the oldest is forgotten.
 */

import { TimerNode, type Timers } from '../../loop.ts';
import { LruList, type LruNode } from '../buffer/lru.ts';
import { Counter, type Counters } from '../counters.ts';
import type { HalfSipHash } from '../half-sip-hash.ts';
import type { Egress } from '../link/egress.ts';
import { type TimeWait, TimeWaitAnswer } from '../tcp/time-wait.ts';
import type { IpAddress } from '../wire/address.ts';
import { PROTOCOL_TCP, TcpHeader } from '../wire/tcp.ts';
import { FlowTable, type Keyed } from './flow-table.ts';

const TIME_WAIT_MS = 60_000;
const MAX_ENTRIES = 16384;

class TimeWaitEntry implements Keyed, LruNode {
  readonly guest: IpAddress;
  readonly remote: IpAddress;
  readonly ports: number;
  keyHash = 0;
  readonly timeWait: TimeWait;
  readonly endsAt: number;
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;

  constructor(key: Keyed, timeWait: TimeWait, nowMs: number) {
    this.guest = key.guest;
    this.remote = key.remote;
    this.ports = key.ports;
    this.timeWait = timeWait;
    this.endsAt = nowMs + TIME_WAIT_MS;
  }
}

/** What the table needs of those whose connections it keeps. */
export interface TimeWaitOwner {
  readonly clock: { readonly nowMs: number };
  readonly counters: Counters;
  readonly egress: Egress;
  readonly hash: HalfSipHash;
  readonly timers: Timers;
}

export class TimeWaitTable extends TimerNode {
  readonly #context: TimeWaitOwner;
  readonly #table: FlowTable<TimeWaitEntry>;
  /** In order of arrival, which is that of `endsAt`. */
  readonly #byEnd = new LruList();
  readonly #header = new TcpHeader();

  constructor(context: TimeWaitOwner) {
    super();
    this.#context = context;
    this.#table = new FlowTable(context.hash, PROTOCOL_TCP);
  }

  get size(): number {
    return this.#table.size;
  }

  has(guest: IpAddress, remote: IpAddress, ports: number): boolean {
    return this.#table.find(guest, remote, ports) !== null;
  }

  add(key: Keyed, timeWait: TimeWait): void {
    const now = this.#context.clock.nowMs;
    if (this.#table.size >= MAX_ENTRIES) {
      this.#forget(this.#byEnd.oldest as TimeWaitEntry);
      this.#context.counters.add(Counter.TimeWaitEvicted, 1);
    }
    const entry = new TimeWaitEntry(key, timeWait, now);
    this.#table.add(entry);
    this.#byEnd.add(entry);
    this.#arm();
  }

  /**
   * A segment for a connection in TIME-WAIT. True = dealt with; false = it is none of ours, or a SYN that may open a
   * new connection.
   */
  onSegment(guest: IpAddress, remote: IpAddress, ports: number, h: TcpHeader): boolean {
    if (this.#table.size === 0) return false;
    const entry = this.#table.find(guest, remote, ports);
    if (entry === null) return false;
    switch (entry.timeWait.answerTo(h)) {
      case TimeWaitAnswer.Newer:
        this.#forget(entry);
        return false;
      case TimeWaitAnswer.Acknowledge:
        this.#acknowledge(entry);
    }
    return true;
  }

  /** The guest is gone. */
  clear(): void {
    for (let entry = this.#oldest; entry !== null; entry = this.#oldest) this.#forget(entry);
    this.#context.timers.cancel(this);
  }

  onTimer(nowMs: number): void {
    for (let entry = this.#oldest; entry !== null && entry.endsAt <= nowMs; entry = this.#oldest) {
      this.#forget(entry);
    }
    this.#arm();
  }

  #acknowledge(entry: TimeWaitEntry): void {
    const h = this.#header;
    h.srcPort = entry.ports & 0xffff;
    h.dstPort = entry.ports >>> 16;
    entry.timeWait.fillAck(h, this.#context.clock.nowMs);
    this.#context.egress.beginTcp(entry.remote, entry.guest, h);
    this.#context.egress.send();
  }

  get #oldest(): TimeWaitEntry | null {
    return this.#byEnd.oldest as TimeWaitEntry | null;
  }

  #forget(entry: TimeWaitEntry): void {
    this.#table.remove(entry);
    this.#byEnd.remove(entry);
  }

  #arm(): void {
    this.deadline = this.#oldest?.endsAt ?? Number.POSITIVE_INFINITY;
    this.#context.timers.update(this);
  }
}
