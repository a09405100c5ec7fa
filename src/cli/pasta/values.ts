/** Values of pasta's options: text in, checked value out, with that program's texts for what is wrong. */
import { readFileSync } from 'node:fs';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { isGroupMac, parseMac } from '../../stack/wire/ethernet.ts';

/** What is wrong, in one line; the exit status is 1. */
export class PastaError extends Error {
  override readonly name = 'PastaError';
}

/** With its zero: an interface's name. */
const NAME_SIZE = 16;
/** With its zero: a host's name. */
const HOST_NAME_SIZE = 64;
/** With its zero: a domain name. */
const DOMAIN_SIZE = 256;
export const MTU_MAX = 65521;
/** RFC 791 §3.2, RFC 8200 §5. */
const MTU_MIN4 = 68;
const MTU_MIN6 = 1280;
const LOG_SIZE_MIN = 40960;

/** Digits alone, as a number; NaN when it is anything else. */
export function wholeNumber(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
}

function addressOrNull(text: string): IpAddress | null {
  try {
    const address = parseIpAddress(text);
    // A mapped address is one of IPv6 for whoever writes it so, and of no use.
    return address.isV4 && text.includes(':') ? null : address;
  } catch {
    return null;
  }
}

/** What an address may not be. */
interface Unwanted {
  loopback?: boolean;
  multicast?: boolean;
}

function isUsable(address: IpAddress, { loopback = false, multicast = false }: Unwanted): boolean {
  const isBroadcast = address.isV4 && address.w3 === 0xffffffff;
  return !(
    address.isUnspecified ||
    isBroadcast ||
    (loopback && address.isLoopback) ||
    (multicast && address.isMulticast)
  );
}

/** One machine's address, as a literal. `complaint`: what stands in front of the text when it is none, to the last blank. */
export function hostAddress(text: string, complaint: string, unwanted: Unwanted = {}): string {
  const address = addressOrNull(text);
  if (address === null || !isUsable(address, unwanted)) throw new PastaError(`${complaint}${text}`);
  return address.toString();
}

/** `ADDR[/LEN]` of the guest; 0 = no length is given. */
export function guestAddress(text: string): { address: string; prefixLength: number } {
  const complaint = 'Invalid guest address';
  const [literal = '', length, ...more] = text.split('/');
  const address = addressOrNull(literal);
  const bits = length === undefined ? 0 : wholeNumber(length);
  if (address === null || !isUsable(address, { loopback: true, multicast: true }) || more.length > 0)
    throw new PastaError(`${complaint}: ${text}`);
  if (length !== undefined && !(bits >= 1 && bits <= (address.isV4 ? 32 : 128)))
    throw new PastaError(`${complaint}: ${text}`);
  return { address: address.toString(), prefixLength: bits };
}

/** An IPv4 mask, in bits or dotted. */
export function prefixLength(text: string): number {
  const bits = wholeNumber(text);
  if (bits >= 1 && bits <= 32) return bits;
  const mask = addressOrNull(text);
  if (mask?.isV4 === true && mask.w3 !== 0) {
    const ones = Math.clz32(~mask.w3);
    if (ones === 32 || mask.w3 << ones === 0) return ones;
  }
  throw new PastaError(`Invalid prefix length: ${text}`);
}

export function mtu(text: string): number {
  const bytes = wholeNumber(text);
  if (Number.isNaN(bytes)) throw new PastaError(`Invalid MTU: ${text}`);
  if (bytes > MTU_MAX) throw new PastaError(`MTU ${text} too large (max ${MTU_MAX})`);
  return bytes;
}

/** What is not as it should be about an MTU that is taken all the same. */
export function mtuWarnings(bytes: number, ipv4: boolean, ipv6: boolean): string[] {
  if (bytes === 0) return [];
  const warnings: string[] = [];
  if (ipv4 && bytes < MTU_MIN4) warnings.push(`MTU ${bytes} is too small for IPv4 (minimum ${MTU_MIN4})`);
  if (ipv6 && bytes < MTU_MIN6) warnings.push(`MTU ${bytes} is too small for IPv6 (minimum ${MTU_MIN6})`);
  return warnings;
}

/** An Ethernet address of one station, in the usual form. */
export function macAddress(text: string): string {
  if (/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/.test(text)) {
    const mac = parseMac(text);
    if (!isGroupMac(mac.hi) && (mac.hi !== 0 || mac.lo !== 0)) return text.toLowerCase();
  }
  throw new PastaError(`Invalid MAC address: ${text}`);
}

/** The name of an interface that is to be made. */
export function interfaceName(text: string): string {
  const { length } = Buffer.from(text);
  const isName = length > 0 && length < NAME_SIZE && !/[/\s:%]/.test(text) && text !== '.' && text !== '..';
  if (!isName) throw new PastaError(`Invalid interface name: ${text}`);
  return text;
}

/** An interface that the host has. */
export function hostInterface(text: string): string {
  // Of our network namespace, whatever is mounted at /sys.
  const lines = readFileSync('/proc/self/net/dev', 'latin1').split('\n');
  if (lines.some((line) => line.slice(0, line.indexOf(':')).trim() === text && text !== '')) return text;
  throw new PastaError(`Invalid interface name ${text}: No such device`);
}

export function hostName(text: string): string {
  const { length } = Buffer.from(text);
  if (length === 0 || length >= HOST_NAME_SIZE) throw new PastaError(`Invalid hostname: ${text}`);
  return text;
}

export function domainName(text: string, complaint: string): string {
  const { length } = Buffer.from(text);
  if (length === 0 || length >= DOMAIN_SIZE || /[\s,]/.test(text))
    throw new PastaError(`${complaint}${text}`);
  return text;
}

export function logSize(text: string): number {
  const bytes = wholeNumber(text);
  if (!(bytes >= LOG_SIZE_MIN && bytes < 2 ** 31)) throw new PastaError(`Invalid --log-size: ${text}`);
  return bytes;
}

/** A descriptor that can be one of the caller's for us. */
export function descriptor(text: string): number {
  const fd = wholeNumber(text);
  if (!(fd > 2 && fd < 2 ** 31)) throw new PastaError(`Invalid --fd: ${text}`);
  return fd;
}

export function seconds(text: string): number {
  const delay = wholeNumber(text);
  if (!(delay >= 1 && delay < 2 ** 31)) throw new PastaError(`Invalid --stats: ${text}`);
  return delay;
}

/** What is to be a file's name, or a namespace's. */
export function path(option: string, text: string): string {
  if (text === '' || text.includes('\0')) throw new PastaError(`Invalid ${option}: ${text}`);
  return text;
}
