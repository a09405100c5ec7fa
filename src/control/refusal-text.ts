/** Why something was refused, and what would open it, in words. Pure text: who says it, and when, is decided elsewhere. */
import { isIP } from 'node:net';
import { getSystemErrorName } from 'node:util';
import type { Endpoint, GuestConfig } from '../config.ts';
import type { Refusal, RefusalReason } from '../engine/messages.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../firewall/prefix.ts';
import { isWithin } from '../firewall/private.ts';
import { embeddedIpv4, reservedRanges } from '../firewall/reserved.ts';
import { formatRule, type RuleSpec } from '../firewall/rule.ts';
import { Policy, Protocol, Verdict } from '../firewall/verdict.ts';
import { formatEndpoint, IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { errnoTextOf } from './errno-text.ts';

/** What is known about a refusal. */
export interface Explanation {
  reason: RefusalReason | 'rule';
  /** The rule or the range that closes it; empty = none. */
  rule: string;
  /** Options that would open it, each by itself. */
  open: string[];
}

const protocols = { tcp: Protocol.Tcp, udp: Protocol.Udp, icmp: Protocol.Icmp } as const;

export class RefusalText {
  readonly #guest: GuestConfig;
  readonly #deny: { rule: RuleSpec; address: IpAddress }[];
  readonly #ranges: { prefix: Prefix; text: string }[];

  constructor(guest: GuestConfig) {
    this.#guest = guest;
    this.#deny = guest.policy.deny.map((rule) => ({ rule, address: parseIpAddress(rule.address) }));
    const { guestNetworks } = guest.policy;
    const own = guestNetworks.map((spec) => ({
      prefix: asPrefix(spec),
      text: `${formatPrefix(spec)} (guest)`,
    }));
    const reserved = reservedRanges.map(({ prefix, kind }) => ({
      prefix: parsePrefix(prefix),
      text: `${prefix} (${kind})`,
    }));
    // The innermost range that has an address comes first.
    this.#ranges = [...own, ...reserved].sort((a, b) => b.prefix.bits - a.prefix.bits);
  }

  explain(refusal: Refusal): Explanation {
    const { reason, destination } = refusal;
    const plain = { reason, rule: '', open: [] };
    if (reason === 'port') return { ...plain, open: this.#bringService(refusal) };
    if (!isPolicy(reason) || isIP(destination.address) === 0) return plain;
    const forms = writings(parseIpAddress(destination.address));
    const rule = this.#denyRule(refusal, forms);
    if (rule !== '') return { reason: 'rule', rule, open: [] };
    const open = this.#allowRule(refusal);
    if (reason === 'host') return { ...plain, open: [...open, '--enable-host'] };
    if (reason === 'default') return { ...plain, open: [...open, '--enable-routing'] };
    return { ...plain, rule: this.#range(forms), open };
  }

  /** One line. `detail` is why a name could not be found, if that is it. */
  line(refusal: Refusal, detail = ''): string {
    const { protocol, source, destination, error } = refusal;
    const { reason, rule, open } = this.explain(refusal);
    const to = text(destination);
    const from = source.address === '' ? '' : ` from ${text(source)}`;
    const way = open.length === 0 ? '' : `; ${open.join(' or ')} opens it`;
    const refused = `refused: ${protocol} to ${to}${from}`;
    const failed = error === 0 ? 'no answer' : errnoTextOf({ code: getSystemErrorName(-error) });
    switch (reason) {
      case 'rule':
        return `${refused}: the rule --deny ${rule} closes it`;
      case 'default':
        return `${refused}: nothing opens it${way}`;
      case 'host':
        return `${refused}: it is the host's${way}`;
      case 'reserved':
        return `${refused}: it is reserved, ${rule}${way}`;
      case 'group':
        return `${refused}: it is no single host's, ${rule}${way}`;
      case 'unsure':
        return `${refused}: the host's routes and addresses cannot be read`;
      case 'port':
        return `${refused}: nobody listens there${open.length === 0 ? '' : `; ${open.join(' or ')} brings a service of the host there`}`;
      case 'limit':
        return `${refused}: a limit is reached`;
      case 'resolver':
        return `the resolver ${to} does not help: ${failed}; --dns ADDRESS uses another`;
      case 'name':
        return `failed: ${protocol} to ${to}${from}: the name of a remote forward is not found (${detail})`;
      case 'target':
        return `failed: ${protocol} to ${to}${from}: the target of a remote forward cannot be reached (${failed}): is the service up?`;
      case 'guest':
        return error === ECONNREFUSED
          ? `failed: ${protocol}${from}: the guest refuses on ${to}: does the service listen, and not on 127.0.0.1 only?`
          : `failed: ${protocol}${from}: the guest does not answer on ${to} (${failed}): has it that address, and is its interface up?`;
      case 'system':
        return `failed: ${protocol} to ${to}${from}: the host cannot (${failed})`;
      case 'connect':
      case 'left':
        return `failed: ${protocol} to ${to}${from}: ${reason === 'left' ? 'given up' : failed}`;
    }
  }

  #denyRule({ protocol, destination: { port } }: Refusal, forms: readonly IpAddress[]): string {
    const found = this.#deny.find(
      ({ rule, address }) =>
        (rule.proto === 'any' || rule.proto === protocol) &&
        port >= rule.portMin &&
        port <= rule.portMax &&
        forms.some((form) => form.isV4 === address.isV4 && isWithin(form, address, rule.bits)),
    );
    return found === undefined ? '' : formatRule(found.rule);
  }

  #range(forms: readonly IpAddress[]): string {
    for (const form of forms) {
      const found = this.#ranges.find(
        ({ prefix }) => prefix.address.isV4 === form.isV4 && isWithin(form, prefix.address, prefix.bits),
      );
      if (found !== undefined) return found.text;
    }
    return '';
  }

  /** The narrowest rule, if it would do. */
  #allowRule({ protocol, destination: { address, port } }: Refusal): string[] {
    const [portMin, portMax] = protocol === 'icmp' ? [0, 65535] : [port, port];
    const rule: RuleSpec = { proto: protocol, address, bits: 128, portMin, portMax };
    const { guestNetworks, closed = [] } = this.#guest.policy;
    const spec = { enableRouting: false, enableHost: false, allow: [rule], deny: [], guestNetworks, closed };
    const verdict = new Policy(spec).verdict(protocols[protocol], parseIpAddress(address), port);
    return verdict === Verdict.Permit ? [`--allow ${formatRule(rule)}`] : [];
  }

  /** At one of our own addresses, a port that nobody listens on can be a forward's. */
  #bringService({ protocol, destination: { address, port } }: Refusal): string[] {
    if (protocol === 'icmp' || port === 0) return [];
    const scheme = protocol === 'udp' ? 'udp://' : '';
    return [`-R ${scheme}${formatEndpoint({ address, port })}:127.0.0.1:${port}`];
  }
}

const ECONNREFUSED = 111;

function isPolicy(reason: RefusalReason): boolean {
  return reason === 'default' || reason === 'reserved' || reason === 'group' || reason === 'host';
}

function asPrefix({ address, bits }: { address: string; bits: number }): Prefix {
  return { address: parseIpAddress(address), bits };
}

/** An address, and the IPv4 address inside of it. */
function writings(address: IpAddress): IpAddress[] {
  const inner = new IpAddress();
  return embeddedIpv4(address, inner) ? [address, inner] : [address];
}

function text(end: Endpoint): string {
  return end.port === 0 ? end.address : formatEndpoint(end);
}
