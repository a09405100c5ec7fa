/**
 * Wraps a link and keeps a record of every frame that goes through it, in the order in which the stack sees them.
 *
 * Checksums that were left to the device (virtio 1.2 §5.1.6.2) are finished in the record, as a sniffer behind the device
 * would see them; the frame itself is not touched. A super-segment is recorded as it is, one large packet whose checksum
 * covers all of it: what is in the file is then what the stack did, and every reader takes it.
 *
 * slirpnetstack has a format of its own: headers in network byte order, and frames without their Ethernet header, ARP as
 * well, all called raw IP. In that format a frame is never longer than the MTU, so this link says that it takes no
 * super-segments.
 */
import type { CaptureFormat, GuestSpec } from '../config.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { checksum, sumBytes } from '../stack/wire/checksum.ts';
import { ETHERNET_HEADER_LEN } from '../stack/wire/ethernet.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM, type VnetHeader } from '../stack/wire/vnet-header.ts';
import type { DeviceLink, LinkOwner, LinkServices, RxFrame } from './device-link.ts';
import {
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  type PcapBuffer,
  type PcapOptions,
  PcapWriter,
} from './pcap-writer.ts';

/** Position of the checksum in a UDP header: tells UDP from the others, for it alone must not have a sum of zero. */
const UDP_CHECKSUM_OFF = 6;

export interface CaptureOptions extends Pick<PcapOptions, 'now' | 'onError' | 'onFilled'> {
  format?: CaptureFormat;
}

/** `link`, recorded where `spec` asks for it. @throws DeviceError */
export function withCapture(
  link: DeviceLink,
  { pcapPath, pcapFormat }: Pick<GuestSpec, 'pcapPath' | 'pcapFormat'>,
  buffer: PcapBuffer,
  { log, touched }: Pick<LinkServices, 'log' | 'touched'>,
): DeviceLink {
  if (pcapPath === '') return link;
  return new CaptureLink(link, buffer, pcapPath, {
    format: pcapFormat,
    onError: (message) => log('warn', message),
    onFilled: touched,
  });
}

export class CaptureLink implements DeviceLink {
  readonly #link: DeviceLink;
  readonly #slab: Slab;
  readonly #writer: PcapWriter;
  /** Bytes in front of every frame that are left out. */
  readonly #skip: number;
  readonly #segmentation: boolean;

  /** Creates the file, or throws (see {@link PcapWriter}). */
  constructor(link: DeviceLink, buffer: PcapBuffer, path: string, options: CaptureOptions = {}) {
    this.#link = link;
    this.#slab = buffer.slab;
    const { format = 'pcap', ...rest } = options;
    const onEthernet = link.medium === 'ethernet';
    this.#segmentation = format === 'pcap';
    if (format === 'pcap') {
      this.#skip = 0;
      this.#writer = new PcapWriter(buffer, path, {
        ...rest,
        linkType: onEthernet ? LINKTYPE_ETHERNET : LINKTYPE_RAW,
      });
      return;
    }
    this.#skip = onEthernet ? ETHERNET_HEADER_LEN : 0;
    this.#writer = new PcapWriter(buffer, path, {
      ...rest,
      linkType: LINKTYPE_RAW,
      bigEndian: true,
      snapLength: link.mtu,
      zoneOffset: -60 * new Date().getTimezoneOffset(),
    });
  }

  get medium(): 'ethernet' | 'ip' {
    return this.#link.medium;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get mru(): number | undefined {
    return this.#link.mru;
  }

  get checksumOffload(): boolean {
    return this.#link.checksumOffload;
  }

  get tso(): boolean {
    return this.#segmentation && this.#link.tso;
  }

  get uso(): boolean {
    return this.#segmentation && this.#link.uso;
  }

  get full(): boolean {
    return this.#link.full;
  }

  get isLocal(): boolean {
    return this.#link.isLocal;
  }

  /** Whether frames are still recorded: not after `close`, nor after a write that failed. */
  get active(): boolean {
    return this.#writer.active;
  }

  open(owner: LinkOwner): number {
    return this.#link.open(owner);
  }

  gauges(): Record<string, number> {
    return this.#link.gauges?.() ?? {};
  }

  refreshMtu(): void {
    this.#link.refreshMtu();
  }

  receive(index: number, frame: RxFrame): number {
    const result = this.#link.receive(index, frame);
    if (result <= 0) return result;
    const skip = this.#skip;
    const length = frame.length - skip;
    if (length < 0) return result;
    const at = this.#writer.begin(length);
    if (at < 0) return result;
    const from = frame.offset + skip;
    this.#slab.bytes.copyWithin(at, from, from + length);
    this.#finishChecksum(at, length, frame.offload);
    return result;
  }

  transmit(frame: TxFrame): number {
    // Before the device has it: it may write its own header in front of the frame, and the answer may be quick.
    const skip = this.#skip;
    const headLength = frame.headLength - skip;
    const at = this.#writer.begin(headLength + frame.payloadLength);
    if (at >= 0) {
      const bytes = this.#slab.bytes;
      const head = frame.headOffset + skip;
      bytes.copyWithin(at, head, head + headLength);
      const { parts } = frame;
      let to = at + headLength;
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

  /** Write what was recorded. */
  flush(): void {
    this.#writer.flush();
    this.#link.flush();
  }

  close(): void {
    this.#writer.close();
    this.#link.close();
  }

  /** Do what the device would: the field holds the sum of the pseudo-header already. */
  #finishChecksum(at: number, length: number, offload: VnetHeader): void {
    if ((offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return;
    const { csumOffset } = offload;
    const csumStart = offload.csumStart - this.#skip;
    if (csumStart < 0) return;
    if (csumStart + csumOffset + 2 > length) return;
    const view = this.#slab.view;
    const sum = checksum(sumBytes(view, at + csumStart, length - csumStart, 0));
    // RFC 768: zero would mean "none".
    view.setUint16(at + csumStart + csumOffset, sum === 0 && csumOffset === UDP_CHECKSUM_OFF ? 0xffff : sum);
  }
}
