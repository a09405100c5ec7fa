/** Numbers of requests, each used once. Those that are less than the last thousand or so count as used. */
const KEPT = 1024;

export class FreshIds {
  /** All up to here count as used. */
  #floor = 0;
  #used = new Set<number>();

  /** Whether it was not used yet; it is from now on. */
  use(id: number): boolean {
    if (id <= this.#floor || this.#used.has(id)) return false;
    this.#used.add(id);
    if (this.#used.size > 2 * KEPT) {
      const ids = [...this.#used].sort((a, b) => a - b);
      this.#used = new Set(ids.slice(-KEPT));
      this.#floor = ids.at(-KEPT - 1) ?? 0;
    }
    return true;
  }
}
