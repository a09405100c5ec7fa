/** Datagrams in batches, both ways: the memory they lie in and how they are grouped. */
import { Parts } from '../stack/buffer/byte-queue.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import type { Link } from '../stack/link.ts';
import { MAX_PARTS } from '../stack/link.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { UDP_HEADER_LEN } from '../stack/wire/udp.ts';
import { IOVEC_SIZE, type Memory } from '../sys/memory.ts';
import { MMSGHDR_SIZE, SOCKADDR_SIZE } from '../sys/socket.ts';
import type { FlowContext } from './context.ts';
import { readSockaddr } from './host-scratch.ts';

/** Largest UDP payload over IPv4; a batch may not be larger either. */
const MAX_PAYLOAD = 65507;
/** Segments the kernel takes in one UDP_SEGMENT call or one USO frame (UDP_MAX_SEGMENTS). */
const MAX_SEGMENTS = 64;

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

  /** Take a super-frame of the device: `length` bytes that are datagrams of `size` bytes each. */
  setSegmented(offset: number, length: number, size: number): void {
    this.clear();
    this.parts.add(offset, length);
    this.size = size;
    this.length = length;
    this.closed = true;
  }
}

/** Datagrams received at once: 32 slots of the largest size, of which small datagrams touch only the first page. */
const SLOTS = 32;
const SLOT_SIZE = 65536;

/** Who decides whether a datagram may go on to the guest. */
export interface SenderJudge {
  readonly context: FlowContext;
  /** Datagrams from `src` arrived: let the policy and the guest's address plan judge the sender. */
  mayReceive(src: IpAddress, port: number): boolean;
}

export class ReceiveSlots {
  readonly count: number = SLOTS;
  /** The array of struct mmsghdr. */
  readonly headers: number;
  readonly #memory: Memory;
  readonly #slots: number;
  readonly #names: number;
  readonly #src = new IpAddress();
  readonly #next = new IpAddress();

  constructor(slab: Slab, memory: Memory) {
    this.#memory = memory;
    this.#slots = slab.region(SLOTS * SLOT_SIZE, 4096);
    this.headers = slab.region(SLOTS * MMSGHDR_SIZE);
    this.#names = slab.region(SLOTS * 32);
    const iovecs = slab.region(SLOTS * IOVEC_SIZE);
    for (let i = 0; i < SLOTS; i++) {
      const at = this.headers + i * MMSGHDR_SIZE;
      memory.putIovec(iovecs, i, this.#slots + i * SLOT_SIZE, SLOT_SIZE);
      memory.putPointer(at, this.#names + i * 32, SOCKADDR_SIZE);
      memory.putSize(at + 8, SOCKADDR_SIZE);
      memory.putPointer(at + 16, iovecs + i * IOVEC_SIZE, IOVEC_SIZE);
      memory.putSize(at + 24, 1);
      memory.putSize(at + 32, 0);
      memory.putSize(at + 40, 0);
      memory.putSize(at + 48, 0);
    }
  }

  /** The kernel overwrites the length of each name; set them again. */
  prepare(): void {
    const view = this.#memory.view;
    for (let i = 0; i < SLOTS; i++) view.setUint32(this.headers + i * MMSGHDR_SIZE + 8, SOCKADDR_SIZE, true);
  }

  /** Pass the first `count` datagrams on to (`guest`, `guestPort`). */
  deliver(count: number, guest: IpAddress, guestPort: number, judge: SenderJudge): void {
    const { egress, link } = judge.context;
    let i = 0;
    while (i < count) {
      const port = readSockaddr(this.#memory, this.#names + i * 32, this.#src);
      const length = this.#lengthAt(i);
      const first = i;
      i++;
      if (port < 0 || !judge.mayReceive(this.#src, port)) continue;
      if (link.uso && length > 0 && fitsLink(link, guest.isV4, length)) {
        i = this.#extend(first, count, port, length);
        if (i - first > 1) {
          const parts = egress.parts;
          parts.count = 0;
          let total = 0;
          for (let j = first; j < i; j++) {
            parts.add(this.#slots + j * SLOT_SIZE, this.#lengthAt(j));
            total += this.#lengthAt(j);
          }
          egress.sendUdpBatch(this.#src, port, guest, guestPort, total, length);
          continue;
        }
      }
      egress.sendUdp(this.#src, port, guest, guestPort, this.#slots + first * SLOT_SIZE, length);
    }
  }

  /** One past the last datagram that may travel with datagram `first`. */
  #extend(first: number, count: number, port: number, size: number): number {
    let total = size;
    let i = first + 1;
    while (i < count && i - first < MAX_PARTS) {
      const length = this.#lengthAt(i);
      if (length === 0 || length > size || total + length > MAX_PAYLOAD) break;
      if (
        readSockaddr(this.#memory, this.#names + i * 32, this.#next) !== port ||
        !this.#next.equals(this.#src)
      )
        break;
      total += length;
      i++;
      if (length < size) break;
    }
    return i;
  }

  #lengthAt(i: number): number {
    return this.#memory.view.getUint32(this.headers + i * MMSGHDR_SIZE + 56, true);
  }
}

function fitsLink(link: Link, isV4: boolean, length: number): boolean {
  return length + UDP_HEADER_LEN + (isV4 ? 20 : 40) <= link.mtu;
}
