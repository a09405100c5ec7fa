/**
 * Frames by one read(2) and one write(2) or writev(2) each, on whatever descriptor keeps them apart: a TAP or TUN, a
 * packet socket, which can have many in a call, too (`packets`). The memory for it is the same for all links of a data plane, since only one batch is at hand at a time.
 */
import type { Parts } from '../stack/buffer/byte-queue.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { MAX_PARTS, type TxFrame } from '../stack/link/link.ts';
import { EBADF } from '../sys/errno.ts';
import { read, write, writev } from '../sys/io.ts';
import { IOVEC_SIZE, type Memory } from '../sys/memory.ts';
import { BATCH_FRAMES } from './device-link.ts';
import { PacketBatch } from './packet-batch.ts';

/** 64 KiB of IP packet with every header in front, rounded up to whole system pages. */
const SLOT_SIZE = 69632;
/**
 * Payloads up to this size are copied behind their headers, for one plain write: cheaper than letting the kernel
 * walk an I/O vector.
 */
const COPY_LIMIT = 512;
/** For arguments and answers that do not outlive a call. */
const SCRATCH_BYTES = 8192;

export class FrameIo {
  readonly slab: Slab;
  /** Offset of `scratchSize` bytes. */
  readonly scratch: number;
  readonly scratchSize: number = SCRATCH_BYTES;
  /** Bytes of a slot. */
  readonly slotSize: number = SLOT_SIZE;
  readonly packets: PacketBatch;
  readonly #memory: Memory;
  readonly #slots: number;
  readonly #iovec: number;

  constructor(slab: Slab, memory: Memory) {
    this.slab = slab;
    this.#memory = memory;
    this.#slots = slab.region(BATCH_FRAMES * SLOT_SIZE, 4096);
    this.packets = new PacketBatch(slab, memory, this.#slots, SLOT_SIZE);
    this.scratch = slab.region(SCRATCH_BYTES);
    this.#iovec = memory.structures.region((MAX_PARTS + 1) * IOVEC_SIZE);
  }

  /** Where frame `index` of a batch is read to. */
  slot(index: number): number {
    return this.#slots + index * SLOT_SIZE;
  }

  /** Read one frame into slot `index`: its length, or `-errno`. */
  read(fd: number, index: number): number {
    return read(this.#memory, fd, this.#slots + index * SLOT_SIZE, SLOT_SIZE);
  }

  /** Send `frame`, whose headers are `headLength` bytes at `head`: with the device's own in front. Bytes or `-errno`. */
  write(fd: number, frame: TxFrame, head: number, headLength: number): number {
    if (fd < 0) return -EBADF;
    const { parts } = frame;
    const memory = this.#memory;
    if (frame.payloadLength <= COPY_LIMIT) {
      let end = head + headLength;
      for (let i = 0; i < parts.count; i++) {
        const from = parts.offset[i] as number;
        const length = parts.length[i] as number;
        this.slab.bytes.copyWithin(end, from, from + length);
        end += length;
      }
      return write(memory, fd, head, end - head);
    }
    memory.putIovec(this.#iovec, 0, head, headLength);
    for (let i = 0; i < parts.count; i++) {
      memory.putIovec(this.#iovec, i + 1, parts.offset[i] as number, parts.length[i] as number);
    }
    return writev(memory, fd, this.#iovec, parts.count + 1);
  }

  /** Send a frame that is in `parts` as a whole. Bytes or `-errno`. */
  writeParts(fd: number, parts: Parts): number {
    const memory = this.#memory;
    for (let i = 0; i < parts.count; i++) {
      memory.putIovec(this.#iovec, i, parts.offset[i] as number, parts.length[i] as number);
    }
    return writev(memory, fd, this.#iovec, parts.count);
  }
}
