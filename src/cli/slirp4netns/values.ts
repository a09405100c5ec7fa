/** Values of slirp4netns options: text in, checked value out, with that program's texts for what is wrong. */
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Plan4, planIn } from '../values.ts';

/** What is wrong with a value; the text is all that goes to standard error, its end of line included. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
}

/** strtol(3) in base 10 that has to take the whole text; NaN when it does not. */
export function wholeNumber(text: string): number {
  return /^[ \t\n\v\f\r]*[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
}

/** The IPv4 side of the link. Throws `ValueError`. */
export function networkPlan(text: string): Plan4 {
  const match = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(text);
  if (match === null) throw new ValueError(`invalid CIDR: ${text}\n`);
  const [, address = '', length = ''] = match;
  const octets = address.split('.').map(Number);
  if (octets.some((octet) => octet > 255)) throw new ValueError(`invalid network address: ${address}\n`);
  const prefix4 = Number(length);
  if (prefix4 < 1 || prefix4 > 25) throw new ValueError('prefix length needs to be 1-25\n');
  const network = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  if (network % 2 ** (32 - prefix4) !== 0)
    throw new ValueError('CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24\n');
  return planIn(network, prefix4, 15);
}

/** A MAC address in the usual form. Throws `ValueError`. */
export function macAddress(text: string): string {
  const parts = text.split(':');
  if (parts.length === 6 && parts.every((part) => /^[0-9A-Fa-f]{1,2}$/.test(part)))
    return parts.map((part) => part.toLowerCase().padStart(2, '0')).join(':');
  const long = parts.length > 6 ? '  Is it too long?' : '';
  throw new ValueError(
    `"${text}" is an invalid MAC address.${long}\n` +
      "macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').\n",
  );
}

/** Source address for the outside: a literal, or the first address of an interface. Throws `ValueError`. */
export function outboundAddress(text: string, family: 4 | 6): string {
  if (isIP(text) === family && !text.includes('%')) return text;
  const all = (networkInterfaces()[text] ?? []).filter((entry) => entry.family === `IPv${family}`);
  // A link-local address would reach nobody outside.
  const found = all.find(({ address }) => !address.startsWith('fe80:')) ?? all[0];
  if (found !== undefined) return found.address;
  throw new ValueError('outbound-addr has to be valid ipv4 address or interface name.\n');
}
