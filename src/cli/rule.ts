/**
 * Firewall rules as users write them.
 *
 *     entry := [ NET "://" ] HOST [ ":" PORT [ "-" PORT ] ]        NET: tcp unless given
 *     HOST  := IPv4 | CIDR | "[" IPv6 "]" | "[" IPv6 "]/" N | "[" IPv6CIDR "]" | name
 *
 * No port, `0` and `0-0` mean all ports. Two readings of this grammar:
 *
 * - strict (the native front end): NET is tcp, udp, icmp or any; whatever could be read in two ways (leading zeros,
 *   `1.2.3`, zone ids, host bits, mapped addresses, empty parts, blanks) is refused with one line that names the token.
 * - lenient (slirpnetstack): that program's grammar and its error texts word by word. An unknown NET is accepted and
 *   never matches. Ports are checked before the host. What cannot be a DNS name fails here as a failed lookup, so that
 *   no resolver gets to read `1.2.3` or `0x7f000001` as an address.
 */
import { isHostName } from '../control/names/host-name.ts';
import { formatPrefix, type ParsedPrefix, type PrefixSpec, parsePrefix } from '../firewall/prefix.ts';
import { type ParsedRule, RuleError, type RuleHost, type RuleProtocol } from '../firewall/rule.ts';
import { parseGoUint16, splitFields } from './rule-fields.ts';

export interface RuleOptions {
  /** Refuse everything ambiguous (default), or read as slirpnetstack does. */
  strict: boolean;
}

const STRICT: RuleOptions = { strict: true };

const ACCEPTED =
  'accepted: [tcp|udp|icmp|any://]HOST[:PORT[-PORT]] with HOST an IPv4 address, an [IPv6] address, a prefix like 10.0.0.0/8 or [fd00::/64], or a host name';

function refuse(entry: string, reason: string): never {
  throw new RuleError(`rule ${JSON.stringify(entry)}: ${reason}; ${ACCEPTED}`);
}

/** Reads a comma-separated list of entries. @throws RuleError */
export function parseRuleList(value: string, options: RuleOptions = STRICT): ParsedRule[] {
  return value.split(',').map((entry) => parseRuleEntry(entry, options));
}

/** Reads one entry. @throws RuleError */
export function parseRuleEntry(text: string, options: RuleOptions = STRICT): ParsedRule {
  const separator = text.indexOf('://');
  const word = separator < 0 ? 'tcp' : text.slice(0, separator);
  const rest = separator < 0 ? text : text.slice(separator + 3);
  const proto = options.strict ? strictProtocol(text, word) : lenientProtocol(word);
  if (options.strict) checkShape(text, rest);

  const fields = splitFields(rest);
  if (fields === undefined || fields.length > 2) {
    if (!options.strict) throw new RuleError('error parsing ipportrange');
    refuse(text, 'more than one ":" outside brackets (an IPv6 address is written [fd00::1])');
  }
  const [hostText = '', portText] = fields;
  const ports = options.strict ? strictPorts(text, portText) : lenientPorts(portText);
  const host = options.strict ? strictHost(text, hostText) : lenientHost(hostText);
  // ICMP has no ports, so a port in an icmp rule has nothing to select.
  if (proto === 'icmp') return { proto, host, portMin: 0, portMax: 65535 };
  return { proto, host, portMin: ports.min, portMax: ports.max };
}

function strictProtocol(entry: string, word: string): RuleProtocol {
  if (word === 'tcp' || word === 'udp' || word === 'icmp' || word === 'any') return word;
  return refuse(entry, `unknown protocol ${JSON.stringify(word)}`);
}

function lenientProtocol(word: string): RuleProtocol {
  return word === 'tcp' || word === 'udp' ? word : 'none';
}

/** Strict only: no blanks, and brackets only as one pair around an IPv6 address at the front. */
function checkShape(entry: string, rest: string): void {
  if (rest === '') refuse(entry, 'empty entry');
  if (/\s/.test(rest)) refuse(entry, 'blank inside');
  if (/[[\]]/.test(rest) && !/^\[[^[\]]*:[^[\]]*\](?:[/:][^[\]]*)?$/.test(rest))
    refuse(entry, 'brackets go around an IPv6 address and nothing else');
}

interface Ports {
  min: number;
  max: number;
}

const ALL_PORTS: Ports = { min: 0, max: 65535 };

function portRange(min: number, max: number): Ports {
  return min === 0 && max === 0 ? ALL_PORTS : { min, max };
}

function strictPorts(entry: string, text: string | undefined): Ports {
  if (text === undefined) return ALL_PORTS;
  const match = /^(0|[1-9][0-9]{0,4})(?:-(0|[1-9][0-9]{0,4}))?$/.exec(text);
  const min = Number(match?.[1] ?? -1);
  const max = Number(match?.[2] ?? min);
  if (match === null || min > 65535 || max > 65535)
    return refuse(
      entry,
      `port ${JSON.stringify(text)} is not a number from 0 to 65535, or two with "-" between`,
    );
  if (min > max) return refuse(entry, `ports ${JSON.stringify(text)} run backwards`);
  return portRange(min, max);
}

function lenientPorts(text: string | undefined): Ports {
  if (text === undefined) return ALL_PORTS;
  const dash = text.indexOf('-');
  const min = parseUint16(dash < 0 ? text : text.slice(0, dash));
  const max = dash < 0 ? min : parseUint16(text.slice(dash + 1));
  if (min > max) throw new RuleError('min port must be smaller equal than max');
  return portRange(min, max);
}

function parseUint16(text: string): number {
  const value = parseGoUint16(text);
  if (typeof value === 'string') throw new RuleError(value);
  return value;
}

function strictHost(entry: string, text: string): RuleHost {
  if (isHostName(text)) return { kind: 'name', name: text };
  let prefix: ParsedPrefix;
  try {
    prefix = parsePrefix(text);
  } catch (error) {
    return refuse(entry, `bad host ${JSON.stringify(text)} (${(error as Error).message})`);
  }
  const spec: PrefixSpec = { address: prefix.address.toString(), bits: prefix.bits };
  if (prefix.mapped)
    return refuse(entry, `IPv4-mapped address ${JSON.stringify(text)}, write ${formatPrefix(spec)}`);
  if (prefix.hostBits)
    return refuse(entry, `${JSON.stringify(text)} has bits beyond its length, write ${formatPrefix(spec)}`);
  return { kind: 'prefix', ...spec };
}

function lenientHost(text: string): RuleHost {
  try {
    const prefix = parsePrefix(text);
    return { kind: 'prefix', address: prefix.address.toString(), bits: prefix.bits };
  } catch {
    // `query@srv-server` is a label that the resolver understands.
    if (isHostName(text) || /^[\x21-\x7e]*@srv-[\x21-\x7e]+$/.test(text)) return { kind: 'name', name: text };
    throw new RuleError(`lookup ${text}: no such host`);
  }
}
