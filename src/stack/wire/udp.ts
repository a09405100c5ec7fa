/**
 * UDP header (RFC 768, RFC 8200 §8.1). The checksum is verified by the caller, who knows about offload and family; port 0
 * is a matter of policy. UDP-Lite and jumbo datagrams (length 0, RFC 2675 §4) are left out on purpose.
 */
import { DropReason } from './drop-reason.ts';

/** Bytes. */
export const UDP_HEADER_LEN = 8;
/** IP protocol number. */
export const PROTOCOL_UDP = 17;

/** Parsed header. */
export class UdpHeader {
  srcPort = 0;
  dstPort = 0;
  /** Header and payload, bytes; what lies behind it is to be cut. */
  length = 0;
  /** As on the wire; 0 = none was computed. */
  checksum = 0;
}

/** Reads 8 bytes; 0 or `UdpMalformed` when the length field is not within 8 and `len` (hazard U-01). */
export function parseUdp(view: DataView, off: number, len: number, out: UdpHeader): number {
  if (len < UDP_HEADER_LEN) return DropReason.UdpMalformed;
  const length = view.getUint16(off + 4);
  if (length < UDP_HEADER_LEN || length > len) return DropReason.UdpMalformed;
  out.srcPort = view.getUint16(off);
  out.dstPort = view.getUint16(off + 2);
  out.length = length;
  out.checksum = view.getUint16(off + 6);
  return 0;
}

/** Writes 8 bytes. A computed checksum of 0 must be passed as 0xffff (RFC 768). */
export function emitUdp(
  view: DataView,
  off: number,
  srcPort: number,
  dstPort: number,
  length: number,
  checksum: number,
): void {
  view.setUint16(off, srcPort);
  view.setUint16(off + 2, dstPort);
  view.setUint16(off + 4, length);
  view.setUint16(off + 6, checksum);
}
