/**
 * TCP header (RFC 9293 §3.1). Options are in `tcp-options.ts`.
 *
 * Parsing checks the data offset only (hazard T-01): the checksum is verified by the caller, who knows about offload, port 0
 * and impossible flag combinations are answered by the caller. Reserved bits are ignored and written as 0.
 */
import { DropReason } from './drop-reason.ts';
import { emitTcpOptions, parseTcpOptions, TcpOptions, tcpOptionsLength } from './tcp-options.ts';

export const TCP_FIN = 1;
export const TCP_SYN = 2;
export const TCP_RST = 4;
export const TCP_PSH = 8;
export const TCP_ACK = 16;
export const TCP_URG = 32;

/** Bytes of a header without options. */
export const TCP_HEADER_LEN = 20;
/** Offset of the checksum field, for checksum offload. */
export const TCP_CHECKSUM_OFF = 16;
/** IP protocol number. */
export const PROTOCOL_TCP = 6;

const DST_PORT = 2;
const SEQ = 4;
const ACK = 8;
const DATA_OFFSET = 12;
const FLAGS = 13;
const WINDOW = 14;
const URGENT = 18;

/** Parsed header with its options; sequence numbers are unsigned 32-bit. */
export class TcpHeader extends TcpOptions {
  srcPort = 0;
  dstPort = 0;
  seq = 0;
  ack = 0;
  /** Bytes, options included. */
  headerLen: number = TCP_HEADER_LEN;
  flags = 0;
  /** As on the wire, not scaled. */
  window = 0;
  checksum = 0;
  urgent = 0;
}

/** Reads the header of a segment of `len` bytes; 0 or `TcpMalformed`. Resets all option fields. */
export function parseTcp(view: DataView, off: number, len: number, out: TcpHeader): number {
  if (len < TCP_HEADER_LEN) return DropReason.TcpMalformed;
  const headerLen = (view.getUint8(off + DATA_OFFSET) >>> 4) << 2;
  if (headerLen < TCP_HEADER_LEN || headerLen > len) return DropReason.TcpMalformed;
  out.srcPort = view.getUint16(off);
  out.dstPort = view.getUint16(off + DST_PORT);
  out.seq = view.getUint32(off + SEQ);
  out.ack = view.getUint32(off + ACK);
  out.headerLen = headerLen;
  out.flags = view.getUint8(off + FLAGS);
  out.window = view.getUint16(off + WINDOW);
  out.checksum = view.getUint16(off + TCP_CHECKSUM_OFF);
  out.urgent = view.getUint16(off + URGENT);
  parseTcpOptions(view, off + TCP_HEADER_LEN, off + headerLen, out);
  return 0;
}

/** Bytes that {@link emitTcp} will write for `h`. */
export function tcpHeaderLength(h: TcpHeader): number {
  return TCP_HEADER_LEN + tcpOptionsLength(h);
}

/**
 * Writes header and options and returns their length. The checksum field is `h.checksum`; `h.headerLen` is not read. SACK
 * blocks that do not fit are left out, the last ones first.
 */
export function emitTcp(view: DataView, off: number, h: TcpHeader): number {
  const headerLen = TCP_HEADER_LEN + emitTcpOptions(view, off + TCP_HEADER_LEN, h);
  view.setUint16(off, h.srcPort);
  view.setUint16(off + DST_PORT, h.dstPort);
  view.setUint32(off + SEQ, h.seq);
  view.setUint32(off + ACK, h.ack);
  view.setUint8(off + DATA_OFFSET, headerLen << 2);
  view.setUint8(off + FLAGS, h.flags);
  view.setUint16(off + WINDOW, h.window);
  view.setUint16(off + TCP_CHECKSUM_OFF, h.checksum);
  view.setUint16(off + URGENT, h.urgent);
  return headerLen;
}
