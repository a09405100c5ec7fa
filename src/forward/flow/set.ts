/**
 * The datagram flows of one kind: found by their ends, told of, and giving way to newer ones when there are too many,
 * those first that were used longest ago.
 */

import { LruList } from '../../stack/buffer/lru.ts';
import type { Counter } from '../../stack/counters.ts';
import { RateLimit } from '../../stack/rate-limit.ts';
import { FlowTable } from '../../stack/transport/flow-table.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import type { FlowContext } from './context.ts';
import type { DatagramFlow, DatagramFlowOwner } from './datagram-flow.ts';
import type { DescriptorUse } from './descriptor-budget.ts';
import type { ListedFlow } from './info.ts';

/**
 * UDP flows that give way to newer ones in a second, and at once: closing and opening a socket each. It costs the host far
 * more than the guest, and a flood of it would take the turns of everything else (U-04).
 */
export const MAX_EVICTIONS_PER_SECOND = 8192;
/** The same for pings: with the flows there may be, 10,000 identifiers at once are answered (C-01). */
export const MAX_PING_EVICTIONS_PER_SECOND = 9000;

export interface FlowSetOptions {
  /** Of the IP header. */
  protocol: number;
  /** The limit of how many flows there may be, and what their descriptors count as. */
  most: 'udpMaxFlows' | 'pingMaxFlows';
  use: DescriptorUse;
  /** What counts those that gave way, and how many may in a second. */
  evicted: Counter;
  evictionsPerSecond: number;
}

export class FlowSet<F extends DatagramFlow> implements DatagramFlowOwner {
  readonly context: FlowContext;
  readonly #table: FlowTable<F>;
  readonly #lru = new LruList();
  readonly #most: FlowSetOptions['most'];
  readonly #use: DescriptorUse;
  readonly #evicted: Counter;
  readonly #evictions: RateLimit;

  constructor(context: FlowContext, { protocol, most, use, evicted, evictionsPerSecond }: FlowSetOptions) {
    this.context = context;
    this.#table = new FlowTable(context.hash, protocol);
    this.#most = most;
    this.#use = use;
    this.#evicted = evicted;
    this.#evictions = new RateLimit(evictionsPerSecond, evictionsPerSecond);
  }

  get size(): number {
    return this.#table.size;
  }

  find(guest: IpAddress, remote: IpAddress, ports: number): F | null {
    return this.#table.size === 0 ? null : this.#table.find(guest, remote, ports);
  }

  /** Make room for one more; false: not now. */
  makeRoom(): boolean {
    const { counters, descriptors, clock, limits } = this.context;
    if (this.#table.size < limits[this.#most] && descriptors.hasRoom(this.#use)) return true;
    const oldest = this.#lru.oldest as F | null;
    if (oldest === null || !this.#evictions.allow(clock.nowMs)) return false;
    counters.add(this.#evicted, 1);
    oldest.close();
    return true;
  }

  add(flow: F): void {
    this.#table.add(flow);
    this.#lru.add(flow);
  }

  /** `flow` was used. */
  touch(flow: F): void {
    this.#lru.touch(flow);
  }

  /** `flow` is over. */
  ended(flow: F): void {
    this.#table.remove(flow);
    this.#lru.remove(flow);
  }

  /** Add each flow to `out`. */
  listFlows(out: ListedFlow[]): void {
    this.#table.forEach((flow) => {
      out.push(flow);
    });
  }

  /** End them all. */
  close(): void {
    for (let flow = this.#lru.oldest; flow !== null; flow = this.#lru.oldest) (flow as F).close();
  }

  /** End the flow that the control plane knows by this number; false: there is none. */
  closeFlow(id: number): boolean {
    const flow = this.#table.withId(id);
    flow?.close();
    return flow !== null;
  }
}
