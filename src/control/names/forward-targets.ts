/**
 * Targets of remote forwards that are given by name: looked up when a flow asks, and kept for a while.
 *
 * A result younger than the time to live serves every flow; flows that ask meanwhile share one look-up, so a guest cannot
 * make us ask faster than the server answers. When a look-up fails, the last good result is used for another period: a
 * name server that is away takes nothing down. With a time to live of 0 nothing is ever used again, and the flow fails.
 *
 * As many entries as there are labels in the configuration.
 */
import type { Endpoint, GuestConfig } from '../../config.ts';
import { Resolver } from './resolver.ts';
import { reservedFloor } from './rule-names.ts';

export type Lookup = (label: string, port: number) => Promise<Endpoint>;

interface Entry {
  good: Endpoint | undefined;
  checkedAtMs: number;
  pending: Promise<Endpoint> | undefined;
}

export class ForwardTargets {
  readonly #lookup: Lookup;
  readonly #ttlMs: number;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();

  constructor(lookup: Lookup, ttlMs: number, now: () => number = () => performance.now()) {
    this.#lookup = lookup;
    this.#ttlMs = ttlMs;
    this.#now = now;
  }

  /** Rejects as the look-up does. */
  resolve(label: string, port: number): Promise<Endpoint> {
    const key = `${port} ${label}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { good: undefined, checkedAtMs: 0, pending: undefined };
      this.#entries.set(key, entry);
    }
    if (entry.good !== undefined && this.#now() - entry.checkedAtMs < this.#ttlMs) {
      return Promise.resolve(entry.good);
    }
    entry.pending ??= this.#refresh(entry, label, port);
    return entry.pending;
  }

  async #refresh(entry: Entry, label: string, port: number): Promise<Endpoint> {
    try {
      const found = await this.#lookup(label, port);
      if (this.#ttlMs > 0) entry.good = found;
      return found;
    } catch (error) {
      if (entry.good === undefined) throw error;
      return entry.good;
    } finally {
      entry.checkedAtMs = this.#now();
      entry.pending = undefined;
    }
  }
}

/** Targets as the configuration wants them found. */
export function forwardTargets({ targetNames, policy }: GuestConfig): ForwardTargets {
  const floor = targetNames.allowReserved ? undefined : reservedFloor(policy.guestNetworks);
  const resolver = new Resolver(floor === undefined ? {} : { floor });
  return new ForwardTargets((label, port) => resolver.resolve(label, port), targetNames.ttlMs);
}
