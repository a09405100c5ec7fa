/**
 * A TCP receive queue: bytes in order that the reader has not taken yet, and bytes that came ahead of a gap.
 *
 *   | in order, readable | gap | range | gap | range |
 *   0                    ^ readable
 *
 * Offsets are relative to the first unread byte. Ranges are kept sorted and disjoint; the first copy of a byte wins
 * (T-10). Bytes live in slab pages that exist only where data is, so a peer can make us hold no more than the pages its
 * window covers; the number of ranges is bounded by the caller's limit (T-15).
 */
import type { Parts } from './byte-queue.ts';
import { PAGE_SIZE, type Pages } from './slab.ts';

const HOLE = -1;

export class ReassemblyQueue {
  /** Bytes in order, ready to be taken. */
  readable = 0;
  /** Bytes held beyond the first gap. */
  outOfOrder = 0;
  readonly #slab: Pages;
  #start = 0;
  #pages: number[] = [];
  /** Sorted, disjoint, non-adjacent; offsets relative to the first unread byte, all > readable. */
  readonly #rangeStart: number[] = [];
  readonly #rangeEnd: number[] = [];

  constructor(slab: Pages) {
    this.#slab = slab;
  }

  get rangeCount(): number {
    return this.#rangeStart.length;
  }

  /** Start of range `i` (0 = nearest), relative to the first unread byte. */
  rangeStartAt(i: number): number {
    return this.#rangeStart[i] as number;
  }

  rangeEndAt(i: number): number {
    return this.#rangeEnd[i] as number;
  }

  get isEmpty(): boolean {
    return this.readable === 0 && this.outOfOrder === 0;
  }

  /**
   * Store `length` bytes found at arena offset `source` as the bytes from `offset` on. Bytes that are there already
   * stay. Returns false, with nothing changed, when a new range would exceed `maxRanges` or memory is out.
   */
  insert(offset: number, source: number, length: number, maxRanges: number): boolean {
    let from = Math.max(offset, this.readable);
    const end = offset + length;
    if (from >= end) return true;
    const starts = this.#rangeStart;
    const ends = this.#rangeEnd;
    // First range that touches or follows the new bytes.
    let i = 0;
    while (i < starts.length && (ends[i] as number) < from) i++;
    const touches = i < starts.length && (starts[i] as number) <= end;
    const inOrder = from === this.readable;
    if (!touches && !inOrder && starts.length >= maxRanges) return false;
    if (!this.#ensurePages(from, end)) return false;

    // Copy only into the gaps, and swallow every range the new bytes touch.
    let newStart = from;
    let newEnd = end;
    let last = i;
    while (last < starts.length && (starts[last] as number) <= end) {
      const rangeStart = starts[last] as number;
      const rangeEnd = ends[last] as number;
      if (from < rangeStart) this.#copyIn(from, source + (from - offset), Math.min(rangeStart, end) - from);
      from = Math.max(from, rangeEnd);
      newStart = Math.min(newStart, rangeStart);
      newEnd = Math.max(newEnd, rangeEnd);
      this.outOfOrder -= rangeEnd - rangeStart;
      last++;
    }
    if (from < end) this.#copyIn(from, source + (from - offset), end - from);
    if (inOrder) {
      starts.splice(i, last - i);
      ends.splice(i, last - i);
      this.readable = newEnd;
    } else {
      starts.splice(i, last - i, newStart);
      ends.splice(i, last - i, newEnd);
      this.outOfOrder += newEnd - newStart;
    }
    return true;
  }

  /** Report up to `bytes` readable bytes in `parts`, from the first unread one; how many were reported. */
  peek(bytes: number, parts: Parts): number {
    parts.count = 0;
    const wanted = Math.min(bytes, this.readable);
    let at = this.#start;
    let left = wanted;
    while (left > 0 && parts.count < parts.offset.length) {
      const within = at % PAGE_SIZE;
      const piece = Math.min(PAGE_SIZE - within, left);
      parts.add((this.#pages[Math.floor(at / PAGE_SIZE)] as number) + within, piece);
      at += piece;
      left -= piece;
    }
    return wanted - left;
  }

  /** The reader took the first `bytes`. */
  consume(bytes: number): void {
    this.readable -= bytes;
    for (let i = 0; i < this.#rangeStart.length; i++) {
      (this.#rangeStart[i] as number) -= bytes;
      (this.#rangeEnd[i] as number) -= bytes;
    }
    if (this.isEmpty) {
      this.clear();
      return;
    }
    this.#start += bytes;
    let gone = 0;
    while (this.#start >= PAGE_SIZE) {
      this.#start -= PAGE_SIZE;
      const page = this.#pages[gone++] as number;
      if (page !== HOLE) this.#slab.freePage(page);
    }
    if (gone > 0) this.#pages.splice(0, gone);
  }

  /**
   * Memory is out: let go of what came ahead of the gap (RFC 2018 §8 allows it), so that what fills the gap finds room.
   */
  discardOutOfOrder(): void {
    const kept = this.readable === 0 ? 0 : Math.ceil((this.#start + this.readable) / PAGE_SIZE);
    while (this.#pages.length > kept) {
      const page = this.#pages.pop() as number;
      if (page !== HOLE) this.#slab.freePage(page);
    }
    this.#rangeStart.length = 0;
    this.#rangeEnd.length = 0;
    this.outOfOrder = 0;
    if (this.readable === 0) this.#start = 0;
  }

  clear(): void {
    for (const page of this.#pages) if (page !== HOLE) this.#slab.freePage(page);
    this.#pages.length = 0;
    this.#rangeStart.length = 0;
    this.#rangeEnd.length = 0;
    this.readable = 0;
    this.outOfOrder = 0;
    this.#start = 0;
  }

  #ensurePages(from: number, end: number): boolean {
    const firstPage = Math.floor((this.#start + from) / PAGE_SIZE);
    const lastPage = Math.floor((this.#start + end - 1) / PAGE_SIZE);
    while (this.#pages.length <= lastPage) this.#pages.push(HOLE);
    for (let i = firstPage; i <= lastPage; i++) {
      if (this.#pages[i] !== HOLE) continue;
      const page = this.#slab.allocPage();
      // Pages taken so far stay: they lie inside the window and go with the queue.
      if (page < 0) return false;
      this.#pages[i] = page;
    }
    return true;
  }

  #copyIn(offset: number, source: number, length: number): void {
    let at = this.#start + offset;
    let from = source;
    let left = length;
    while (left > 0) {
      const within = at % PAGE_SIZE;
      const piece = Math.min(PAGE_SIZE - within, left);
      const target = (this.#pages[Math.floor(at / PAGE_SIZE)] as number) + within;
      this.#slab.bytes.copyWithin(target, from, from + piece);
      at += piece;
      from += piece;
      left -= piece;
    }
  }
}
