/**
 * Destinations that stay closed whatever a broad rule says, and IPv4 addresses hidden inside IPv6 ones.
 *
 * Sources: the IANA special-purpose registries (RFC 6890, RFC 8190) and cloud vendors' manuals. Left out on purpose:
 * private (RFC 1918, RFC 4193), shared (RFC 6598), documentation (RFC 5737, RFC 3849) and benchmarking (RFC 2544)
 * ranges. They are ordinary destinations, reached or not by routing. So is the NAT64 prefix of RFC 6052, which is the
 * whole IPv4 internet where a host has IPv6 only: see `isNat64`. The guest's own network is added by the policy, because
 * the user chooses it.
 */
import type { IpAddress } from '../stack/wire/address.ts';

/**
 * `group`: more than one receiver, or none: dropped without an answer, and never a TCP destination (RFC 9293 §3.9.2.3).
 * `future`: dropped as a group address is, but openable for TCP: some operators run 240.0.0.0/4 as unicast.
 */
export type ReservedKind = 'local' | 'embedded' | 'linkLocal' | 'metadata' | 'group' | 'future';

export interface ReservedRange {
  /** Address, or prefix in the length of its own family. */
  prefix: string;
  kind: ReservedKind;
}

export const reservedRanges: readonly ReservedRange[] = [
  { prefix: '0.0.0.0/8', kind: 'local' }, // RFC 791 §3.2 "this network"; Linux connects 0.0.0.0 to itself
  { prefix: '127.0.0.0/8', kind: 'local' }, // RFC 1122 §3.2.1.3 loopback
  { prefix: '::/128', kind: 'local' }, // RFC 4291 §2.5.2 unspecified; Linux connects it to ::1
  { prefix: '::1/128', kind: 'local' }, // RFC 4291 §2.5.3 loopback

  { prefix: '::/96', kind: 'embedded' }, // RFC 4291 §2.5.5.1 IPv4-compatible, deprecated
  { prefix: '::ffff:0:0:0/96', kind: 'embedded' }, // RFC 7915 (RFC 2765) IPv4-translated, SIIT
  { prefix: '64:ff9b:1::/48', kind: 'embedded' }, // RFC 8215 NAT64 local use

  { prefix: '169.254.0.0/16', kind: 'linkLocal' }, // RFC 3927
  { prefix: 'fe80::/10', kind: 'linkLocal' }, // RFC 4291 §2.5.6

  // Cloud metadata: hands credentials to whoever asks from the host's address. No RFC; vendors' manuals.
  { prefix: '169.254.169.254', kind: 'metadata' }, // AWS, Azure, Google, OpenStack and others
  { prefix: '169.254.170.2', kind: 'metadata' }, // AWS ECS task credentials
  { prefix: '169.254.170.23', kind: 'metadata' }, // AWS EKS pod identity
  { prefix: 'fd00:ec2::254', kind: 'metadata' }, // AWS
  { prefix: 'fd00:ec2::23', kind: 'metadata' }, // AWS EKS pod identity
  { prefix: 'fd20:ce::254', kind: 'metadata' }, // Google
  { prefix: '100.100.100.200', kind: 'metadata' }, // Alibaba
  { prefix: '168.63.129.16', kind: 'metadata' }, // Azure platform services
  { prefix: '192.0.0.192', kind: 'metadata' }, // Oracle

  { prefix: '224.0.0.0/4', kind: 'group' }, // RFC 5771 multicast
  { prefix: 'ff00::/8', kind: 'group' }, // RFC 4291 §2.7 multicast
  { prefix: '255.255.255.255', kind: 'group' }, // RFC 919 §7 limited broadcast
  { prefix: '240.0.0.0/4', kind: 'future' }, // RFC 1112 §4 reserved
];

/**
 * IPv4-compatible (RFC 4291 §2.5.5.1) and IPv4-translated (RFC 7915) destinations: nothing legitimate sends to them, and
 * where something answers it answers as the IPv4 address. Closed even to rules that name them. Mapped addresses are not
 * seen here: they are IPv4 in this program, and on the wire they are dropped at ingress.
 */
export function isNeverValid(addr: IpAddress): boolean {
  if ((addr.w0 | addr.w1) !== 0) return false;
  return (addr.w2 === 0 && addr.w3 > 1) || addr.w2 === 0xffff0000;
}

/** RFC 6052 §2.1, the well-known prefix 64:ff9b::/96: an IPv4 address in other writing, for a translator on the way. */
export function isNat64(addr: IpAddress): boolean {
  return addr.w0 === 0x0064ff9b && addr.w1 === 0 && addr.w2 === 0;
}

/** ISATAP interface identifiers, RFC 5214 §6.1: locally or globally unique IPv4 address in the last word. */
function isIsatap(addr: IpAddress): boolean {
  return addr.w2 === 0x00005efe || addr.w2 === 0x02005efe;
}

/**
 * The IPv4 address that a packet to this IPv6 address would in the end be carried to. False when there is none; `out`
 * is then unchanged.
 */
export function embeddedIpv4(addr: IpAddress, out: IpAddress): boolean {
  if (addr.isV4) return false;
  if (isNeverValid(addr)) {
    out.setV4(addr.w3);
    return true;
  }
  if (addr.w0 >>> 16 === 0x2002) {
    // 6to4, RFC 3056 §2: the 32 bits after 2002::/16.
    out.setV4((((addr.w0 & 0xffff) << 16) | (addr.w1 >>> 16)) >>> 0);
    return true;
  }
  if (addr.w0 === 0x20010000) {
    // Teredo, RFC 4380 §4: the client's address, every bit inverted.
    out.setV4(~addr.w3 >>> 0);
    return true;
  }
  if (isNat64(addr)) {
    out.setV4(addr.w3); // RFC 6052 §2.2
    return true;
  }
  if (addr.w0 === 0x0064ff9b && addr.w1 >>> 16 === 1) {
    // RFC 8215 leaves the layout to the operator. Only the usual /96 one is understood; anything that could be one of
    // the shorter layouts of RFC 6052 §2.2 counts as 0.0.0.0, which no policy permits.
    out.setV4(addr.w2 === 0 && (addr.w3 & 0xffffff) !== 0 ? addr.w3 : 0);
    return true;
  }
  if (isIsatap(addr)) {
    out.setV4(addr.w3);
    return true;
  }
  return false;
}

/** A second IPv4 address in the same destination: the Teredo server (RFC 4380 §4), or ISATAP inside 6to4. */
export function secondEmbeddedIpv4(addr: IpAddress, out: IpAddress): boolean {
  if (addr.w0 === 0x20010000) {
    out.setV4(addr.w1);
    return true;
  }
  if (addr.w0 >>> 16 === 0x2002 && isIsatap(addr)) {
    out.setV4(addr.w3);
    return true;
  }
  return false;
}
