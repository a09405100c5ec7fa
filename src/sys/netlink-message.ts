/**
 * Building and reading rtnetlink messages in one fixed buffer: bytes only, no socket.
 *
 * Read: RFC 3549 and rtnetlink(7). All fields are in host order, which is little-endian on every target.
 * Attribute and message lengths are padded to 4 bytes (NLMSG_ALIGNTO, RTA_ALIGNTO).
 */

export const RTM_NEWLINK = 16;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const IFLA_MTU = 4;

export const NLM_F_REQUEST = 0x001;
export const NLM_F_ACK = 0x004;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

/** Length of struct nlmsghdr. */
export const NLMSG_HEADER_BYTES = 16;
/** Length of struct ifinfomsg. */
export const IFINFO_BYTES = 16;

/** One request at a time, written front to back; a write past the end throws (start-up code, programmer error). */
export class NetlinkMessage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Bytes used so far. */
  length = 0;

  /** Built in the first `size` bytes of `buffer`. */
  constructor(size: number, buffer: ArrayBuffer = new ArrayBuffer(size)) {
    this.bytes = new Uint8Array(buffer, 0, size);
    this.view = new DataView(buffer, 0, size);
  }

  /** Start a request; `finish` fills in its length. */
  begin(type: number, flags: number, sequence: number): void {
    this.bytes.fill(0);
    this.length = 0;
    this.u32(0);
    this.u16(type);
    this.u16(flags);
    this.u32(sequence);
    this.u32(0);
  }

  u8(value: number): void {
    this.view.setUint8(this.length, value);
    this.length += 1;
  }

  u16(value: number): void {
    this.view.setUint16(this.length, value, true);
    this.length += 2;
  }

  u32(value: number): void {
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  attributeU32(type: number, value: number): void {
    this.u16(8);
    this.u16(type);
    this.u32(value);
  }

  attributeBytes(type: number, value: ArrayLike<number>): void {
    this.u16(4 + value.length);
    this.u16(type);
    if (this.length + value.length > this.bytes.length) throw new RangeError('netlink message too long');
    this.bytes.set(value, this.length);
    this.length += align(value.length);
  }

  /** Begin an attribute that holds others, and end it. */
  beginAttribute(type: number): number {
    const at = this.length;
    this.u16(0);
    this.u16(type);
    return at;
  }

  endAttribute(at: number): void {
    this.view.setUint16(at, this.length - at, true);
  }

  /** NUL-terminated, as the kernel wants names. */
  attributeText(type: number, value: string): void {
    const bytes = new Uint8Array(value.length + 1);
    for (let i = 0; i < value.length; i++) bytes[i] = value.charCodeAt(i) & 0x7f;
    this.attributeBytes(type, bytes);
  }

  finish(): number {
    this.view.setUint32(0, this.length, true);
    return this.length;
  }
}

/** Write a request at `at`, all of its `body` bytes zero; its length. */
export function putRequest(
  view: DataView,
  at: number,
  type: number,
  flags: number,
  sequence: number,
  body: number,
): number {
  const length = NLMSG_HEADER_BYTES + body;
  for (let i = 0; i < length; i += 4) view.setUint32(at + i, 0, true);
  view.setUint32(at, length, true);
  view.setUint16(at + 4, type, true);
  view.setUint16(at + 6, flags, true);
  view.setUint32(at + 8, sequence, true);
  return length;
}

/** `n` rounded up to the alignment of netlink. */
export function align(n: number): number {
  return (n + 3) & ~3;
}

/**
 * Offset of the payload of attribute `type` between `offset` and `end`, or −1. Lengths that run past `end` or are shorter
 * than their own header end the search. `attributeLength` gives the payload's length.
 */
export function findAttribute(view: DataView, offset: number, end: number, type: number): number {
  let at = offset;
  const limit = Math.min(end, view.byteLength);
  while (at + 4 <= limit) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > limit) return -1;
    // The two top bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    if ((view.getUint16(at + 2, true) & 0x3fff) === type) return at + 4;
    at += align(length);
  }
  return -1;
}

/** Payload bytes of the attribute whose payload starts at `payload`. */
export function attributeLength(view: DataView, payload: number): number {
  return view.getUint16(payload - 4, true) - 4;
}

/** Text of an attribute up to its NUL. */
export function attributeText(view: DataView, payload: number): string {
  const end = payload + attributeLength(view, payload);
  let text = '';
  for (let at = payload; at < end; at++) {
    const code = view.getUint8(at);
    if (code === 0) break;
    text += String.fromCharCode(code);
  }
  return text;
}
