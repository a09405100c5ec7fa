/**
 * Datagrams of a guest that wait for their host socket: for a name to be resolved, or for room in a unix socket's queue.
 * Copies, in order. Bounded per queue and, by what all queues of a guest share, in bytes.
 */
import type { Slab } from '../../stack/buffer/slab.ts';

/** Datagrams and payload bytes of one queue. */
const QUEUE_DATAGRAMS = 64;
const QUEUE_BYTES = 256 * 1024;
/** Payload bytes of all queues of a guest. */
const TOTAL_BYTES = 4 * 1024 * 1024;

/** What the queues of a guest hold together. */
export class QueuedTotal {
  bytes = 0;
}

export class DatagramQueue {
  readonly #slab: Slab;
  readonly #total: QueuedTotal;
  #waiting: Uint8Array[] = [];
  #bytes = 0;

  constructor(slab: Slab, total: QueuedTotal) {
    this.#slab = slab;
    this.#total = total;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** Copy the datagram of `length` bytes at `offset` to the end; false: there is no room. */
  add(offset: number, length: number): boolean {
    if (
      this.#waiting.length >= QUEUE_DATAGRAMS ||
      this.#bytes + length > QUEUE_BYTES ||
      this.#total.bytes + length > TOTAL_BYTES
    ) {
      return false;
    }
    this.#waiting.push(this.#slab.bytes.slice(offset, offset + length));
    this.#bytes += length;
    this.#total.bytes += length;
    return true;
  }

  /** Copy the first datagram to `offset`, where there is room for the largest; its length, or -1: there is none. */
  peek(offset: number): number {
    const first = this.#waiting[0];
    if (first === undefined) return -1;
    this.#slab.bytes.set(first, offset);
    return first.length;
  }

  /** Forget the first datagram. */
  shift(): void {
    const first = this.#waiting.shift();
    if (first === undefined) return;
    this.#bytes -= first.length;
    this.#total.bytes -= first.length;
  }

  clear(): void {
    this.#total.bytes -= this.#bytes;
    this.#bytes = 0;
    this.#waiting = [];
  }
}
