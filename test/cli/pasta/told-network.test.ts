import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { guestNetwork } from '../../../src/cli/pasta/network.ts';
import { type PastaNetwork, plainConfig } from '../../../src/cli/pasta/pasta-config.ts';
import { type HostNames, networkLines, networkWarnings } from '../../../src/cli/pasta/told-network.ts';
import { routedHost } from '../../support/recorded-network.ts';

const NAMES: HostNames = { servers: ['198.51.100.53'], search: ['example.com'] };
const NOTHING: HostNames = { servers: [], search: [] };

function wish(change: (network: PastaNetwork) => void = () => undefined): PastaNetwork {
  const { network } = plainConfig();
  change(network);
  return network;
}

const linesOf = (network: PastaNetwork, names = NAMES): string[] =>
  networkLines(network, guestNetwork(network, routedHost()), names);
const warningsOf = (network: PastaNetwork, names: HostNames): string[] =>
  networkWarnings(network, guestNetwork(network, routedHost()), names);

describe('pasta §3.1: what is told of the network', () => {
  test('all of it', () => {
    assert.equal(
      linesOf(wish()).join('\n'),
      `Template interface: eth0 (IPv4), eth0 (IPv6)
Namespace interface: eth0
MAC:
    host: 9a:55:9a:55:9a:55
    NAT to host 127.0.0.1: 192.0.2.1
DHCP:
    assign: 192.0.2.10
    mask: 255.255.255.0
    router: 192.0.2.1
DNS:
    198.51.100.53
DNS search list:
    example.com
    NAT to host ::1: fe80::1
NDP/DHCPv6:
    assign: 2001:db8::10
    router: fe80::1
    our link-local: fe80::1`,
    );
  });

  test('what is not there is not told; what is set is', () => {
    const network = wish((all) => {
      all.ipv4.outboundInterface = 'eth0';
      all.ipv4.outbound = '192.0.2.11';
      all.ipv4.mapHostLoopback = 'none';
      all.dhcp = false;
      all.ipv6.enabled = false;
      all.dns = ['9.9.9.9'];
      all.search = [];
    });
    assert.deepEqual(linesOf(network).slice(1), [
      'Namespace interface: eth0',
      'Outbound interface (IPv4): eth0',
      'Outbound IPv4 address: 192.0.2.11',
      'MAC:',
      '    host: 9a:55:9a:55:9a:55',
      'DNS:',
      '    9.9.9.9',
    ]);
  });

  test('a resolver on the loopback is told by what stands for that, or not at all', () => {
    const names = { servers: ['127.0.0.53', '::1', 'fe80::5%2'], search: [] };
    const resolvers = (lines: string[]) =>
      lines.filter((line) => /^ {4}[\da-f.:]+$/.test(line)).map((line) => line.trim());
    assert.deepEqual(resolvers(linesOf(wish(), names)), ['192.0.2.1', 'fe80::1', 'fe80::5']);
    const unmapped = wish(({ ipv4 }) => {
      ipv4.mapHostLoopback = 'none';
    });
    assert.deepEqual(resolvers(linesOf(unmapped, names)), ['fe80::1', 'fe80::5']);
  });
});

describe('pasta §6: what is warned of', () => {
  test('no resolver at all', () => {
    assert.deepEqual(warningsOf(wish(), NOTHING), ["Couldn't get any nameserver address"]);
    assert.deepEqual(warningsOf(wish(), NAMES), []);
    for (const change of [
      (all: PastaNetwork) => {
        all.dns = [];
      },
      (all: PastaNetwork) => {
        all.ipv6.dnsHost = '::1';
      },
    ])
      assert.deepEqual(warningsOf(wish(change), NOTHING), []);
  });

  test('--dhcp-dns with none of a family that could be told', () => {
    const told = wish((all) => {
      all.dhcpDns = true;
    });
    assert.deepEqual(warningsOf(told, NAMES), ['No IPv6 nameserver available for NDP/DHCPv6']);
    assert.deepEqual(warningsOf(told, { servers: ['2001:db8::53'], search: [] }), [
      'No IPv4 nameserver available for DHCP',
    ]);
    told.ipv6.enabled = false;
    assert.deepEqual(warningsOf(told, NAMES), []);
  });
});
