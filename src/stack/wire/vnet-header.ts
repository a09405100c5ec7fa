/**
 * The header that `IFF_VNET_HDR` puts in front of every frame: struct virtio_net_hdr (virtio 1.2 §5.1.6), 10 bytes.
 *
 * Multi-byte fields are little endian, which is the host order of every target (x64, arm64) and thus the kernel's default.
 * The 12-byte form with `num_buffers` is left out on purpose: TAP devices use 10 unless told otherwise. The kernel vouches
 * for these fields on a TAP, but a frame can also come from a peer on a socket, so nothing is taken on trust (hazard V-02).
 */
import { DropReason } from './drop-reason.ts';

/** Bytes. */
export const VNET_HEADER_LEN = 10;

/** `flags`: the checksum field holds the pseudo-header sum; sum from `csumStart` and store at `csumOffset` behind it. */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
/** `flags`: the checksum has been verified. */
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;

export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
/** UFO: one datagram to be cut into IP fragments. */
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
/** USO: many datagrams of `gsoSize` bytes of payload. */
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
/** Or-ed to a TCP type: CWR only on the first segment. */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

/** Largest frame behind the header: Ethernet and IPv6 headers and 64 KiB. */
const MAX_FRAME = 14 + 40 + 65535;

/** Parsed header. Sizes and offsets in bytes; `csumStart` counts from the start of the frame behind this header. */
export class VnetHeader {
  flags = 0;
  gsoType = 0;
  /** Headers before the payload; a hint, which may also cover payload. */
  hdrLen = 0;
  /** Payload bytes per segment. */
  gsoSize = 0;
  csumStart = 0;
  /** From `csumStart` to the checksum field. */
  csumOffset = 0;
}

/**
 * Reads the 10 bytes at `off`, in front of a frame of `frameLen` bytes; 0 or `VnetMalformed`. The caller has checked that
 * 10 bytes are there; a negative `frameLen` (a read shorter than the header) is malformed without being read.
 */
export function parseVnet(view: DataView, off: number, frameLen: number, out: VnetHeader): number {
  if (frameLen < 0 || frameLen > MAX_FRAME) return DropReason.VnetMalformed;
  const flags = view.getUint8(off);
  const gsoType = view.getUint8(off + 1);
  const hdrLen = view.getUint16(off + 2, true);
  const gsoSize = view.getUint16(off + 4, true);
  const csumStart = view.getUint16(off + 6, true);
  const csumOffset = view.getUint16(off + 8, true);
  switch (gsoType) {
    case VIRTIO_NET_HDR_GSO_NONE:
      break;
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
    case VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN:
    case VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN:
    case VIRTIO_NET_HDR_GSO_UDP:
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      if (gsoSize === 0 || gsoSize > frameLen) return DropReason.VnetMalformed;
      break;
    default:
      return DropReason.VnetMalformed;
  }
  if (hdrLen > frameLen) return DropReason.VnetMalformed;
  if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 && csumStart + csumOffset + 2 > frameLen) {
    return DropReason.VnetMalformed;
  }
  out.flags = flags;
  out.gsoType = gsoType;
  out.hdrLen = hdrLen;
  out.gsoSize = gsoSize;
  out.csumStart = csumStart;
  out.csumOffset = csumOffset;
  return 0;
}

/** Writes 10 bytes. */
export function emitVnet(view: DataView, off: number, h: VnetHeader): void {
  view.setUint8(off, h.flags);
  view.setUint8(off + 1, h.gsoType);
  view.setUint16(off + 2, h.hdrLen, true);
  view.setUint16(off + 4, h.gsoSize, true);
  view.setUint16(off + 6, h.csumStart, true);
  view.setUint16(off + 8, h.csumOffset, true);
}

/** Writes 10 bytes that ask for nothing. By words: filling an array of bytes is a call out of compiled code. */
export function emitNoOffload(view: DataView, off: number): void {
  view.setUint32(off, 0);
  view.setUint32(off + 4, 0);
  view.setUint16(off + 8, 0);
}
