/**
 * Packets by hand: every header as a function from fields to bytes, with lengths and checksums right unless a field says
 * otherwise, and a decoder for what comes back. Written without the code under test, so that the two cannot be wrong
 * together.
 */

export type Ip = string;
export const GUEST4 = '10.0.2.100';
export const GATEWAY4 = '10.0.2.2';
export const DNS4 = '10.0.2.3';
export const GUEST6 = 'fd00::100';
export const GATEWAY6 = 'fd00::2';
export const DNS6 = 'fd00::3';
/** Destinations that the lab's policy allows. */
export const ALLOWED4 = '198.51.100.1';
export const ALLOWED6 = '2001:db8:1::1';
export const GUEST_MAC = '52:54:00:12:34:56';
export const OUR_MAC = '52:55:0a:00:02:02';

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMPV6 = 58;

export function isV6(address: Ip): boolean {
  return address.includes(':');
}

/** The 4 or 16 bytes of an address. */
export function ipBytes(address: Ip): Buffer {
  if (!isV6(address)) return Buffer.from(address.split('.').map(Number));
  let text = address;
  const tail = text.slice(text.lastIndexOf(':') + 1);
  if (tail.includes('.')) {
    const b = ipBytes(tail);
    text = `${text.slice(0, text.lastIndexOf(':') + 1)}${b.readUInt16BE(0).toString(16)}:${b.readUInt16BE(2).toString(16)}`;
  }
  const [left = '', right] = text.split('::');
  const words = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((w) => Number.parseInt(w, 16));
  const head = words(left);
  const end = right === undefined ? [] : words(right);
  const all = [...head, ...new Array<number>(8 - head.length - end.length).fill(0), ...end];
  const out = Buffer.alloc(16);
  all.forEach((w, i) => {
    out.writeUInt16BE(w, 2 * i);
  });
  return out;
}

/** The shortest text of an address in `bytes`. */
export function ipText(bytes: Buffer): Ip {
  if (bytes.length === 4) return bytes.join('.');
  const words = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16));
  let best = '';
  for (const run of words.join(':').matchAll(/(?:^|:)(0(?::0)+)(?=:|$)/g)) {
    if ((run[1] as string).length > best.length) best = run[1] as string;
  }
  if (best === '') return words.join(':');
  return words
    .join(':')
    .replace(new RegExp(`(^|:)${best}(?=:|$)`), '::')
    .replace(/:{3,}/, '::');
}

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

/** RFC 1071, one byte pair after the other. Every part but the last has an even length. */
export function internetSum(...parts: Buffer[]): number {
  let sum = 0;
  for (const part of parts) {
    const even = part.length & ~1;
    for (let i = 0; i < even; i += 2) sum += ((part[i] as number) << 8) | (part[i + 1] as number);
    if (even < part.length) sum += (part[even] as number) << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return ~sum & 0xffff;
}

/** Put a 16-bit word into a frame and mend the one or two checksums that cover it (RFC 1624). */
export function putWord(f: Buffer, at: number, value: number, sum: number, otherSum = -1): void {
  const old = f.readUInt16BE(at);
  f.writeUInt16BE(value, at);
  for (let place = sum; place >= 0; place = place === sum ? otherSum : -1) {
    let x = (~f.readUInt16BE(place) & 0xffff) + (~old & 0xffff) + value;
    x = (x & 0xffff) + (x >>> 16);
    x = (x & 0xffff) + (x >>> 16);
    // Zero and all ones are the same number; for UDP zero would mean that there is no checksum.
    f.writeUInt16BE(x === 0xffff ? 0xffff : ~x & 0xffff, place);
  }
}

/** The same for 32 bits. */
export function putLong(f: Buffer, at: number, value: number, sum: number, otherSum = -1): void {
  putWord(f, at, value >>> 16, sum, otherSum);
  putWord(f, at + 2, value & 0xffff, sum, otherSum);
}

// Where things are in an Ethernet frame without IP options and extension headers.
export const AT_IP4_SUM = 24;
export const AT_IP4_SRC = 26;
export const AT_IP4_DST = 30;
export const AT_TRANSPORT4 = 34;
export const AT_IP6_SRC = 22;
export const AT_IP6_DST = 38;
export const AT_TRANSPORT6 = 54;
/** Checksums behind the beginning of the transport header. */
export const TCP_SUM = 16;
export const UDP_SUM = 6;
export const ICMP_SUM = 2;

function pseudoHeader(src: Ip, dst: Ip, protocol: number, length: number): Buffer {
  const tail = Buffer.alloc(isV6(src) ? 8 : 4);
  if (isV6(src)) tail.writeUInt32BE(length, 0);
  else tail.writeUInt16BE(length, 2);
  tail[isV6(src) ? 7 : 1] = protocol;
  return Buffer.concat([ipBytes(src), ipBytes(dst), tail]);
}

/** Payload of `length` bytes that can be told from every other: a counter that begins with `tag`. */
export function pattern(length: number, tag = 1): Buffer {
  const out = Buffer.alloc(length);
  let x = (tag * 0x9e3779b1) >>> 0;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    out[i] = x >>> 24;
  }
  return out;
}

export function ethernet(
  etherType: number,
  payload: Buffer,
  src: string = GUEST_MAC,
  dst: string = OUR_MAC,
): Buffer {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(etherType);
  return Buffer.concat([macBytes(dst), macBytes(src), type, payload]);
}

/** An Ethernet frame around an IP packet, by its version. */
export function frame(packet: Buffer, src: string = GUEST_MAC, dst: string = OUR_MAC): Buffer {
  return ethernet(packet.length > 0 && (packet[0] as number) >>> 4 === 6 ? 0x86dd : 0x0800, packet, src, dst);
}

export interface Ip4Fields {
  src?: Ip;
  dst?: Ip;
  protocol?: number;
  ttl?: number;
  id?: number;
  /** In bytes. */
  offset?: number;
  mf?: boolean;
  df?: boolean;
  options?: Buffer;
  version?: number;
  ihl?: number;
  totalLength?: number;
  checksum?: number;
  tos?: number;
}

export function ipv4(f: Ip4Fields, payload: Buffer): Buffer {
  const options = f.options ?? Buffer.alloc(0);
  const h = Buffer.alloc(20 + options.length);
  h[0] = ((f.version ?? 4) << 4) | (f.ihl ?? h.length >> 2);
  h[1] = f.tos ?? 0;
  h.writeUInt16BE(f.totalLength ?? h.length + payload.length, 2);
  h.writeUInt16BE(f.id ?? 0, 4);
  h.writeUInt16BE((f.df === true ? 0x4000 : 0) | (f.mf === true ? 0x2000 : 0) | ((f.offset ?? 0) >> 3), 6);
  h[8] = f.ttl ?? 64;
  h[9] = f.protocol ?? UDP;
  ipBytes(f.src ?? GUEST4).copy(h, 12);
  ipBytes(f.dst ?? ALLOWED4).copy(h, 16);
  options.copy(h, 20);
  h.writeUInt16BE(f.checksum ?? internetSum(h), 10);
  return Buffer.concat([h, payload]);
}

export interface Ip6Fields {
  src?: Ip;
  dst?: Ip;
  /** Protocol of the payload as given. */
  next?: number;
  hops?: number;
  payloadLength?: number;
  version?: number;
}

export function ipv6(f: Ip6Fields, payload: Buffer): Buffer {
  const h = Buffer.alloc(40);
  h[0] = (f.version ?? 6) << 4;
  h.writeUInt16BE((f.payloadLength ?? payload.length) & 0xffff, 4);
  h[6] = f.next ?? UDP;
  h[7] = f.hops ?? 64;
  ipBytes(f.src ?? GUEST6).copy(h, 8);
  ipBytes(f.dst ?? ALLOWED6).copy(h, 24);
  return Buffer.concat([h, payload]);
}

/** An extension header of options (hop-by-hop 0 or destination 60); `length` overrides the length byte. */
export function optionsHeader(next: number, options: Buffer, length?: number): Buffer {
  const size = Math.ceil((2 + options.length) / 8) * 8;
  const h = Buffer.alloc(size);
  h[0] = next;
  h[1] = length ?? size / 8 - 1;
  options.copy(h, 2);
  const rest = size - 2 - options.length;
  // Padding of its own, so that only `options` can be wrong.
  if (rest === 1) h[size - 1] = 0;
  else if (rest >= 2) {
    h[2 + options.length] = 1;
    h[3 + options.length] = rest - 2;
  }
  return h;
}

export function fragmentHeader(next: number, offset: number, more: boolean, id: number): Buffer {
  const h = Buffer.alloc(8);
  h[0] = next;
  h.writeUInt16BE((offset & 0xfff8) | (more ? 1 : 0), 2);
  h.writeUInt32BE(id >>> 0, 4);
  return h;
}

/** An IP packet of either family. */
export function ip(src: Ip, dst: Ip, protocol: number, payload: Buffer, ttl = 64): Buffer {
  return isV6(dst)
    ? ipv6({ src, dst, next: protocol, hops: ttl }, payload)
    : ipv4({ src, dst, protocol, ttl }, payload);
}

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;

export interface TcpFields {
  src?: Ip;
  dst?: Ip;
  srcPort?: number;
  dstPort?: number;
  seq?: number;
  ack?: number;
  flags?: number;
  window?: number;
  urgent?: number;
  options?: Buffer;
  /** In words; by default what the options need. */
  dataOffset?: number;
  checksum?: number;
  /** The four bits beside the data offset: AE and reserved. */
  reserved?: number;
}

export function tcpSegment(f: TcpFields, payload: Buffer = Buffer.alloc(0)): Buffer {
  const raw = f.options ?? Buffer.alloc(0);
  const options = Buffer.concat([raw, Buffer.alloc((4 - (raw.length & 3)) & 3)]);
  const h = Buffer.alloc(20 + options.length);
  h.writeUInt16BE(f.srcPort ?? 40000, 0);
  h.writeUInt16BE(f.dstPort ?? 80, 2);
  h.writeUInt32BE((f.seq ?? 1000) >>> 0, 4);
  h.writeUInt32BE((f.ack ?? 0) >>> 0, 8);
  h[12] = ((f.dataOffset ?? h.length >> 2) << 4) | (f.reserved ?? 0);
  h[13] = f.flags ?? SYN;
  h.writeUInt16BE(f.window ?? 65535, 14);
  h.writeUInt16BE(f.urgent ?? 0, 18);
  options.copy(h, 20);
  const src = f.src ?? GUEST4;
  const dst = f.dst ?? ALLOWED4;
  const sum = internetSum(pseudoHeader(src, dst, TCP, h.length + payload.length), h, payload);
  h.writeUInt16BE(f.checksum ?? sum, 16);
  return Buffer.concat([h, payload]);
}

export function tcp(f: TcpFields, payload: Buffer = Buffer.alloc(0)): Buffer {
  const dst = f.dst ?? ALLOWED4;
  const src = f.src ?? (isV6(dst) ? GUEST6 : GUEST4);
  return ip(src, dst, TCP, tcpSegment({ ...f, src, dst }, payload));
}

export interface UdpFields {
  src?: Ip;
  dst?: Ip;
  srcPort?: number;
  dstPort?: number;
  length?: number;
  checksum?: number;
  ttl?: number;
}

export function udpDatagram(f: UdpFields, payload: Buffer = Buffer.alloc(0)): Buffer {
  const h = Buffer.alloc(8);
  h.writeUInt16BE(f.srcPort ?? 40000, 0);
  h.writeUInt16BE(f.dstPort ?? 9, 2);
  h.writeUInt16BE(f.length ?? 8 + payload.length, 4);
  const dst = f.dst ?? ALLOWED4;
  const src = f.src ?? (isV6(dst) ? GUEST6 : GUEST4);
  const sum = internetSum(pseudoHeader(src, dst, UDP, f.length ?? 8 + payload.length), h, payload);
  h.writeUInt16BE(f.checksum ?? (sum === 0 ? 0xffff : sum), 6);
  return Buffer.concat([h, payload]);
}

export function udp(f: UdpFields, payload: Buffer = Buffer.alloc(0)): Buffer {
  const dst = f.dst ?? ALLOWED4;
  const src = f.src ?? (isV6(dst) ? GUEST6 : GUEST4);
  return ip(src, dst, UDP, udpDatagram({ ...f, src, dst }, payload), f.ttl);
}

export interface IcmpFields {
  src?: Ip;
  dst?: Ip;
  type?: number;
  code?: number;
  rest?: number;
  checksum?: number;
  ttl?: number;
}

export function icmp(f: IcmpFields, payload: Buffer = Buffer.alloc(0)): Buffer {
  const dst = f.dst ?? ALLOWED4;
  const v6 = isV6(dst);
  const src = f.src ?? (v6 ? GUEST6 : GUEST4);
  const h = Buffer.alloc(8);
  h[0] = f.type ?? (v6 ? 128 : 8);
  h[1] = f.code ?? 0;
  h.writeUInt32BE((f.rest ?? 0) >>> 0, 4);
  const size = 8 + payload.length;
  const sum = v6 ? internetSum(pseudoHeader(src, dst, ICMPV6, size), h, payload) : internetSum(h, payload);
  h.writeUInt16BE(f.checksum ?? sum, 2);
  return ip(src, dst, v6 ? ICMPV6 : ICMP, Buffer.concat([h, payload]), f.ttl);
}

export function echo(dst: Ip, id: number, seq: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  return icmp({ dst, rest: ((id << 16) | seq) >>> 0 }, payload);
}

/** An NDP message: hop limit 255, ICMPv6 type, the word behind the checksum, and the body. */
export function ndp(
  src: Ip,
  dst: Ip,
  type: number,
  rest: number,
  body: Buffer,
  hops = 255,
  code = 0,
): Buffer {
  return icmp({ src, dst, type, code, rest, ttl: hops }, body);
}

export interface ArpFields {
  htype?: number;
  ptype?: number;
  hlen?: number;
  plen?: number;
  op?: number;
  senderMac?: string;
  senderIp?: Ip;
  targetMac?: string;
  targetIp?: Ip;
}

export function arpBody(f: ArpFields): Buffer {
  const h = Buffer.alloc(8);
  h.writeUInt16BE(f.htype ?? 1, 0);
  h.writeUInt16BE(f.ptype ?? 0x0800, 2);
  h[4] = f.hlen ?? 6;
  h[5] = f.plen ?? 4;
  h.writeUInt16BE(f.op ?? 1, 6);
  return Buffer.concat([
    h,
    macBytes(f.senderMac ?? GUEST_MAC),
    ipBytes(f.senderIp ?? GUEST4),
    macBytes(f.targetMac ?? '00:00:00:00:00:00'),
    ipBytes(f.targetIp ?? GATEWAY4),
  ]);
}

export function arp(f: ArpFields, src: string = GUEST_MAC): Buffer {
  return ethernet(0x0806, arpBody(f), src, 'ff:ff:ff:ff:ff:ff');
}

/** A TCP option list. */
export function tcpOptions(o: {
  mss?: number;
  scale?: number;
  sack?: boolean;
  ts?: [number, number];
}): Buffer {
  const parts: number[] = [];
  if (o.mss !== undefined) parts.push(2, 4, o.mss >> 8, o.mss & 255);
  if (o.scale !== undefined) parts.push(1, 3, 3, o.scale);
  if (o.sack === true) parts.push(1, 1, 4, 2);
  if (o.ts !== undefined) {
    const words = Buffer.alloc(8);
    words.writeUInt32BE(o.ts[0] >>> 0, 0);
    words.writeUInt32BE(o.ts[1] >>> 0, 4);
    parts.push(1, 1, 8, 10, ...words);
  }
  return Buffer.from(parts);
}

/** A decoded frame of ours. Absent parts are -1 or empty. */
export interface Decoded {
  raw: Buffer;
  srcMac: string;
  dstMac: string;
  etherType: number;
  src: Ip;
  dst: Ip;
  ttl: number;
  protocol: number;
  /** Bytes: where this fragment begins, and whether more follow. */
  fragmentOffset: number;
  moreFragments: boolean;
  fragmentId: number;
  /** Everything behind the IP headers. */
  transport: Buffer;
  srcPort: number;
  dstPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  options: Buffer;
  icmpType: number;
  icmpCode: number;
  icmpRest: number;
  /** What the transport carries. */
  payload: Buffer;
}

/** Decode and verify: lengths and every checksum must be right. Throws on anything that is not. */
export function decode(raw: Buffer, checksums = true): Decoded {
  const d: Decoded = {
    raw,
    srcMac: raw
      .subarray(6, 12)
      .toString('hex')
      .replace(/..(?=.)/g, '$&:'),
    dstMac: raw
      .subarray(0, 6)
      .toString('hex')
      .replace(/..(?=.)/g, '$&:'),
    etherType: raw.readUInt16BE(12),
    src: '',
    dst: '',
    ttl: -1,
    protocol: -1,
    fragmentOffset: 0,
    moreFragments: false,
    fragmentId: -1,
    transport: Buffer.alloc(0),
    srcPort: -1,
    dstPort: -1,
    seq: -1,
    ack: -1,
    flags: -1,
    window: -1,
    options: Buffer.alloc(0),
    icmpType: -1,
    icmpCode: -1,
    icmpRest: -1,
    payload: Buffer.alloc(0),
  };
  const at = raw.subarray(14);
  if (d.etherType === 0x0800) decodeIpv4(at, d);
  else if (d.etherType === 0x86dd) decodeIpv6(at, d);
  else return d;
  if (d.fragmentOffset === 0 && !d.moreFragments) decodeTransport(d, checksums);
  return d;
}

function expect(holds: boolean, what: string): void {
  if (!holds) throw new Error(`bad packet sent: ${what}`);
}

function decodeIpv4(at: Buffer, d: Decoded): void {
  expect(at[0] === 0x45, 'IPv4 version and header length');
  const total = at.readUInt16BE(2);
  expect(total === at.length || at.length === 46, 'IPv4 total length');
  // Behind the packet only the padding of a short frame, and that is zero (E-05).
  expect(
    at.subarray(total).every((b) => b === 0),
    'trailer',
  );
  expect(internetSum(at.subarray(0, 20)) === 0, 'IPv4 checksum');
  d.src = ipText(at.subarray(12, 16));
  d.dst = ipText(at.subarray(16, 20));
  d.ttl = at[8] as number;
  d.protocol = at[9] as number;
  d.fragmentId = at.readUInt16BE(4);
  d.fragmentOffset = (at.readUInt16BE(6) & 0x1fff) * 8;
  d.moreFragments = (at.readUInt16BE(6) & 0x2000) !== 0;
  d.transport = at.subarray(20, total);
}

function decodeIpv6(at: Buffer, d: Decoded): void {
  expect((at[0] as number) >>> 4 === 6, 'IPv6 version');
  const length = at.readUInt16BE(4);
  expect(length + 40 === at.length, 'IPv6 payload length');
  d.src = ipText(at.subarray(8, 24));
  d.dst = ipText(at.subarray(24, 40));
  d.ttl = at[7] as number;
  d.protocol = at[6] as number;
  d.transport = at.subarray(40, 40 + length);
  if (d.protocol !== 44) return;
  d.protocol = at[40] as number;
  d.fragmentOffset = at.readUInt16BE(42) & 0xfff8;
  d.moreFragments = (at.readUInt16BE(42) & 1) !== 0;
  d.fragmentId = at.readUInt32BE(44);
  d.transport = at.subarray(48, 40 + length);
}

/** Read the transport header of a whole packet into `d`. */
export function decodeTransport(d: Decoded, checksums = true): void {
  const t = d.transport;
  const pseudo = pseudoHeader(d.src, d.dst, d.protocol, t.length);
  if (d.protocol === TCP) {
    expect(!checksums || internetSum(pseudo, t) === 0, 'TCP checksum');
    const header = ((t[12] as number) >>> 4) * 4;
    d.srcPort = t.readUInt16BE(0);
    d.dstPort = t.readUInt16BE(2);
    d.seq = t.readUInt32BE(4);
    d.ack = t.readUInt32BE(8);
    d.flags = t[13] as number;
    d.window = t.readUInt16BE(14);
    d.options = t.subarray(20, header);
    d.payload = t.subarray(header);
  } else if (d.protocol === UDP) {
    expect(t.readUInt16BE(4) === t.length, 'UDP length');
    expect(!checksums || (internetSum(pseudo, t) === 0 && t.readUInt16BE(6) !== 0), 'UDP checksum');
    d.srcPort = t.readUInt16BE(0);
    d.dstPort = t.readUInt16BE(2);
    d.payload = t.subarray(8);
  } else if (d.protocol === ICMP || d.protocol === ICMPV6) {
    const sum = d.protocol === ICMP ? internetSum(t) : internetSum(pseudo, t);
    expect(!checksums || sum === 0, 'ICMP checksum');
    d.icmpType = t[0] as number;
    d.icmpCode = t[1] as number;
    d.icmpRest = t.readUInt32BE(4);
    d.payload = t.subarray(8);
  }
}

/** Put fragments of one datagram together, in any order. */
export function reassemble(parts: readonly Decoded[]): Decoded {
  const sorted = [...parts].sort((a, b) => a.fragmentOffset - b.fragmentOffset);
  let at = 0;
  for (const part of sorted) {
    expect(part.fragmentOffset === at, 'fragments in a row');
    expect(!part.moreFragments || part.transport.length % 8 === 0, 'fragment size');
    expect(part.fragmentId === (sorted[0] as Decoded).fragmentId, 'one identification');
    at += part.transport.length;
  }
  expect((sorted.at(-1) as Decoded).moreFragments === false, 'a last fragment');
  const whole = { ...(sorted[0] as Decoded), transport: Buffer.concat(sorted.map((p) => p.transport)) };
  whole.fragmentOffset = 0;
  whole.moreFragments = false;
  decodeTransport(whole);
  return whole;
}
