/**
 * Ethernet II header (RFC 894, RFC 2464, IEEE 802.3).
 *
 * A MAC address is two numbers: `hi` (first 16 bits) and `lo` (last 32 bits, unsigned). Limits: VLAN tags and 802.3 length
 * frames are not interpreted; they come out as an `etherType` that the caller does not serve.
 */
import { DropReason } from './drop-reason.ts';

/** Bytes. */
export const ETHERNET_HEADER_LEN = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

const SRC = 6;
const TYPE = 12;

/** Parsed header; filled by {@link parseEthernet}. */
export class EthernetHeader {
  dstHi = 0;
  dstLo = 0;
  srcHi = 0;
  srcLo = 0;
  etherType = 0;
}

/** Reads the 14-byte header; 0 or `LinkShort`. The view is borrowed until return. */
export function parseEthernet(view: DataView, off: number, len: number, out: EthernetHeader): number {
  if (len < ETHERNET_HEADER_LEN) return DropReason.LinkShort;
  out.dstHi = view.getUint16(off);
  out.dstLo = view.getUint32(off + 2);
  out.srcHi = view.getUint16(off + SRC);
  out.srcLo = view.getUint32(off + SRC + 2);
  out.etherType = view.getUint16(off + TYPE);
  return 0;
}

/** Writes 14 bytes. */
export function emitEthernet(
  view: DataView,
  off: number,
  dstHi: number,
  dstLo: number,
  srcHi: number,
  srcLo: number,
  etherType: number,
): void {
  view.setUint16(off, dstHi);
  view.setUint32(off + 2, dstLo);
  view.setUint16(off + SRC, srcHi);
  view.setUint32(off + SRC + 2, srcLo);
  view.setUint16(off + TYPE, etherType);
}

/**
 * Reads `52:55:0a:00:02:02` (hex, any case, colons).
 *
 * @throws RangeError with one line that names the text.
 */
export function parseMac(text: string): { hi: number; lo: number } {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new RangeError(
      `not a MAC address: ${JSON.stringify(text)} (expected for example 52:55:0a:00:02:02)`,
    );
  }
  const hex = text.replaceAll(':', '');
  return { hi: Number.parseInt(hex.slice(0, 4), 16), lo: Number.parseInt(hex.slice(4), 16) };
}

/** True for multicast and broadcast: the lowest bit of the first byte (IEEE 802 §8.2). */
export function isGroupMac(hi: number): boolean {
  return (hi & 0x0100) !== 0;
}
