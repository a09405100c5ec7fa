/**
 * One representation for the addresses of both families: four unsigned 32-bit words, IPv4 as ::ffff:a.b.c.d.
 *
 * RFC 4291 (text and ranges), RFC 5952 (canonical text), RFC 1122 §3.2.1.3, RFC 3927.
 *
 * Because an IPv4 address *is* its mapped form here, an IPv6 packet that carries a mapped address on the wire could be
 * mistaken for IPv4: `parseIpv6` and `parseNdp` drop such packets, and no other reader of 16-byte addresses may skip that.
 * Zone ids (fe80::1%eth0) are left out on purpose: they name interfaces of one host and never appear on the wire.
 */

/** An IPv4 or IPv6 address; mutable, so that parsers can fill a preallocated one. */
export class IpAddress {
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;

  /** True for an IPv4 address (kept as ::ffff:a.b.c.d). */
  get isV4(): boolean {
    return this.w2 === 0xffff && this.w1 === 0 && this.w0 === 0;
  }

  /** 0.0.0.0 or ::. */
  get isUnspecified(): boolean {
    return this.w3 === 0 && this.w0 === 0 && this.w1 === 0 && (this.w2 === 0 || this.w2 === 0xffff);
  }

  /** 224.0.0.0/4 (RFC 1112 §4) or ff00::/8 (RFC 4291 §2.7). */
  get isMulticast(): boolean {
    return this.isV4 ? this.w3 >>> 28 === 0xe : this.w0 >>> 24 === 0xff;
  }

  /** Nobody's unicast address: multicast, limited broadcast, class E (RFC 1112 §4). */
  get isGroup(): boolean {
    return this.isV4 ? this.w3 >>> 29 === 7 : this.isMulticast;
  }

  /** 169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291 §2.5.6). */
  get isLinkLocal(): boolean {
    return this.isV4 ? this.w3 >>> 16 === 0xa9fe : this.w0 >>> 22 === 0x3fa;
  }

  /** 127.0.0.0/8 or ::1. */
  get isLoopback(): boolean {
    return this.isV4
      ? this.w3 >>> 24 === 127
      : this.w3 === 1 && this.w0 === 0 && this.w1 === 0 && this.w2 === 0;
  }

  set(w0: number, w1: number, w2: number, w3: number): this {
    this.w0 = w0 >>> 0;
    this.w1 = w1 >>> 0;
    this.w2 = w2 >>> 0;
    this.w3 = w3 >>> 0;
    return this;
  }

  /** Becomes the IPv4 address with this 32-bit value. */
  setV4(word: number): this {
    this.w0 = 0;
    this.w1 = 0;
    this.w2 = 0xffff;
    this.w3 = word >>> 0;
    return this;
  }

  copyFrom(o: IpAddress): this {
    this.w0 = o.w0;
    this.w1 = o.w1;
    this.w2 = o.w2;
    this.w3 = o.w3;
    return this;
  }

  clone(): IpAddress {
    return new IpAddress().copyFrom(this);
  }

  equals(o: IpAddress): boolean {
    return this.w3 === o.w3 && this.w2 === o.w2 && this.w1 === o.w1 && this.w0 === o.w0;
  }

  /** Reads 4 bytes. */
  readV4(view: DataView, off: number): this {
    this.w0 = 0;
    this.w1 = 0;
    this.w2 = 0xffff;
    this.w3 = view.getUint32(off);
    return this;
  }

  /** Reads 16 bytes. The caller must reject a result for which {@link isV4} is true. */
  readV6(view: DataView, off: number): this {
    this.w0 = view.getUint32(off);
    this.w1 = view.getUint32(off + 4);
    this.w2 = view.getUint32(off + 8);
    this.w3 = view.getUint32(off + 12);
    return this;
  }

  /** Writes the low 32 bits: 4 bytes. */
  writeV4(view: DataView, off: number): void {
    view.setUint32(off, this.w3);
  }

  /** Writes 16 bytes; an IPv4 address comes out mapped. */
  writeV6(view: DataView, off: number): void {
    view.setUint32(off, this.w0);
    view.setUint32(off + 4, this.w1);
    view.setUint32(off + 8, this.w2);
    view.setUint32(off + 12, this.w3);
  }

  /** Writes the native form, 4 or 16 bytes; returns how many. */
  write(view: DataView, off: number): number {
    if (this.isV4) {
      this.writeV4(view, off);
      return 4;
    }
    this.writeV6(view, off);
    return 16;
  }

  /** Is this address inside `prefix`/`bits`? `bits` (0 to 128) counts in the 128-bit form: an IPv4 /24 is 120. */
  inPrefix(prefix: IpAddress, bits: number): boolean {
    return (
      wordMatches(this.w0, prefix.w0, bits) &&
      wordMatches(this.w1, prefix.w1, bits - 32) &&
      wordMatches(this.w2, prefix.w2, bits - 64) &&
      wordMatches(this.w3, prefix.w3, bits - 96)
    );
  }

  /** Dotted decimal for IPv4, RFC 5952 text for IPv6. Not for the packet path. */
  toString(): string {
    return this.isV4 ? formatV4(this.w3) : formatV6(this);
  }
}

function wordMatches(a: number, b: number, bits: number): boolean {
  if (bits <= 0) return true;
  // A shift by 32 would be a shift by 0: a whole word is compared without one.
  return bits >= 32 ? a === b : (a ^ b) >>> (32 - bits) === 0;
}

function formatV4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

function groupsOf(a: IpAddress): number[] {
  const words = [a.w0, a.w1, a.w2, a.w3];
  return words.flatMap((w) => [w >>> 16, w & 0xffff]);
}

function formatV6(a: IpAddress): string {
  const groups = groupsOf(a);
  // RFC 5952 §4.2: the longest run of at least two zero groups is shortened, the first one when two are equal.
  let best = -1;
  let bestLen = 1;
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > bestLen) {
      best = i;
      bestLen = j - i;
    }
    i = j + 1;
  }
  const hex = groups.map((g) => g.toString(16));
  if (best < 0) return hex.join(':');
  return `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLen).join(':')}`;
}

/**
 * Reads an address from text: IPv4 as four decimal numbers without leading zeros, IPv6 as RFC 4291 §2.2 allows.
 * `::ffff:1.2.3.4` becomes the IPv4 address. Zone ids, prefixes, ports and blanks are not accepted.
 *
 * @throws RangeError with one line that names the text.
 */
export function parseIpAddress(text: string): IpAddress {
  const out = new IpAddress();
  if (text.includes(':')) {
    if (parseV6(text, out)) return out;
  } else {
    const word = parseV4(text);
    if (word >= 0) return out.setV4(word);
  }
  throw new RangeError(
    `not an IP address: ${JSON.stringify(text)} (expected for example 10.0.2.100 or fd00::100)`,
  );
}

/** The 32-bit value, or -1. */
function parseV4(text: string): number {
  const parts = text.split('.');
  if (parts.length !== 4) return -1;
  let word = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return -1;
    const n = Number(part);
    if (n > 255) return -1;
    word = word * 256 + n;
  }
  return word;
}

function parseV6(text: string, out: IpAddress): boolean {
  const gap = text.indexOf('::');
  const head: number[] = [];
  const tail: number[] = [];
  if (gap < 0) {
    if (!parseGroups(text, true, head) || head.length !== 8) return false;
  } else {
    // "::" stands for at least one group of zeros, and may appear once. ":::" leaves an empty group behind.
    if (!parseGroups(text.slice(0, gap), false, head)) return false;
    if (!parseGroups(text.slice(gap + 2), true, tail)) return false;
    if (head.length + tail.length > 7) return false;
  }
  const zeros = new Array<number>(8 - head.length - tail.length).fill(0);
  const g = head.concat(zeros, tail);
  out.set(pair(g, 0), pair(g, 2), pair(g, 4), pair(g, 6));
  return true;
}

function pair(groups: number[], i: number): number {
  return (groups[i] ?? 0) * 65536 + (groups[i + 1] ?? 0);
}

function parseGroups(text: string, mayEndInV4: boolean, groups: number[]): boolean {
  if (text === '') return true;
  const parts = text.split(':');
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? '';
    if (mayEndInV4 && i === parts.length - 1 && part.includes('.')) {
      const word = parseV4(part);
      if (word < 0) return false;
      groups.push(word >>> 16, word & 0xffff);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return false;
    }
  }
  return groups.length <= 8;
}

/** An IPv4 address in its 32 bits, as text. */
export function formatIpv4(bits: number): string {
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.');
}

/** An IP address as literal text (no names, no brackets) and a port. */
export interface Endpoint {
  address: string;
  port: number;
}

/** `1.2.3.4:80` or `[fd00::2]:80` (RFC 3986 §3.2.2). */
export function formatEndpoint({ address, port }: Endpoint): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
