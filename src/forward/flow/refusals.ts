/**
 * Destinations that refuse again and again (T-22, U-04). A connect that the host refuses, or a datagram to a port that is
 * closed there, costs ten times what the guest's packet and our answer do, so a guest that keeps asking is answered by us
 * for the rest of the second. Nobody who means it asks hundreds of times a second; and after a second at most the host is
 * asked again.
 *
 * Keys are hashes: a collision makes two destinations share a count. Bounded: a new second, or too many keys, begin anew.
 */
import type { IpAddress } from '../../stack/wire/address.ts';

const WINDOW_MS = 1000;
const REFUSALS = 200;
const MAX_KEYS = 4096;

export class Refusals {
  readonly #counts = new Map<number, number>();
  #startMs = Number.NEGATIVE_INFINITY;

  /** The host refused what was for the destination `key`. */
  note(key: number, nowMs: number): void {
    if (nowMs - this.#startMs >= WINDOW_MS || this.#counts.size >= MAX_KEYS) {
      this.#counts.clear();
      this.#startMs = nowMs;
    }
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** Whether the destination `key` has refused so often that the answer is known. */
  isKnown(key: number, nowMs: number): boolean {
    return nowMs - this.#startMs < WINDOW_MS && (this.#counts.get(key) ?? 0) >= REFUSALS;
  }
}

/** For counting only: a collision merely shares a limit. */
export function destinationKey(address: IpAddress, port: number): number {
  return (
    (Math.imul(address.w0 ^ Math.imul(address.w1, 31) ^ Math.imul(address.w2, 37) ^ address.w3, 65599) ^
      port) >>>
    0
  );
}
