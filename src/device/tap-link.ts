/**
 * A TUN or TAP device as a `Link`: one read(2) per frame into a slot, one write(2) or writev(2) per frame out.
 *
 * With IFF_VNET_HDR every frame has a virtio-net header in front (`VNET_HEADER_LEN` bytes), by which the kernel leaves
 * checksums and segmentation to us and we to it: a frame may then be a super-segment of 64 KiB at any MTU.
 *
 * Frames are read in batches into consecutive slots, which stay valid until the next batch: datagrams of one batch can
 * so be gathered into one system call.
 */
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { emitVnet, VNET_HEADER_LEN } from '../stack/wire/vnet-header.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EBADF } from '../sys/errno.ts';
import { read, write, writev } from '../sys/io.ts';
import { IOVEC_SIZE, type Memory } from '../sys/memory.ts';
import { BATCH_FRAMES, type DeviceLink } from './device-link.ts';

/** 64 KiB of IP packet with every header in front, rounded up to whole system pages. */
const SLOT_SIZE = 69632;
/**
 * Payloads up to this size are copied behind their headers, for one plain write: cheaper than letting the kernel
 * walk an I/O vector.
 */
const COPY_LIMIT = 512;
/** Payload pieces in an I/O vector, and the headers. */
const MAX_PIECES = 65;

/** How a device is to be spoken to. */
export interface TapProperties {
  medium: 'ethernet' | 'ip';
  /** Bytes of IP packet, as the interface says at first. */
  mtu: number;
  /** The device carries a virtio-net header on every frame. */
  vnetHeader: boolean;
  /** What the kernel accepted with TUNSETOFFLOAD. */
  checksumOffload: boolean;
  tso: boolean;
  uso: boolean;
}

export class TapLink implements DeviceLink {
  readonly medium: 'ethernet' | 'ip';
  /** Follows the interface. */
  mtu: number;
  readonly checksumOffload: boolean;
  readonly tso: boolean;
  readonly uso: boolean;
  readonly isLocal = true;
  readonly endsWithPeer = false;
  readonly waiting = false;
  readonly full = false;
  readonly #descriptor: Descriptor;
  readonly #memory: Memory;
  readonly #slab: Slab;
  readonly #vnet: number;
  readonly #slots: number;
  readonly #iovec: number;

  /** Takes over `fd`, which is non-blocking. */
  constructor(fd: number, properties: TapProperties, slab: Slab, memory: Memory) {
    this.#descriptor = new Descriptor(fd);
    this.medium = properties.medium;
    this.mtu = properties.mtu;
    this.#vnet = properties.vnetHeader ? VNET_HEADER_LEN : 0;
    this.checksumOffload = properties.vnetHeader && properties.checksumOffload;
    this.tso = this.checksumOffload && properties.tso;
    this.uso = this.checksumOffload && properties.uso;
    this.#slab = slab;
    this.#memory = memory;
    this.#slots = slab.region(BATCH_FRAMES * SLOT_SIZE, 4096);
    this.#iovec = memory.structures.region(MAX_PIECES * IOVEC_SIZE);
  }

  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Bytes of virtio-net header in front of every frame. */
  get vnetLength(): number {
    return this.#vnet;
  }

  /** Where slot `index` (0 … BATCH_FRAMES - 1) begins; the frame follows the virtio-net header there. */
  slot(index: number): number {
    return this.#slots + index * SLOT_SIZE;
  }

  /** Read one frame into slot `index`: its length with the virtio-net header, or `-errno`. */
  receive(index: number): number {
    return read(this.#memory, this.fd, this.slot(index), SLOT_SIZE);
  }

  transmit(frame: TxFrame): number {
    const { fd } = this.#descriptor;
    if (fd < 0) return -EBADF;
    const vnet = this.#vnet;
    let head = frame.headOffset;
    let headLength = frame.headLength;
    if (vnet > 0) {
      head -= vnet;
      headLength += vnet;
      if (frame.offload.flags === 0) this.#slab.bytes.fill(0, head, head + vnet);
      else this.#putOffload(frame, head);
    }
    const parts = frame.parts;
    if (frame.payloadLength <= COPY_LIMIT) {
      let end = head + headLength;
      for (let i = 0; i < parts.count; i++) {
        const from = parts.offset[i] as number;
        const length = parts.length[i] as number;
        this.#slab.bytes.copyWithin(end, from, from + length);
        end += length;
      }
      return write(this.#memory, fd, head, end - head);
    }
    const memory = this.#memory;
    memory.putIovec(this.#iovec, 0, head, headLength);
    for (let i = 0; i < parts.count; i++) {
      memory.putIovec(this.#iovec, i + 1, parts.offset[i] as number, parts.length[i] as number);
    }
    return writev(memory, fd, this.#iovec, parts.count + 1);
  }

  /** A device takes everything at once, or not at all. */
  flush(): void {
    return;
  }

  close(): void {
    this.#descriptor.close();
  }

  #putOffload(frame: TxFrame, at: number): void {
    const offload = frame.offload;
    if (offload.gsoType === 0) {
      offload.gsoSize = 0;
      offload.hdrLen = 0;
    }
    emitVnet(this.#slab.view, at, offload);
  }
}
