/**
 * Bytes in order, kept in slab pages: what a connection has to send and may have to send again.
 *
 * Pages are always filled to the end before the next one begins, so byte `i` is found by one division. Bytes come in at
 * the tail (`reserve`, fill the reported parts, `commit`), can be looked at anywhere (`slice`), and leave at the head
 * (`drop`). An empty queue holds no page. Bounded by its user: the queue itself has no limit but the slab's.
 */
import { PAGE_SIZE, type Pages } from './slab.ts';

/** Pieces of arena memory that together make one run of bytes. Borrowed: overwritten by the next call that fills it. */
export class Parts {
  count = 0;
  readonly offset: Int32Array;
  readonly length: Int32Array;

  constructor(capacity: number) {
    this.offset = new Int32Array(capacity);
    this.length = new Int32Array(capacity);
  }

  add(offset: number, length: number): void {
    this.offset[this.count] = offset;
    this.length[this.count] = length;
    this.count++;
  }
}

export class ByteQueue {
  /** Bytes held. */
  length = 0;
  /** Offset of the first byte inside the first page. */
  #start = 0;
  /** Pages in order, from `#first` up to `#last`; moved to the front now and then. An array that keeps its storage. */
  readonly #pages: number[] = [];
  #first = 0;
  #last = 0;
  readonly #slab: Pages;

  constructor(slab: Pages) {
    this.#slab = slab;
  }

  /**
   * Make room for up to `bytes` more and report where it is, in `parts`. Returns the room found, which is less than
   * asked for when memory or the capacity of `parts` runs out. Follow with `commit`.
   */
  reserve(bytes: number, parts: Parts): number {
    parts.count = 0;
    let room = 0;
    const capacity = parts.offset.length;
    let end = this.#start + this.length;
    let index = this.#first + Math.floor(end / PAGE_SIZE);
    while (room < bytes && parts.count < capacity) {
      if (index === this.#last) {
        const page = this.#slab.allocPage();
        if (page < 0) break;
        this.#pages[this.#last++] = page;
      }
      const within = end % PAGE_SIZE;
      const piece = Math.min(PAGE_SIZE - within, bytes - room);
      parts.add((this.#pages[index] as number) + within, piece);
      room += piece;
      end += piece;
      index++;
    }
    return room;
  }

  /** Keep the first `bytes` of what `reserve` reported; pages reserved beyond that go back. */
  commit(bytes: number): void {
    this.length += bytes;
    const needed = this.#first + Math.ceil((this.#start + this.length) / PAGE_SIZE);
    while (this.#last > needed) this.#slab.freePage(this.#pages[--this.#last] as number);
    if (this.length === 0) this.#reset();
  }

  /** Report in `parts` where the `bytes` from `offset` on are; they must be in the queue. */
  slice(offset: number, bytes: number, parts: Parts): void {
    parts.count = 0;
    let at = this.#start + offset;
    let left = bytes;
    while (left > 0) {
      const within = at % PAGE_SIZE;
      const piece = Math.min(PAGE_SIZE - within, left);
      parts.add((this.#pages[this.#first + Math.floor(at / PAGE_SIZE)] as number) + within, piece);
      at += piece;
      left -= piece;
    }
  }

  /** Forget the first `bytes`. */
  drop(bytes: number): void {
    this.length -= bytes;
    if (this.length === 0) {
      this.clear();
      return;
    }
    this.#start += bytes;
    while (this.#start >= PAGE_SIZE) {
      this.#start -= PAGE_SIZE;
      this.#slab.freePage(this.#pages[this.#first] as number);
      this.#first++;
    }
    if (this.#first > 64) {
      this.#pages.copyWithin(0, this.#first, this.#last);
      this.#last -= this.#first;
      this.#first = 0;
    }
  }

  /** Give every page back. */
  clear(): void {
    for (let i = this.#first; i < this.#last; i++) this.#slab.freePage(this.#pages[i] as number);
    this.#reset();
  }

  #reset(): void {
    this.length = 0;
    this.#start = 0;
    this.#first = 0;
    this.#last = 0;
  }
}
