/**
 * Address prefixes as text and as words. One form for both families: an IPv4 prefix lives under ::ffff:0:0/96, and
 * `bits` always counts in that 128-bit form (10.0.0.0/8 has 104). Used at start-up and on control messages only; the
 * per-packet lookups are in address-set.ts and host-routes.ts.
 *
 * RFC 4291 (text and mapped form), RFC 4632 (IPv4 prefixes), RFC 5952 (text written).
 */
import { type IpAddress, parseIpAddress } from '../stack/wire/address.ts';

/** A prefix as plain data that can be posted between threads: address as text, `bits` in the 128-bit form. */
export interface PrefixSpec {
  address: string;
  bits: number;
}

/** A prefix with its address parsed; host bits are zero. */
export interface Prefix {
  address: IpAddress;
  bits: number;
}

/** What `parsePrefix` saw besides the prefix, for front ends that accept less than it does. */
export interface ParsedPrefix extends Prefix {
  /** The text had bits set beyond the prefix length; they are cleared in `address`. */
  hostBits: boolean;
  /** The text was an IPv4-mapped IPv6 address; `address` is the IPv4 address. */
  mapped: boolean;
}

/** Bits of the 128-bit form in front of an IPv4 address. */
export const V4_BITS = 96;

/** The leading `bits` ones of a 32-bit word; values outside 0…32 saturate. */
export function wordMask(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? 0xffffffff : (0xffffffff << (32 - bits)) >>> 0;
}

/** Clears everything beyond the first `bits` bits of `address`, in place. */
export function maskAddress(address: IpAddress, bits: number): IpAddress {
  return address.set(
    (address.w0 & wordMask(bits)) >>> 0,
    (address.w1 & wordMask(bits - 32)) >>> 0,
    (address.w2 & wordMask(bits - 64)) >>> 0,
    (address.w3 & wordMask(bits - 96)) >>> 0,
  );
}

/**
 * Reads `ADDRESS` or `ADDRESS/N`. The length of a mapped address (`::ffff:10.0.0.0/104`) counts in 128 bits and is at
 * least 96: a shorter one would span both families.
 * @throws RangeError with one line that names the text
 */
export function parsePrefix(text: string): ParsedPrefix {
  const slash = text.indexOf('/');
  const addressText = slash < 0 ? text : text.slice(0, slash);
  const address = parseIpAddress(addressText);
  const mapped = address.isV4 && addressText.includes(':');
  const dotted = address.isV4 && !mapped;
  let bits = 128;
  if (slash >= 0) {
    const lengthText = text.slice(slash + 1);
    const longest = dotted ? 32 : 128;
    if (!/^(0|[1-9][0-9]{0,2})$/.test(lengthText) || Number(lengthText) > longest)
      throw new RangeError(
        `prefix length ${JSON.stringify(lengthText)} is not a number from 0 to ${longest}`,
      );
    bits = Number(lengthText) + (dotted ? V4_BITS : 0);
    if (mapped && bits < V4_BITS)
      throw new RangeError(
        `prefix length ${lengthText} of an IPv4-mapped address is not a number from 96 to 128`,
      );
  }
  const given = address.clone();
  maskAddress(address, bits);
  return { address, bits, hostBits: !given.equals(address), mapped };
}

/**
 * Checks a prefix that arrived as plain data and parses it; host bits are cleared.
 * @throws RangeError when the address or the length is not usable
 */
export function compilePrefix(spec: PrefixSpec): Prefix {
  const address = parseIpAddress(spec.address);
  const shortest = address.isV4 ? V4_BITS : 0;
  if (!Number.isInteger(spec.bits) || spec.bits < shortest || spec.bits > 128)
    throw new RangeError(`${spec.address}: ${spec.bits} bits is not an integer from ${shortest} to 128`);
  return { address: maskAddress(address, spec.bits), bits: spec.bits };
}

/** The same, for people to read: `bits` as its family counts them (10.0.0.0/8 has 8). */
export function inOwnBits<T extends PrefixSpec>(spec: T): T {
  return spec.address.includes(':') ? spec : { ...spec, bits: spec.bits - V4_BITS };
}

/** `10.0.0.0/8`, `fd00::/64`; a single address without its length. */
export function formatPrefix(prefix: PrefixSpec): string {
  if (prefix.bits === 128) return prefix.address;
  return `${prefix.address}/${inOwnBits(prefix).bits}`;
}
