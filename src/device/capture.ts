/**
 * Wraps a link and keeps a record of every frame, in the order in which the stack saw them.
 *
 * Checksums that were left to the device (virtio 1.2 §5.1.6.2) are finished in the record, as a sniffer behind the device
 * would see them; the frame itself is not touched. A super-segment is recorded as it is, one large packet whose checksum
 * covers all of it: what is in the file is then what the stack did, and every reader takes it.
 */
import type { Slab } from '../stack/buffer/slab.ts';
import type { Link, TxFrame } from '../stack/link.ts';
import { checksum, sumBytes } from '../stack/wire/checksum.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM, type VnetHeader } from '../stack/wire/vnet-header.ts';
import { LINKTYPE_ETHERNET, LINKTYPE_RAW, type PcapOptions, PcapWriter } from './pcap-writer.ts';

/** Position of the checksum in a UDP header: tells UDP from the others, for it alone must not have a sum of zero. */
const UDP_CHECKSUM_OFF = 6;

export class CaptureLink implements Link {
  readonly #link: Link;
  readonly #slab: Slab;
  readonly #writer: PcapWriter;

  /** Creates the file, or throws (see {@link PcapWriter}). Takes `PCAP_BUFFER_BYTES` of the slab's fixed regions. */
  constructor(link: Link, slab: Slab, path: string, options: Omit<PcapOptions, 'linkType'> = {}) {
    this.#link = link;
    this.#slab = slab;
    const linkType = link.medium === 'ethernet' ? LINKTYPE_ETHERNET : LINKTYPE_RAW;
    this.#writer = new PcapWriter(slab, path, { ...options, linkType });
  }

  get medium(): 'ethernet' | 'ip' {
    return this.#link.medium;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get checksumOffload(): boolean {
    return this.#link.checksumOffload;
  }

  get tso(): boolean {
    return this.#link.tso;
  }

  get uso(): boolean {
    return this.#link.uso;
  }

  /** Whether frames are still recorded: not after `close`, nor after a write that failed. */
  get active(): boolean {
    return this.#writer.active;
  }

  transmit(frame: TxFrame): number {
    // Before the device has it: it may write its own header in front of the frame, and the answer may be quick.
    const at = this.#writer.begin(frame.headLength + frame.payloadLength);
    if (at >= 0) {
      const bytes = this.#slab.bytes;
      bytes.copyWithin(at, frame.headOffset, frame.headOffset + frame.headLength);
      const { parts } = frame;
      let to = at + frame.headLength;
      for (let i = 0; i < parts.count; i++) {
        const from = parts.offset[i] as number;
        const length = parts.length[i] as number;
        bytes.copyWithin(to, from, from + length);
        to += length;
      }
      this.#finishChecksum(at, to - at, frame.offload);
    }
    return this.#link.transmit(frame);
  }

  /** Record a frame that the device gave us: `length` bytes at `offset`, behind the device's own header. */
  received(offset: number, length: number, offload: VnetHeader): void {
    const at = this.#writer.begin(length);
    if (at < 0) return;
    this.#slab.bytes.copyWithin(at, offset, offset + length);
    this.#finishChecksum(at, length, offload);
  }

  /** Write what was recorded. Once per turn. */
  flush(): void {
    this.#writer.flush();
  }

  /** End the capture; frames go on being passed. */
  close(): void {
    this.#writer.close();
  }

  /** Do what the device would: the field holds the sum of the pseudo-header already. */
  #finishChecksum(at: number, length: number, offload: VnetHeader): void {
    if ((offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return;
    const { csumStart, csumOffset } = offload;
    if (csumStart + csumOffset + 2 > length) return;
    const view = this.#slab.view;
    const sum = checksum(sumBytes(view, at + csumStart, length - csumStart, 0));
    // RFC 768: zero would mean "none".
    view.setUint16(at + csumStart + csumOffset, sum === 0 && csumOffset === UDP_CHECKSUM_OFF ? 0xffff : sum);
  }
}
