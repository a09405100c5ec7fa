/** The firewall's verdict: once per flow, and once per sender of datagrams and turn. */
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { parsePrefix } from '../../src/firewall/prefix.ts';
import type { RuleSpec } from '../../src/firewall/rule.ts';
import { Policy, Protocol } from '../../src/firewall/verdict.ts';
import { IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import { remote4, remote6 } from './fixture.ts';

const MANY = 10_000;

export function policyCases(): CaseGroup {
  const hosts = new HostRouteTable();
  for (const text of ['0.0.0.0/0', '::/0', '127.0.0.0/8', '192.168.1.0/24']) {
    const prefix = parsePrefix(text);
    hosts.add(prefix.address, prefix.bits);
  }
  hosts.addLocal(parseIpAddress('192.168.1.100'));

  const rule = (address: string, bits: number, portMin: number, portMax: number): RuleSpec => ({
    proto: 'tcp',
    address,
    bits,
    portMin,
    portMax,
  });
  const few = [
    rule('192.168.0.0', 112, 22, 22),
    rule('10.0.0.0', 104, 0, 65535),
    rule('203.0.113.9', 128, 443, 443),
  ];
  const many: RuleSpec[] = [];
  for (let i = 0; i < MANY; i++) {
    const address = new IpAddress().setV4(0xcb007109 - MANY * 256 + 256 * (i + 1));
    many.push(rule(address.toString(), i % 2 === 0 ? 128 : 120, 1, 1 + (i % 60000)));
  }
  const make = (allow: RuleSpec[], deny: RuleSpec[]): Policy =>
    new Policy(
      {
        enableRouting: true,
        enableHost: false,
        allow,
        deny,
        guestNetworks: [
          { address: '10.0.2.0', bits: 120 },
          { address: 'fd00::', bits: 64 },
        ],
      },
      hosts,
    );
  const small = make([], few);
  const large = make(many, many);
  const reserved = parseIpAddress('169.254.169.254');
  const sixToFour = parseIpAddress('2002:cb00:7109::1');

  const c = (name: string, run: () => void): Case => ({ group: 'policy', name, run });
  return {
    cases: [
      c('3 rules, IPv4', () => keep(small.verdict(Protocol.Tcp, remote4, 80))),
      c('3 rules, IPv6', () => keep(small.verdict(Protocol.Tcp, remote6, 443))),
      c('3 rules, reserved address', () => keep(small.verdict(Protocol.Tcp, reserved, 80))),
      c('3 rules, IPv4 inside IPv6', () => keep(small.verdict(Protocol.Tcp, sixToFour, 80))),
      c('10,000 rules each way, IPv4', () => keep(large.verdict(Protocol.Tcp, remote4, 65000))),
      c('10,000 rules each way, IPv6', () => keep(large.verdict(Protocol.Udp, remote6, 443))),
    ],
  };
}
