/**
 * A guest that reaches everything, as is. Two things are not "as is": addresses of the host's loopback are reached through
 * others alone (`0.0.0.0` and `::` mean loopback as well), and group addresses are not reached at all. So the reserved ranges
 * that stand for other machines are opened, cloud metadata among them: containers of a cloud machine find their credentials
 * there, and slirp4netns and pasta have never stood in between. Link-local IPv6 stays closed, because without an interface it
 * is no destination (the originals' connect fails as well).
 */
import { type RuleSpec, toRuleSpec } from '../firewall/rule.ts';
import { parseRuleList } from './rule.ts';

const OPEN: readonly string[] = [
  '169.254.0.0/16',
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '240.0.0.0/4',
  '[fd00:ec2::254]',
  '[fd00:ec2::23]',
  '[fd20:ce::254]',
  '[64:ff9b:1::/48]',
];

/** Rules that open those, and `more`. */
export function openRules(more: readonly string[] = []): RuleSpec[] {
  const text = [...OPEN, ...more].map((host) => `any://${host}`).join(',');
  return parseRuleList(text, { strict: true }).map((rule) => toRuleSpec(rule));
}
