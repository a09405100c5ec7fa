/**
 * The one decision: may the guest reach this destination? TCP, UDP and ICMP, both families and every front end ask here,
 * with the canonical address that the socket call will get, at the time of the call.
 *
 * Order, first that speaks wins:
 *
 * 1. a deny rule                                   → Deny
 * 2. a broadcast address of a link of the host's  → DenyGroup
 * 3. a reserved range: an allow rule that lies inside it opens it (a broader one does not);
 *    else                                          → DenyReserved or DenyGroup
 * 4. an allow rule                                 → Permit
 * 5. the host's addresses and networks             → Permit with enableHost, else DenyHost
 * 6. everything else                               → Permit with enableRouting, else Deny
 *
 * Where reserved ranges nest, the allow rule must lie inside the innermost: 169.254.0.0/16 does not open
 * 169.254.169.254, nor the guest's network its broadcast address. A permitted IPv6 destination that carries an IPv4
 * address inside (6to4, Teredo, ISATAP, NAT64 for local use) is judged again as that one, and both must pass.
 * IPv4-compatible and IPv4-translated destinations never pass. One with the well-known prefix of NAT64 is judged as the
 * IPv4 address inside and nothing else; rules that name it in this writing count as rules for that address.
 *
 * ICMP has port 0: icmp rules and portless `any` rules match it, tcp and udp rules do not. `defaultAllow` is the policy
 * of slirp4netns, which has no firewall: 5 and 6 permit.
 *
 * Not here: remote forwards and the stack's own addresses, which the target decides before; what a deny means for flows
 * that exist already.
 */
import { IpAddress } from '../stack/wire/address.ts';
import { AddressSet } from './address-set.ts';
import { HostRouteTable } from './host-routes.ts';
import {
  compilePrefix,
  formatPrefix,
  inOwnBits,
  type Prefix,
  type PrefixSpec,
  parsePrefix,
} from './prefix.ts';
import {
  embeddedIpv4,
  isNat64,
  isNeverValid,
  type ReservedKind,
  reservedRanges,
  secondEmbeddedIpv4,
} from './reserved.ts';
import { formatRule, type RuleSpec } from './rule.ts';
import { Protocol, RuleSet } from './rule-set.ts';

export { Protocol } from './rule-set.ts';

/** `DenyUnsure` is for callers that do not know what is the host's. */
export const Verdict = {
  Permit: 0,
  Deny: 1,
  DenyReserved: 2,
  DenyGroup: 3,
  DenyHost: 4,
  DenyUnsure: 5,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** A policy as plain data. */
export interface PolicySpec {
  /** Addresses that are not the host's are open. */
  enableRouting: boolean;
  /** The host's addresses and networks are open. */
  enableHost: boolean;
  allow: RuleSpec[];
  deny: RuleSpec[];
  /** Everything but the reserved ranges is open, unless a deny rule says otherwise. */
  defaultAllow?: boolean;
  /** The guest's own networks, both families: reserved. */
  guestNetworks: PrefixSpec[];
  /** Further reserved ranges. */
  closed?: PrefixSpec[];
}

/** Rules as broad as the prefix of NAT64, or broader, name none of the IPv4 addresses inside. */
const NAT64_RULE_BITS = 97;

export class Policy {
  #allow!: RuleSet;
  #deny!: RuleSet;
  #reserved!: AddressSet;
  /** Kind of each entry of #reserved. */
  #reservedKind: readonly ReservedKind[] = [];
  readonly #hosts: HostRouteTable;
  #openHost = false;
  #openRouting = false;
  #changes = 0;
  readonly #inner = new IpAddress();

  /**
   * @param hosts what belongs to the host; shared between guests, may change at any time
   * @throws RuleError or RangeError when the data is not usable
   */
  constructor(spec: PolicySpec, hosts: HostRouteTable = new HostRouteTable()) {
    this.#hosts = hosts;
    this.set(spec);
  }

  /**
   * From now on it says what `spec` does.
   * @throws RuleError or RangeError when the data is not usable; nothing has changed then
   */
  set(spec: PolicySpec): void {
    const allow = new RuleSet(spec.allow);
    const deny = new RuleSet(spec.deny);
    const [reserved, kinds] = reservedOf(spec);
    this.#allow = allow;
    this.#deny = deny;
    this.#reserved = reserved;
    this.#reservedKind = kinds;
    this.#changes++;
    this.#openHost = spec.enableHost || spec.defaultAllow === true;
    this.#openRouting = spec.enableRouting || spec.defaultAllow === true;
  }

  /** A verdict may be used again as long as this is the same. */
  get version(): number {
    // Both only grow, so no sum comes twice.
    return this.#hosts.version + this.#changes;
  }

  /** Judges one destination. `port` in host order, 0 for ICMP. Allocates nothing and does not keep `dst`. */
  verdict(proto: Protocol, dst: IpAddress, port: number): Verdict {
    const inner = this.#inner;
    if (isNat64(dst) && this.#reserved.find(dst) < 0) {
      embeddedIpv4(dst, inner);
      return this.#judge(proto, inner, port, dst);
    }
    const outer = this.#judge(proto, dst, port, null);
    if (outer !== Verdict.Permit || dst.isV4) return outer;
    if (!embeddedIpv4(dst, inner)) return outer;
    const first = this.#judge(proto, inner, port, null);
    if (first !== Verdict.Permit || !secondEmbeddedIpv4(dst, inner)) return first;
    return this.#judge(proto, inner, port, null);
  }

  /** In a range that no broad rule opens, the guest's own networks included. */
  isReserved(address: IpAddress): boolean {
    if (isNat64(address) && embeddedIpv4(address, this.#inner) && this.#reserved.find(this.#inner) >= 0)
      return true;
    return isNeverValid(address) || this.#reserved.find(address) >= 0;
  }

  /** `writing`: the same destination as a NAT64 address, or null. */
  #judge(proto: Protocol, dst: IpAddress, port: number, writing: IpAddress | null): Verdict {
    if (this.#deny.matches(proto, dst, port, 0)) return Verdict.Deny;
    if (writing !== null && this.#deny.matches(proto, writing, port, 0)) return Verdict.Deny;
    if (isNeverValid(dst)) return Verdict.DenyReserved;
    if (this.#hosts.isBroadcast(dst)) return Verdict.DenyGroup;
    const range = this.#reserved.find(dst);
    if (range >= 0) {
      const kind = this.#reservedKind[range]!;
      const open = this.#isAllowed(proto, dst, port, writing, this.#reserved.bitsOf(range));
      if (open && !(kind === 'group' && proto === Protocol.Tcp)) return Verdict.Permit;
      return kind === 'group' || kind === 'future' ? Verdict.DenyGroup : Verdict.DenyReserved;
    }
    if (this.#isAllowed(proto, dst, port, writing, 0)) return Verdict.Permit;
    if (this.#hosts.contains(dst)) return this.#openHost ? Verdict.Permit : Verdict.DenyHost;
    return this.#openRouting ? Verdict.Permit : Verdict.Deny;
  }

  /** A rule allows it whose prefix has at least `minBits`. */
  #isAllowed(
    proto: Protocol,
    dst: IpAddress,
    port: number,
    writing: IpAddress | null,
    minBits: number,
  ): boolean {
    if (this.#allow.matches(proto, dst, port, minBits)) return true;
    // Both writings have the IPv4 address in the last word, so lengths of prefixes mean the same.
    return writing !== null && this.#allow.matches(proto, writing, port, Math.max(minBits, NAT64_RULE_BITS));
  }
}

/** The ranges that no broad rule opens, and the kind of each entry. */
function reservedOf(spec: PolicySpec): [AddressSet, ReservedKind[]] {
  const prefixes: Prefix[] = [];
  const kinds: ReservedKind[] = [];
  for (const range of reservedRanges) {
    prefixes.push(parsePrefix(range.prefix));
    kinds.push(range.kind);
  }
  for (const network of spec.guestNetworks) {
    const prefix = compilePrefix(network);
    prefixes.push(prefix);
    kinds.push('local');
    // RFC 1122 §3.2.1.3 (a, d): the network itself and its broadcast address. RFC 3021 /31 links have neither.
    if (!prefix.address.isV4 || prefix.bits > 126) continue;
    const { w3 } = prefix.address;
    const broadcast = (w3 | (0xffffffff >>> (prefix.bits - 96))) >>> 0;
    prefixes.push({ address: new IpAddress().setV4(w3), bits: 128 });
    prefixes.push({ address: new IpAddress().setV4(broadcast), bits: 128 });
    kinds.push('group', 'group');
  }
  for (const range of spec.closed ?? []) {
    prefixes.push(compilePrefix(range));
    kinds.push('embedded');
  }
  const reserved = new AddressSet(prefixes);
  const byEntry: ReservedKind[] = [];
  kinds.forEach((kind, index) => {
    byEntry[reserved.entryOf[index]!] = kind;
  });
  return [reserved, byEntry];
}

/** Rules, and networks, written out in `describePolicy`; more are counted. */
const RULES_SHOWN = 8;

/** The policy as data, for people to read: lengths of prefixes are their family's. */
export function shownPolicy(spec: PolicySpec): PolicySpec {
  const { allow, deny, guestNetworks, closed } = spec;
  return {
    ...spec,
    allow: allow.map(inOwnBits),
    deny: deny.map(inOwnBits),
    guestNetworks: guestNetworks.map(inOwnBits),
    ...(closed && { closed: closed.map(inOwnBits) }),
  };
}

/**
 * One line that says what the guest may reach, for the start of a run. `networks` are those of the host, as they are
 * known at that time.
 */
export function describePolicy(spec: PolicySpec, networks: readonly string[] = []): string {
  const open: string[] = [];
  const host = `the host's addresses and networks${listNetworks(networks)}`;
  if (spec.defaultAllow === true || (spec.enableRouting && spec.enableHost))
    open.push("the internet, the host's addresses and its networks");
  else if (spec.enableRouting) open.push(`the internet, not ${host}`);
  else if (spec.enableHost) open.push(`${host}, not the internet`);
  if (spec.allow.length > 0) open.push(listRules(spec.allow));

  let line = `guest may reach ${open.length === 0 ? 'nothing outside its own network' : open.join(', and ')}`;
  if (spec.deny.length > 0) line += `; but not ${listRules(spec.deny)}`;
  if (open.length > 0) line += '; reserved ranges stay closed unless a rule names them';
  if (spec.guestNetworks.length > 0)
    line += `; its own network is ${spec.guestNetworks.map(formatPrefix).join(', ')}`;
  return line;
}

function listNetworks(networks: readonly string[]): string {
  if (networks.length === 0) return '';
  const more = networks.length - RULES_SHOWN;
  return ` (${networks.slice(0, RULES_SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''})`;
}

function listRules(rules: readonly RuleSpec[]): string {
  const shown = rules.slice(0, RULES_SHOWN).map(formatRule).join(', ');
  return rules.length > RULES_SHOWN ? `${shown} and ${rules.length - RULES_SHOWN} more rules` : shown;
}
