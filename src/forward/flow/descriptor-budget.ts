/**
 * How many descriptors the flows of a guest hold, and may. Each use has a share that the others leave to it, so that
 * none can starve another however much of it there is: a guest with thousands of idle connections still has names
 * to resolve. Beyond its share a use takes what nobody's share is.
 *
 * Guests of one data plane take theirs from one pool. The only one may have all; one of several a part of it, and as many as
 * `GUARANTEED` are there for each that has flows, however many the others want (S-9).
 */

/** What descriptors are for. */
export const DescriptorUse = { Tcp: 0, Udp: 1, Ping: 2, Dns: 3 } as const;
export type DescriptorUse = (typeof DescriptorUse)[keyof typeof DescriptorUse];

/** By use, of the limit, and no more than the limits of the flows themselves would need. */
const SHARES = [1 / 4, 1 / 8, 1 / 32, 1 / 16];
const MOST = [4096, 1024, 256, 512];

/** What a guest with flows has for certain. */
const GUARANTEED = 64;
/** What one of several guests may have, of all. */
const PART = 1 / 4;

export class DescriptorPool {
  readonly limit: number;
  used = 0;
  /** Of what guests with flows have for certain, what they do not use, in all. */
  #kept = 0;
  readonly #members = new Set<DescriptorBudget>();

  constructor(limit: number) {
    this.limit = limit;
  }

  /** For one more guest, until it leaves. */
  join(): DescriptorBudget {
    const budget = new DescriptorBudget(this.limit, this);
    this.#members.add(budget);
    this.#divide();
    return budget;
  }

  leave(budget: DescriptorBudget): void {
    if (this.#members.delete(budget)) this.#divide();
  }

  /** Is there one more for a guest that has `used`? */
  hasRoom(used: number): boolean {
    // Whoever begins gets all that it has for certain from then on, or nothing.
    if (used === 0 && this.#members.size > 1) return this.used + this.#kept + GUARANTEED <= this.limit;
    const isCertain = used > 0 && used < GUARANTEED;
    return (isCertain ? this.used : this.used + this.#kept) < this.limit;
  }

  /** A guest that had `used` takes one more. */
  take(used: number): void {
    this.used++;
    if (used === 0) this.#kept += GUARANTEED - 1;
    else if (used < GUARANTEED) this.#kept--;
  }

  /** A guest gives one back and keeps `used`. */
  giveBack(used: number): void {
    this.used--;
    if (used === 0) this.#kept -= GUARANTEED - 1;
    else if (used < GUARANTEED) this.#kept++;
  }

  #divide(): void {
    const part = Math.min(this.limit, Math.max(GUARANTEED, Math.floor(this.limit * PART)));
    for (const budget of this.#members) budget.setLimit(this.#members.size > 1 ? part : this.limit);
  }
}

export class DescriptorBudget {
  limit: number;
  used = 0;
  readonly #usedBy = SHARES.map(() => 0);
  #shares: readonly number[] = [];
  /** Shares that are not used yet, in all. */
  #kept = 0;
  readonly #pool: DescriptorPool;

  constructor(limit: number, pool: DescriptorPool = new DescriptorPool(limit)) {
    this.limit = limit;
    this.#pool = pool;
    this.setLimit(limit);
  }

  setLimit(limit: number): void {
    this.limit = limit;
    this.#shares = SHARES.map((share, use) => Math.min(Math.floor(limit * share), MOST[use] as number));
    this.#kept = 0;
    for (const [use, share] of this.#shares.entries())
      this.#kept += Math.max(0, share - (this.#usedBy[use] as number));
  }

  /** The guest is gone. */
  leave(): void {
    this.#pool.leave(this);
  }

  /** Is there one more for `use`? */
  hasRoom(use: DescriptorUse): boolean {
    if (this.used >= this.limit || !this.#pool.hasRoom(this.used)) return false;
    return (
      (this.#usedBy[use] as number) < (this.#shares[use] as number) || this.used + this.#kept < this.limit
    );
  }

  take(use: DescriptorUse): void {
    this.#pool.take(this.used);
    this.used++;
    if ((this.#usedBy[use] as number)++ < (this.#shares[use] as number)) this.#kept--;
  }

  giveBack(use: DescriptorUse): void {
    this.used--;
    this.#pool.giveBack(this.used);
    if (--(this.#usedBy[use] as number) < (this.#shares[use] as number)) this.#kept++;
  }
}
