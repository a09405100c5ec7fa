/**
 * How many descriptors the flows of all guests hold, and may. Each use has a share that the others leave to it, so that
 * none can starve another however much of it there is: a guest with thousands of idle connections still has names
 * to resolve. Beyond its share a use takes what nobody's share is.
 */

/** What descriptors are for. */
export const DescriptorUse = { Tcp: 0, Udp: 1, Ping: 2, Dns: 3 } as const;
export type DescriptorUse = (typeof DescriptorUse)[keyof typeof DescriptorUse];

/** By use, of the limit, and no more than the limits of the flows themselves would need. */
const SHARES = [1 / 4, 1 / 8, 1 / 32, 1 / 16];
const MOST = [4096, 1024, 256, 512];

export class DescriptorBudget {
  limit: number;
  used = 0;
  readonly #usedBy = SHARES.map(() => 0);
  readonly #shares: readonly number[];
  /** Shares that are not used yet, in all. */
  #kept = 0;

  constructor(limit: number) {
    this.limit = limit;
    this.#shares = SHARES.map((share, use) => Math.min(Math.floor(limit * share), MOST[use] as number));
    for (const share of this.#shares) this.#kept += share;
  }

  /** Is there one more for `use`? */
  hasRoom(use: DescriptorUse): boolean {
    if (this.used >= this.limit) return false;
    return (
      (this.#usedBy[use] as number) < (this.#shares[use] as number) || this.used + this.#kept < this.limit
    );
  }

  take(use: DescriptorUse): void {
    this.used++;
    if ((this.#usedBy[use] as number)++ < (this.#shares[use] as number)) this.#kept--;
  }

  giveBack(use: DescriptorUse): void {
    this.used--;
    if (--(this.#usedBy[use] as number) < (this.#shares[use] as number)) this.#kept++;
  }
}
