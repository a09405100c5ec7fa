/**
 * Flows by address: open addressing over the numeric tuple, no key object and no string. The hash is keyed
 * (HalfSipHash), so that a guest cannot choose ports that all collide; the flow found last is tried first, because
 * packets come in trains.
 */
import type { HalfSipHash } from '../half-sip-hash.ts';
import { IpAddress } from '../wire/address.ts';

/** What a table holds. The key must not change while the flow is in a table. */
export interface Keyed {
  readonly guest: IpAddress;
  /** The other end; unspecified in tables keyed by the guest's side alone. */
  readonly remote: IpAddress;
  /** Guest port (or identifier) in the upper 16 bits, remote port in the lower. */
  readonly ports: number;
  /** The key's hash; set by the table. */
  keyHash: number;
  /** Those that the control plane is told of have one. */
  readonly record?: { readonly id: number };
}

const MIN_CAPACITY = 64;
/** Key for tables that ignore the remote end. */
export const ANY_ADDRESS: IpAddress = new IpAddress();

export class FlowTable<F extends Keyed> {
  size = 0;
  #slots: (F | null)[] = new Array<F | null>(MIN_CAPACITY).fill(null);
  #mask: number = MIN_CAPACITY - 1;
  #last: F | null = null;
  readonly #hash: HalfSipHash;
  readonly #protocol: number;

  constructor(hash: HalfSipHash, protocol: number) {
    this.#hash = hash;
    this.#protocol = protocol;
  }

  find(guest: IpAddress, remote: IpAddress, ports: number): F | null {
    const last = this.#last;
    if (last !== null && last.ports === ports && last.guest.equals(guest) && last.remote.equals(remote)) {
      return last;
    }
    let i = this.#hash.tuple(guest, remote, ports, this.#protocol) & this.#mask;
    for (;;) {
      const flow = this.#slots[i] as F | null;
      if (flow === null) return null;
      if (flow.ports === ports && flow.guest.equals(guest) && flow.remote.equals(remote)) {
        this.#last = flow;
        return flow;
      }
      i = (i + 1) & this.#mask;
    }
  }

  /** Add a flow that is not in the table. */
  add(flow: F): void {
    if ((this.size + 1) * 2 > this.#slots.length) this.#resize(this.#slots.length * 2);
    flow.keyHash = this.#hash.tuple(flow.guest, flow.remote, flow.ports, this.#protocol);
    this.#put(flow);
    this.size++;
  }

  /** Remove a flow that is in the table. */
  remove(flow: F): void {
    if (this.#last === flow) this.#last = null;
    const slots = this.#slots;
    let hole = flow.keyHash & this.#mask;
    while (slots[hole] !== flow) {
      if (slots[hole] === null) return;
      hole = (hole + 1) & this.#mask;
    }
    // Backward shift: close the hole so that no probe ends too early.
    let i = hole;
    for (;;) {
      i = (i + 1) & this.#mask;
      const next = slots[i] as F | null;
      if (next === null) break;
      const home = next.keyHash & this.#mask;
      if (((i - home) & this.#mask) >= ((i - hole) & this.#mask)) {
        slots[hole] = next;
        hole = i;
      }
    }
    slots[hole] = null;
    this.size--;
    if (this.#slots.length > MIN_CAPACITY && this.size * 8 < this.#slots.length) {
      this.#resize(this.#slots.length / 2);
    }
  }

  /** Call `visit` for every flow; the table must not be changed meanwhile. */
  forEach(visit: (flow: F) => void): void {
    for (const flow of this.#slots) if (flow !== null) visit(flow);
  }

  /** The flow that the control plane knows by this number, or null. */
  withId(id: number): F | null {
    for (const flow of this.#slots) if (flow !== null && flow.record?.id === id) return flow;
    return null;
  }

  #put(flow: F): void {
    let i = flow.keyHash & this.#mask;
    while (this.#slots[i] !== null) i = (i + 1) & this.#mask;
    this.#slots[i] = flow;
  }

  #resize(capacity: number): void {
    const old = this.#slots;
    this.#slots = new Array<F | null>(capacity).fill(null);
    this.#mask = capacity - 1;
    for (const flow of old) if (flow !== null) this.#put(flow);
  }
}
