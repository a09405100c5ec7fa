/**
 * Which bytes in flight the peer holds already (RFC 2018 SACK). Sorted, disjoint ranges; at most `MAX_RANGES`, because
 * the peer decides how many there are (T-14). Blocks that make no sense are ignored.
 */
import { type Seq, seqDiff, seqLt } from './seq.ts';

const MAX_RANGES = 256;

export class Scoreboard {
  /** Bytes held by the peer beyond the cumulative acknowledgment. */
  sacked = 0;
  readonly #left: Seq[] = [];
  readonly #right: Seq[] = [];

  get isEmpty(): boolean {
    return this.#left.length === 0;
  }

  /** One past the highest byte the peer reported; only valid when not empty. */
  get highest(): Seq {
    return this.#right[this.#right.length - 1] as number;
  }

  /** Enter a block. Returns how many bytes were news; 0 for nonsense (outside una…nxt, empty) and duplicates. */
  add(left: Seq, right: Seq, sndUna: Seq, sndNxt: Seq): number {
    if (!seqLt(left, right) || seqLt(left, sndUna) || seqLt(sndNxt, right)) return 0;
    const lefts = this.#left;
    const rights = this.#right;
    let i = 0;
    while (i < lefts.length && seqLt(rights[i] as number, left)) i++;
    let newLeft = left;
    let newRight = right;
    let swallowed = 0;
    let last = i;
    while (last < lefts.length && !seqLt(right, lefts[last] as number)) {
      const l = lefts[last] as number;
      const r = rights[last] as number;
      if (seqLt(l, newLeft)) newLeft = l;
      if (seqLt(newRight, r)) newRight = r;
      swallowed += seqDiff(r, l);
      last++;
    }
    if (last === i && lefts.length >= MAX_RANGES) return 0;
    const news = seqDiff(newRight, newLeft) - swallowed;
    if (news > 0 || last - i > 1) {
      lefts.splice(i, last - i, newLeft);
      rights.splice(i, last - i, newRight);
    }
    this.sacked += news;
    return news;
  }

  /** Everything below `sndUna` is acknowledged for good. */
  advance(sndUna: Seq): void {
    const lefts = this.#left;
    const rights = this.#right;
    let gone = 0;
    while (gone < lefts.length && !seqLt(sndUna, rights[gone] as number)) {
      this.sacked -= seqDiff(rights[gone] as number, lefts[gone] as number);
      gone++;
    }
    if (gone > 0) {
      lefts.splice(0, gone);
      rights.splice(0, gone);
    }
    if (lefts.length > 0 && seqLt(lefts[0] as number, sndUna)) {
      this.sacked -= seqDiff(sndUna, lefts[0] as number);
      lefts[0] = sndUna;
    }
  }

  /** The first byte at or after `from` that the peer did not report. */
  skip(from: Seq): Seq {
    for (let i = 0; i < this.#left.length; i++) {
      if (seqLt(from, this.#left[i] as number)) return from;
      if (seqLt(from, this.#right[i] as number)) return this.#right[i] as number;
    }
    return from;
  }

  /** How many bytes from `from` on are missing at the peer, up to `limit`; `from` itself must be missing. */
  holeLength(from: Seq, limit: Seq): number {
    for (let i = 0; i < this.#left.length; i++) {
      const left = this.#left[i] as number;
      if (seqLt(from, left)) return seqLt(left, limit) ? seqDiff(left, from) : seqDiff(limit, from);
    }
    return seqDiff(limit, from);
  }

  clear(): void {
    this.#left.length = 0;
    this.#right.length = 0;
    this.sacked = 0;
  }
}
