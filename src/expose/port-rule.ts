/**
 * Rules by which pasta's ports lead elsewhere, and the tables of them: what stands beside what, as text and as ranges. No
 * sockets here.
 *
 * Limits: `RULES_MAX` rules in a table.
 */
import type { PortRange, PortRule, PortScope } from '../config.ts';
import { parseIpAddress } from '../stack/wire/address.ts';

/** The original has room for 255; a container's ports are a rule each. */
export const RULES_MAX = 4096;

/** What stands in a rule's way; lines, as pasta has them. */
export class RuleRefused extends Error {
  override readonly name = 'RuleRefused';
}

function ports(first: number, last: number): string {
  return first === last ? `${first}` : `${first}-${last}`;
}

/** As pasta shows it, the blank at the end included. */
export function ruleText(rule: PortRule): string {
  const { protocol, address, device, range, targetAddress, targetPort, bestEffort, auto } = rule;
  const from = `[${address || '*'}]${device === '' ? '' : `%${device}`}:${ports(range.first, range.last)}`;
  const to = ports(targetPort, targetPort + range.last - range.first);
  const target = targetAddress === '' ? to : `[${targetAddress}]:${to}`;
  const flags = `${bestEffort ? ' (best effort)' : ''}${auto ? ' (auto-scan)' : ''}`;
  return `${protocol.toUpperCase()} ${from}  =>  ${target} ${flags}`;
}

/** Whether two rules are one: to delete one, it has to be named exactly. */
export function isSameRule(one: PortRule, other: PortRule): boolean {
  return ruleText(one) === ruleText(other);
}

function overlap(one: PortRange, other: PortRange): boolean {
  return one.first <= other.last && other.first <= one.last;
}

/** Whether one address is the other, or all that there are of its family. */
function meet(one: string, other: string): boolean {
  if (one === other || one === '' || other === '') return true;
  if (one.includes(':') !== other.includes(':')) return false;
  return parseIpAddress(one).isUnspecified || parseIpAddress(other).isUnspecified;
}

/** Whether they would have a port in common. */
function collide(one: PortRule, other: PortRule): boolean {
  if (one.protocol !== other.protocol || !overlap(one.range, other.range)) return false;
  if (one.device !== '' && other.device !== '' && one.device !== other.device) return false;
  return meet(one.address, other.address);
}

/** Whether `rule` can be in `rules`. @throws RuleRefused */
function admit(rule: PortRule, rules: readonly PortRule[], scope: PortScope): void {
  const refuse = (...lines: string[]): RuleRefused =>
    new RuleRefused([...lines, `Unable to add rule ${ruleText(rule)}`].join('\n'));
  const { protocol, address, range, targetAddress, targetPort } = rule;
  const name = protocol.toUpperCase();
  if (!scope[protocol]) throw refuse(`Can't add ${name} forwarding rule, ${name} not enabled`);
  if (range.first === 0) throw refuse('Forwarding rule attempts to map from port 0');
  if (targetPort === 0) throw refuse('Forwarding rule attempts to map to port 0');
  if (address !== '') {
    const family = address.includes(':') ? 6 : 4;
    if (!scope[`ipv${family}`]) throw refuse(`IPv${family} forward, but IPv${family} not enabled`);
  }
  if (targetAddress !== '') {
    const family = (text: string): string => (text.includes(':') ? 'IPv6' : 'IPv4');
    const [to, from] = [family(targetAddress), family(address)];
    if (parseIpAddress(targetAddress).isMulticast)
      throw refuse(`Multicast target address ${targetAddress} for forwarding rule`);
    if (address === '')
      throw refuse(
        `Dual stack forward to ${to} address ${targetAddress} unsupported`,
        `Did you mean ${to === 'IPv4' ? '0.0.0.0' : '[::]'}/... instead?`,
      );
    if (from !== to)
      throw refuse(`Forward from ${from} (${address}) to ${to} (${targetAddress}) unsupported`);
  }
  const other = rules.find((present) => collide(rule, present));
  if (other !== undefined)
    throw refuse(`Forwarding configuration conflict: ${ruleText(rule)} versus ${ruleText(other)}`);
  if (rules.length >= RULES_MAX) throw refuse(`Too many rules (maximum ${RULES_MAX})`);
}

/** `rules` and those of `added`. @throws RuleRefused, the first that cannot be */
export function withRules(
  rules: readonly PortRule[],
  added: readonly PortRule[],
  scope: PortScope,
): PortRule[] {
  const all = [...rules];
  for (const rule of added) {
    admit(rule, all, scope);
    all.push(rule);
  }
  return all;
}

/** `rules` without those of `removed`. @throws RuleRefused, the first that is not there */
export function withoutRules(rules: readonly PortRule[], removed: readonly PortRule[]): PortRule[] {
  const left = [...rules];
  for (const rule of removed) {
    const at = left.findIndex((present) => isSameRule(present, rule));
    if (at < 0) throw new RuleRefused(`No such rule: ${ruleText(rule)}`);
    left.splice(at, 1);
  }
  return left;
}
