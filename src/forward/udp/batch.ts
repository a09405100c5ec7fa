/** Datagrams in batches, both ways: the memory they lie in and how they are grouped. */
import { Parts } from '../../stack/buffer/byte-queue.ts';
import type { Slab } from '../../stack/buffer/slab.ts';
import type { Link } from '../../stack/link/link.ts';
import { MAX_PARTS } from '../../stack/link/link.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { UDP_HEADER_LEN } from '../../stack/wire/udp.ts';
import { IOVEC_SIZE, type Memory } from '../../sys/memory.ts';
import { MMSGHDR_SIZE, msghdrControlLength, putMsghdr, recv, recvmmsg } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { readSockaddr } from '../host/scratch.ts';

/** Largest UDP payload over IPv4; a batch may not be larger either. */
const MAX_PAYLOAD = 65507;
/** Segments every kernel takes in one UDP_SEGMENT call or one USO frame (UDP_MAX_SEGMENTS). */
const MAX_SEGMENTS = 64;
/**
 * Segments of a USO frame that a guest's kernel makes of an honest program's (UDP_MAX_SEGMENTS since Linux 6.9). A packet
 * socket hands over any number: 65,000 datagrams of one byte in one frame would be as many system calls at once (V-02).
 */
const MAX_SUPER_SEGMENTS = 128;

/** Datagrams for one destination, in the order they came. Borrowed memory: sent before the batch of frames ends. */
export class DatagramBatch {
  readonly parts: Parts = new Parts(MAX_SEGMENTS);
  /** Payload bytes of every datagram but the last, which may be shorter. */
  size = 0;
  /** Payload bytes in all. */
  length = 0;
  /** The last one was shorter: nothing may follow it. */
  closed = false;

  clear(): void {
    this.parts.count = 0;
    this.size = 0;
    this.length = 0;
    this.closed = false;
  }

  /** Whether a datagram of `length` bytes may join. */
  fits(length: number): boolean {
    if (this.parts.count === 0) return true;
    return (
      !this.closed &&
      length > 0 &&
      length <= this.size &&
      this.parts.count < MAX_SEGMENTS &&
      this.length + length <= MAX_PAYLOAD
    );
  }

  /** Add a datagram that fits. */
  add(offset: number, length: number): void {
    if (this.parts.count === 0) this.size = length;
    if (length < this.size || length === 0) this.closed = true;
    this.parts.add(offset, length);
    this.length += length;
  }

  /** How many datagrams there are: the pieces, unless a super-frame is one piece with several in it. */
  get count(): number {
    return this.parts.count === 1 && this.size > 0 ? Math.ceil(this.length / this.size) : this.parts.count;
  }

  offsetAt(i: number): number {
    const { offset, count } = this.parts;
    return count === 1 ? (offset[0] as number) + i * this.size : (offset[i] as number);
  }

  lengthAt(i: number): number {
    const { length, count } = this.parts;
    return count === 1 ? Math.min(this.size, this.length - i * this.size) : (length[i] as number);
  }

  /** Forget all but the first one. */
  keepFirst(): void {
    this.length = this.lengthAt(0);
    this.parts.count = 1;
    this.parts.length[0] = this.length;
  }

  /** Take a super-frame of the device: `length` bytes that are datagrams of `size` bytes each. False: too many. */
  setSegmented(offset: number, length: number, size: number): boolean {
    this.clear();
    if (length > size * MAX_SUPER_SEGMENTS) return false;
    this.parts.add(offset, length);
    this.size = size;
    this.length = length;
    this.closed = true;
    return true;
  }
}

/** Datagrams received at once: 32 slots of the largest size, of which small datagrams touch only the first page. */
const SLOTS = 32;
export const SLOT_SIZE = 65536;

/** Who decides whether a datagram may go on to the guest. */
export interface SenderJudge {
  readonly context: FlowContext;
  /**
   * A datagram from (`src`, `port`) arrived: the address that the guest knows the sender by, or null when the policy
   * or the guest's address plan does not let it in. Valid until the next call.
   */
  senderShown(src: IpAddress, port: number): IpAddress | null;
}

export class ReceiveSlots {
  readonly count: number = SLOTS;
  /** The array of struct mmsghdr, among the structures. */
  readonly #headers: number;
  readonly #memory: Memory;
  readonly #payloads: number;
  readonly #names: number;
  readonly #nameSize: number;
  readonly #nameStride: number;
  readonly #controls: number;
  readonly #controlSize: number;
  readonly #src = new IpAddress();
  readonly #next = new IpAddress();
  /** Slots that the last call may have changed. */
  #used = 0;

  /**
   * `payloads` is where the datagrams go: 2 MiB (`payloadRegion`), shared by all whose use does not overlap. Names have
   * at most `nameSize` bytes, ancillary data `controlSize` (a multiple of 8; 0 = none).
   */
  constructor(slab: Slab, memory: Memory, payloads: number, nameSize: number, controlSize: number) {
    this.#memory = memory;
    this.#payloads = payloads;
    this.#nameSize = nameSize;
    this.#nameStride = (nameSize + 7) & ~7;
    this.#controlSize = controlSize;
    this.#headers = memory.structures.region(SLOTS * MMSGHDR_SIZE);
    this.#names = slab.region(SLOTS * this.#nameStride);
    this.#controls = slab.region(SLOTS * controlSize);
    const iovecs = memory.structures.region(SLOTS * IOVEC_SIZE);
    for (let i = 0; i < SLOTS; i++) {
      const at = this.#headers + i * MMSGHDR_SIZE;
      memory.putIovec(iovecs, i, this.payloadAt(i), SLOT_SIZE);
      const iovec = iovecs + i * IOVEC_SIZE;
      putMsghdr(memory, at, this.nameAt(i), nameSize, iovec, 1, this.controlAt(i), controlSize);
    }
  }

  /**
   * Receive from `fd` without waiting; how many datagrams there are now, or `-errno`. Where no more than one is expected and
   * nobody asks for names, by the plain call.
   */
  receive(fd: number, isOne = false): number {
    const { view } = this.#memory.structures;
    if (isOne) {
      const length = recv(this.#memory, fd, this.#payloads, SLOT_SIZE);
      if (length < 0) return length;
      view.setUint32(this.#headers + 56, length, true);
      return 1;
    }
    // Where the kernel put datagrams it has overwritten the lengths of names and ancillary data.
    for (let i = 0; i < this.#used; i++) {
      const at = this.#headers + i * MMSGHDR_SIZE;
      view.setUint32(at + 8, this.#nameSize, true);
      if (this.#controlSize > 0) view.setUint32(at + 40, this.#controlSize, true);
    }
    const count = recvmmsg(this.#memory, fd, this.#headers, SLOTS);
    // One more than there were: it may have come that far before it failed.
    this.#used = Math.min(Math.max(count, 0) + 1, SLOTS);
    return count;
  }

  payloadAt(i: number): number {
    return this.#payloads + i * SLOT_SIZE;
  }

  /** Payload bytes of datagram `i`. */
  lengthAt(i: number): number {
    return this.#memory.structures.view.getUint32(this.#headers + i * MMSGHDR_SIZE + 56, true);
  }

  /** The sender's socket address. */
  nameAt(i: number): number {
    return this.#names + i * this.#nameStride;
  }

  nameLengthAt(i: number): number {
    const { view } = this.#memory.structures;
    return Math.min(view.getUint32(this.#headers + i * MMSGHDR_SIZE + 8, true), this.#nameSize);
  }

  controlAt(i: number): number {
    return this.#controls + i * this.#controlSize;
  }

  controlLengthAt(i: number): number {
    return Math.min(msghdrControlLength(this.#memory, this.#headers + i * MMSGHDR_SIZE), this.#controlSize);
  }

  /** Pass the first `count` datagrams on to (`guest`, `guestPort`), each as from its sender; bytes that were let in. */
  deliver(count: number, guest: IpAddress, guestPort: number, judge: SenderJudge): number {
    const { context } = judge;
    let bytes = 0;
    for (let i = 0, next = 0; i < count; i = next) {
      const port = readSockaddr(this.#memory, this.nameAt(i), this.#src);
      for (next = i + 1; next < count && this.#isFrom(next, port); next++);
      const shown = port < 0 ? null : judge.senderShown(this.#src, port);
      if (shown !== null) bytes += this.pass(i, next, 0, shown, port, guest, guestPort, context);
      else for (let j = i; j < next; j++) context.counters.drop(DropReason.UdpPeer);
    }
    return bytes;
  }

  /**
   * Pass datagrams `first` … `end` - 1 on as from (`src`, `srcPort`), each without its first `skip` bytes; those that
   * follow one another with the same size as one batch where the device takes it. How many bytes there were.
   */
  pass(
    first: number,
    end: number,
    skip: number,
    src: IpAddress,
    srcPort: number,
    dst: IpAddress,
    dstPort: number,
    context: FlowContext,
  ): number {
    const { egress, link } = context;
    let bytes = 0;
    for (let i = first, next = 0; i < end; i = next) {
      const size = this.lengthAt(i) - skip;
      next = i + 1;
      if (size < 0) continue;
      const out = egress.beginUdp(src, srcPort, dst, dstPort);
      out.add(this.payloadAt(i) + skip, size);
      if (link.uso && size > 0 && fitsLink(link, src.isV4, size)) {
        for (let isLast = false; !isLast && next < end && next - i < MAX_PARTS; next++) {
          const length = this.lengthAt(next) - skip;
          if (length <= 0 || length > size || out.payloadLength + length > MAX_PAYLOAD) break;
          out.add(this.payloadAt(next) + skip, length);
          isLast = length < size;
        }
      }
      if (next - i > 1) out.segmentSize = size;
      bytes += out.payloadLength;
      egress.send();
    }
    return bytes;
  }

  /** Whether datagram `i` has the sender (`#src`, `port`). */
  #isFrom(i: number, port: number): boolean {
    return readSockaddr(this.#memory, this.nameAt(i), this.#next) === port && this.#next.equals(this.#src);
  }
}

/** Memory for the datagrams of one `recvmmsg`. */
export function payloadRegion(slab: Slab): number {
  return slab.region(SLOTS * SLOT_SIZE, 4096);
}

function fitsLink(link: Link, isV4: boolean, length: number): boolean {
  return length + UDP_HEADER_LEN + (isV4 ? 20 : 40) <= link.mtu;
}
