/**
 * Addresses that have no one owner in the world: wherever a route for them leads, it is somebody's own network. RFC 1918,
 * RFC 6598 (carriers and overlay networks), RFC 3927, RFC 2544 (benchmarks, and what some VPN software hands out), RFC 4193,
 * RFC 4291 §2.5.6, RFC 3879 (site-local, deprecated).
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { type Prefix, parsePrefix, wordMask } from './prefix.ts';

const ranges: readonly Prefix[] = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '169.254.0.0/16',
  '198.18.0.0/15',
  'fc00::/7',
  'fe80::/10',
  'fec0::/10',
].map(parsePrefix);

/** Whether all addresses of a prefix are private; `bits` in the 128-bit form. */
export function isPrivate(address: IpAddress, bits: number): boolean {
  return ranges.some((range) => bits >= range.bits && isWithin(address, range.address, range.bits));
}

/** Whether `address` lies in the first `bits` bits of `network`. */
export function isWithin(address: IpAddress, network: IpAddress, bits: number): boolean {
  return (
    ((address.w0 ^ network.w0) & wordMask(bits)) === 0 &&
    ((address.w1 ^ network.w1) & wordMask(bits - 32)) === 0 &&
    ((address.w2 ^ network.w2) & wordMask(bits - 64)) === 0 &&
    ((address.w3 ^ network.w3) & wordMask(bits - 96)) === 0
  );
}
