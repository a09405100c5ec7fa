/**
 * Firewall rules as plain data. How users write them is an affair of the command lines (cli/rule).
 *
 * Rules travel between threads as `RuleSpec`, with the address as text. A host *name* stays a `ParsedRule` until the
 * control plane has resolved it; the data plane never sees a name.
 */
import { parseIpAddress } from '../stack/wire/address.ts';
import { formatPrefix } from './prefix.ts';

/** `none` matches nothing: slirpnetstack's unknown protocol words. */
export type RuleProtocol = 'tcp' | 'udp' | 'icmp' | 'any' | 'none';

/** A rule as plain data that survives structuredClone. `bits` counts in the 128-bit form: an IPv4 /24 is 120. */
export interface RuleSpec {
  proto: RuleProtocol;
  /** Canonical text, dotted for IPv4. */
  address: string;
  bits: number;
  /** Inclusive; all ports = 0…65535. */
  portMin: number;
  portMax: number;
}

export type RuleHost = { kind: 'prefix'; address: string; bits: number } | { kind: 'name'; name: string };

/** A rule whose host may still have to be resolved. */
export interface ParsedRule {
  proto: RuleProtocol;
  host: RuleHost;
  portMin: number;
  portMax: number;
}

/** A rule that cannot be used. The message is one line, ready for the user. */
export class RuleError extends Error {
  override readonly name = 'RuleError';
  readonly code = 'ERR_RULE';
}

/** The rule as data for the policy; `resolved` is the address that a host name stands for. @throws RuleError */
export function toRuleSpec(rule: ParsedRule, resolved?: string): RuleSpec {
  const { proto, portMin, portMax } = rule;
  if (rule.host.kind === 'prefix')
    return { proto, address: rule.host.address, bits: rule.host.bits, portMin, portMax };
  if (resolved === undefined) throw new RuleError(`lookup ${rule.host.name}: no such host`);
  try {
    return { proto, address: parseIpAddress(resolved).toString(), bits: 128, portMin, portMax };
  } catch (error) {
    throw new RuleError(`lookup ${rule.host.name}: ${(error as Error).message}`, { cause: error });
  }
}

/** The rule in its own grammar, for logs. */
export function formatRule(rule: RuleSpec): string {
  const host = formatPrefix(rule);
  const ports =
    rule.portMin === 0 && rule.portMax === 65535
      ? ''
      : rule.portMin === rule.portMax
        ? `:${rule.portMin}`
        : `:${rule.portMin}-${rule.portMax}`;
  return `${rule.proto}://${rule.address.includes(':') ? `[${host}]` : host}${ports}`;
}
