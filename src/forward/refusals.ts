/**
 * Destinations that refuse again and again (T-22). A connect that the host refuses costs ten times what the guest's SYN
 * and our RST do, so a guest that keeps asking is answered by us for the rest of the second. Nobody who means it asks
 * hundreds of times a second; and after a second at most the host is asked again.
 *
 * Keys are hashes: a collision makes two destinations share a count. Bounded: a new second, or too many keys, begin anew.
 */
const WINDOW_MS = 1000;
const REFUSALS = 200;
const MAX_KEYS = 4096;

export class Refusals {
  readonly #counts = new Map<number, number>();
  #startMs = Number.NEGATIVE_INFINITY;

  /** The host refused a connect to the destination `key`. */
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
