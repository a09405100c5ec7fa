/**
 * Which counters of a session have been seen: a bitmap that moves in whole words (RFC 6479). Counters are numbers below
 * 2^53.
 */

const WORDS = 256;
const BITS = 32;
/** So far behind the greatest counter one may be. */
const WINDOW = (WORDS - 2) * BITS;

export class ReplayWindow {
  readonly #bitmap = new Uint32Array(WORDS);
  #greatest = -1;

  /** Whether `counter` is new enough to be worth opening its packet; `mark` has the last word. */
  mayAccept(counter: number): boolean {
    return counter >= this.#greatest - WINDOW && !this.#isMarked(counter);
  }

  /** `counter` has come with a packet that is the peer's. */
  mark(counter: number): void {
    const word = Math.floor(counter / BITS);
    if (counter > this.#greatest) {
      const last = Math.floor(this.#greatest / BITS);
      const fresh = Math.min(word - last, WORDS);
      for (let i = 0; i < fresh; i++) this.#bitmap[(word - i) % WORDS] = 0;
      this.#greatest = counter;
    }
    this.#bitmap[word % WORDS]! |= 1 << (counter % BITS);
  }

  #isMarked(counter: number): boolean {
    if (counter > this.#greatest) return false;
    const word = this.#bitmap[Math.floor(counter / BITS) % WORDS]!;
    return (word & (1 << (counter % BITS))) !== 0;
  }
}
