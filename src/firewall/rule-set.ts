/**
 * A compiled list of rules: answers whether any rule matches (protocol, address, port). Per prefix and protocol the port
 * ranges are merged into sorted, disjoint spans, so that thousands of rules for one address cost a binary search too.
 * Immutable; lookups allocate nothing.
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { AddressSet } from './address-set.ts';
import { compilePrefix, type Prefix } from './prefix.ts';
import { formatRule, RuleError, type RuleSpec } from './rule.ts';

/** The protocols that a verdict distinguishes. ICMP stands for ICMPv6 too, and has port 0. */
export const Protocol = { Tcp: 0, Udp: 1, Icmp: 2 } as const;
export type Protocol = (typeof Protocol)[keyof typeof Protocol];

const PROTOCOLS = 3;

const protocolsOf: Record<RuleSpec['proto'], readonly Protocol[]> = {
  tcp: [Protocol.Tcp],
  udp: [Protocol.Udp],
  icmp: [Protocol.Icmp],
  any: [Protocol.Tcp, Protocol.Udp, Protocol.Icmp],
  none: [],
};

interface Span {
  min: number;
  max: number;
}

export class RuleSet {
  readonly #prefixes: AddressSet;
  /** Spans of (entry, protocol) are #first[entry * 3 + protocol] up to the next one's. */
  readonly #first: Uint32Array;
  readonly #min: Uint16Array;
  readonly #max: Uint16Array;

  /** @throws RuleError when a rule is not usable */
  constructor(rules: readonly RuleSpec[]) {
    const used = rules.filter((rule) => rule.proto !== 'none');
    this.#prefixes = new AddressSet(used.map(checkedPrefix));

    const spans: Span[][] = Array.from({ length: this.#prefixes.size * PROTOCOLS }, () => []);
    used.forEach((rule, index) => {
      const entry = this.#prefixes.entryOf[index]!;
      for (const protocol of protocolsOf[rule.proto])
        spans[entry * PROTOCOLS + protocol]!.push({ min: rule.portMin, max: rule.portMax });
    });

    const merged = spans.map(mergeSpans);
    const flat = merged.flat();
    this.#min = Uint16Array.from(flat, (span) => span.min);
    this.#max = Uint16Array.from(flat, (span) => span.max);
    this.#first = new Uint32Array(merged.length + 1);
    merged.forEach((list, slot) => {
      this.#first[slot + 1] = this.#first[slot]! + list.length;
    });
  }

  /**
   * Whether a rule matches. Rules with a prefix shorter than `minBits` (128-bit form) do not count: they are too broad
   * to speak for a reserved range of that length.
   */
  matches(protocol: Protocol, addr: IpAddress, port: number, minBits: number): boolean {
    let entry = this.#prefixes.find(addr);
    while (entry >= 0 && this.#prefixes.bitsOf(entry) >= minBits) {
      if (this.#portMatches(entry * PROTOCOLS + protocol, port)) return true;
      entry = this.#prefixes.parentOf(entry);
    }
    return false;
  }

  #portMatches(slot: number, port: number): boolean {
    let low = this.#first[slot]!;
    let high = this.#first[slot + 1]!;
    // The first span that does not end before the port.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#max[middle]! < port) low = middle + 1;
      else high = middle;
    }
    return low < this.#first[slot + 1]! && this.#min[low]! <= port;
  }
}

/** Rules also arrive through the library API, so they are checked here once more. */
function checkedPrefix(rule: RuleSpec): Prefix {
  if (!Object.hasOwn(protocolsOf, rule.proto))
    throw new RuleError(`rule protocol ${JSON.stringify(rule.proto)} is not tcp, udp, icmp, any or none`);
  if (!isPort(rule.portMin) || !isPort(rule.portMax) || rule.portMin > rule.portMax)
    throw new RuleError(`rule ${formatRule(rule)}: ports are not two ascending numbers from 0 to 65535`);
  try {
    return compilePrefix(rule);
  } catch (error) {
    throw new RuleError(`rule ${JSON.stringify(rule.address)}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 65535;
}

function mergeSpans(spans: Span[]): Span[] {
  spans.sort((a, b) => a.min - b.min);
  const merged: Span[] = [];
  for (const { min, max } of spans) {
    const last = merged[merged.length - 1];
    if (last !== undefined && min <= last.max + 1) last.max = Math.max(last.max, max);
    else merged.push({ min, max });
  }
  return merged;
}
