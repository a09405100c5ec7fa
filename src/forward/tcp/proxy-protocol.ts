/**
 * The PROXY protocol, versions 1 (a line of text) and 2 (binary): who the client of a proxied connection really is.
 * https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt
 *
 * The version is told by the first bytes. Parsing starts over with every call, so that a header may come in any number of
 * pieces (P-06); its size is bounded, so that this costs little. Version 1: at most 107 bytes, either word TCP4 or TCP6
 * with addresses of either family; UNKNOWN names nobody. Version 2: at most `PROXY_MAX` bytes with all TLVs, which are
 * skipped; LOCAL and address families other than the two of IP name nobody.
 */
import { IpAddress, parseIpAddress } from '../../stack/wire/address.ts';

/** Bytes that a header may have; nothing beyond them is looked at. */
export const PROXY_MAX = 4096;
/** §2.1: the longest line of version 1, with its end. */
const V1_MAX = 107;
const V2_HEADER = 16;
/** Addresses and ports of version 2. */
const V2_INET = 12;
const V2_INET6 = 36;

const SIGNATURE_1 = Uint8Array.from('PROXY ', (c) => c.charCodeAt(0));
const SIGNATURE_2 = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const CR = 0x0d;
const LF = 0x0a;

/** Results of `parseProxyHeader` that are not a length. */
export const PROXY_MORE = 0;
/** It ends, or is cut off by its limit, before it is complete. */
export const PROXY_CUT = -1;
export const PROXY_BAD = -2;

export class ProxyHeader {
  /** It names a client. */
  hasAddresses = false;
  readonly src: IpAddress = new IpAddress();
  srcPort = 0;
  readonly dst: IpAddress = new IpAddress();
  dstPort = 0;
}

/**
 * Read the header at `off`, of which `length` bytes are there. Its length; `PROXY_MORE` when it may still become one;
 * `PROXY_CUT` or `PROXY_BAD` when not.
 */
export function parseProxyHeader(view: DataView, off: number, length: number, out: ProxyHeader): number {
  out.hasAddresses = false;
  out.srcPort = 0;
  out.dstPort = 0;
  if (startsWith(view, off, length, SIGNATURE_2)) return parseBinary(view, off, length, out);
  if (startsWith(view, off, length, SIGNATURE_1)) return parseLine(view, off, length, out);
  return findByte(view, off, length, LF) < 0 ? PROXY_CUT : PROXY_BAD;
}

/** Do the bytes that are there agree with `signature`? */
function startsWith(view: DataView, off: number, length: number, signature: Uint8Array): boolean {
  const count = Math.min(length, signature.length);
  for (let i = 0; i < count; i++) if (view.getUint8(off + i) !== signature[i]) return false;
  return true;
}

function findByte(view: DataView, off: number, length: number, byte: number): number {
  for (let i = 0; i < length; i++) if (view.getUint8(off + i) === byte) return i;
  return -1;
}

function parseLine(view: DataView, off: number, length: number, out: ProxyHeader): number {
  const lf = findByte(view, off, Math.min(length, V1_MAX), LF);
  if (lf < 0) return length < V1_MAX ? PROXY_MORE : PROXY_CUT;
  if (lf < 1 || view.getUint8(off + lf - 1) !== CR) return PROXY_BAD;
  let line = '';
  for (let i = 0; i < lf - 1; i++) line += String.fromCharCode(view.getUint8(off + i));
  const [, family, source, destination, sourcePort, destinationPort, ...rest] = line.split(' ');
  if (family === 'UNKNOWN') return lf + 1;
  if ((family !== 'TCP4' && family !== 'TCP6') || rest.length > 0) return PROXY_BAD;
  if (!readAddress(source, out.src) || !readAddress(destination, out.dst)) return PROXY_BAD;
  out.srcPort = readPort(sourcePort);
  out.dstPort = readPort(destinationPort);
  if (out.srcPort < 0 || out.dstPort < 0) return PROXY_BAD;
  out.hasAddresses = true;
  return lf + 1;
}

function readAddress(text: string | undefined, out: IpAddress): boolean {
  try {
    out.copyFrom(parseIpAddress(text ?? ''));
    return true;
  } catch {
    return false;
  }
}

/** A port as the protocol writes it, decimal without leading zeros; -1 for anything else. */
function readPort(text: string | undefined): number {
  if (text === undefined || !/^(0|[1-9][0-9]{0,4})$/.test(text)) return -1;
  const port = Number(text);
  return port > 0xffff ? -1 : port;
}

function parseBinary(view: DataView, off: number, length: number, out: ProxyHeader): number {
  if (length < V2_HEADER) return PROXY_MORE;
  const version = view.getUint8(off + 12) >>> 4;
  const command = view.getUint8(off + 12) & 0xf;
  const body = view.getUint16(off + 14);
  if (version !== 2 || command > 1 || V2_HEADER + body > PROXY_MAX) return PROXY_BAD;
  const family = view.getUint8(off + 13) >>> 4;
  const wanted = command === 0 ? 0 : family === 1 ? V2_INET : family === 2 ? V2_INET6 : 0;
  if (body < wanted) return PROXY_BAD;
  if (length < V2_HEADER + body) return PROXY_MORE;
  const at = off + V2_HEADER;
  if (wanted === V2_INET) {
    out.src.readV4(view, at);
    out.dst.readV4(view, at + 4);
  } else if (wanted === V2_INET6) {
    // A mapped address is the IPv4 address.
    out.src.readV6(view, at);
    out.dst.readV6(view, at + 16);
  }
  if (wanted > 0) {
    out.srcPort = view.getUint16(at + wanted - 4);
    out.dstPort = view.getUint16(at + wanted - 2);
    out.hasAddresses = true;
  }
  return V2_HEADER + body;
}

/** Write a header that names (`src`, `srcPort`) as the client of (`dst`, `dstPort`), of one family; its length. */
export function emitProxyHeader(
  view: DataView,
  off: number,
  version: 1 | 2,
  src: IpAddress,
  srcPort: number,
  dst: IpAddress,
  dstPort: number,
): number {
  const { isV4 } = src;
  if (version === 1) {
    const line = `PROXY ${isV4 ? 'TCP4' : 'TCP6'} ${src.toString()} ${dst.toString()} ${srcPort} ${dstPort}\r\n`;
    for (let i = 0; i < line.length; i++) view.setUint8(off + i, line.charCodeAt(i));
    return line.length;
  }
  for (let i = 0; i < SIGNATURE_2.length; i++) view.setUint8(off + i, SIGNATURE_2[i] as number);
  view.setUint8(off + 12, 0x21);
  view.setUint8(off + 13, isV4 ? 0x11 : 0x21);
  const body = isV4 ? V2_INET : V2_INET6;
  view.setUint16(off + 14, body);
  const at = off + V2_HEADER;
  src.write(view, at);
  dst.write(view, at + (isV4 ? 4 : 16));
  view.setUint16(at + body - 4, srcPort);
  view.setUint16(at + body - 2, dstPort);
  return V2_HEADER + body;
}
