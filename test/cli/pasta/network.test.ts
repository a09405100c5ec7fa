import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type GuestNetwork, guestNetwork } from '../../../src/cli/pasta/network.ts';
import { type PastaFamily, type PastaNetwork, plainConfig } from '../../../src/cli/pasta/pasta-config.ts';
import type { HostNetwork } from '../../../src/template/host-network.ts';
import { routedHost } from '../../support/recorded-network.ts';

interface Change extends Partial<Omit<PastaNetwork, 'ipv4' | 'ipv6'>> {
  ipv4?: Partial<PastaFamily>;
  ipv6?: Partial<PastaFamily>;
}

function networkOf({ ipv4, ipv6, ...rest }: Change = {}, host: HostNetwork = routedHost()): GuestNetwork {
  const { network } = plainConfig();
  return guestNetwork(
    { ...network, ...rest, ipv4: { ...network.ipv4, ...ipv4 }, ipv6: { ...network.ipv6, ...ipv6 } },
    host,
  );
}

const nobody: HostNetwork = { links: [], addresses: [], routes: [] };
const addressesOf = ({ inside }: GuestNetwork) =>
  inside.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`);
const routesOf = ({ inside }: GuestNetwork) =>
  inside.routes.map(
    ({ destination, prefixLength, nextHops }) => `${destination}/${prefixLength} ${nextHops[0]?.gateway}`,
  );
const mappingsOf = ({ mappings }: GuestNetwork) => mappings.map(({ guest, host }) => `${guest} ${host}`);

describe('pasta §4: the guest’s network', () => {
  test('is the host’s: its interface’s name, addresses, gateways, and the gateways lead to the loopback', () => {
    const network = networkOf();
    assert.equal(network.name, 'eth0');
    assert.deepEqual(addressesOf(network), ['192.0.2.10/24', '192.0.2.11/24', '2001:db8::10/64']);
    assert.deepEqual(mappingsOf(network), ['192.0.2.1 127.0.0.1', 'fe80::1 ::1']);
    const { guest4, prefix4, gateway4, guest6, gateway6, linkLocal6 } = network.plan;
    assert.deepEqual(
      [guest4, prefix4, gateway4, guest6, gateway6, linkLocal6],
      ['192.0.2.10', 24, '192.0.2.1', '2001:db8::10', 'fe80::1', 'fe80::1'],
    );
    assert.deepEqual(network.infos, ['Template interface: eth0 (IPv4), eth0 (IPv6)']);
  });

  test('-a: that address alone, with its own prefix; routes are copied, without the sources it does not have', () => {
    const network = networkOf({ ipv4: { address: '10.0.2.100', prefixLength: 24 } });
    assert.deepEqual(addressesOf(network), ['10.0.2.100/24', '2001:db8::10/64']);
    assert.ok(network.inside.routes.every(({ source }) => source === ''));
    assert.ok(routesOf(network).includes('0.0.0.0/0 192.0.2.1'));
    assert.equal(networkOf().inside.routes.filter(({ source }) => source === '192.0.2.10').length, 1);
  });

  for (const [address, bits] of [
    ['10.0.2.100', 8],
    ['172.16.0.5', 16],
    ['198.51.100.5', 24],
    ['192.0.2.11', 24],
  ] as const)
    test(`the prefix of ${address} is ${bits}, by the host’s own or by class`, () => {
      assert.equal(networkOf({ ipv4: { address } }).plan.prefix4, bits);
    });

  test('-g: a default route by it, and nothing else, in that family alone', () => {
    const network = networkOf({ ipv4: { gateway: '192.0.2.3' } });
    assert.deepEqual(
      routesOf(network).filter((route) => !route.includes(':')),
      ['0.0.0.0/0 192.0.2.3'],
    );
    assert.ok(routesOf(network).includes('::/0 fe80::1'));
    assert.equal(mappingsOf(network)[0], '192.0.2.3 127.0.0.1');
  });

  test('the host’s other addresses are the guest’s too where they are set, and known as its first one', () => {
    const ipv4 = { mapGuestAddress: '169.254.1.2' };
    const known = (network: GuestNetwork) => mappingsOf(network).filter((text) => text.startsWith('169.'));
    const set = networkOf({ configure: true, ipv4 });
    assert.deepEqual(set.plan.further, ['192.0.2.11']);
    assert.deepEqual(known(set), ['169.254.1.2 192.0.2.10', '169.254.1.2 192.0.2.11']);
    const left = networkOf({ ipv4 });
    assert.deepEqual([left.plan.further, known(left)], [[], ['169.254.1.2 192.0.2.10']]);
    const given = networkOf({ configure: true, ipv4: { ...ipv4, address: '192.0.2.11' } });
    assert.deepEqual([given.plan.further, known(given)], [[], ['169.254.1.2 192.0.2.11']]);
  });

  test('-i and --outbound-if name the template, -I the TAP', () => {
    assert.equal(networkOf({ name: 'myname' }).name, 'myname');
    assert.throws(
      () => networkOf({ template: 'nosuch' }),
      /^PastaError: Invalid interface name nosuch: No such device$/,
    );
    for (const family of ['ipv4', 'ipv6'] as const) {
      assert.throws(
        () => networkOf({ [family]: { outboundInterface: 'nosuch' } }),
        /^PastaError: Invalid interface name nosuch: No such device$/,
      );
      assert.throws(
        () => networkOf({ [family]: { outboundInterface: 'out0' } }),
        /^PastaError: External interface not usable$/,
      );
      assert.equal(networkOf({ [family]: { outboundInterface: 'eth0' } }).name, 'eth0');
    }
    // It has no address that a host elsewhere could not have.
    assert.equal(networkOf({ template: 'out0' }).plan.guest4, '169.254.2.1');
  });

  test('local mode, each family for itself', () => {
    const network = networkOf({}, nobody);
    assert.equal(network.name, 'tap0');
    assert.deepEqual(addressesOf(network), ['169.254.2.1/16']);
    assert.deepEqual(routesOf(network), ['0.0.0.0/0 169.254.2.2', '::/0 fe80::1']);
    assert.deepEqual(mappingsOf(network), ['169.254.2.2 127.0.0.1', 'fe80::1 ::1']);
    assert.deepEqual(network.infos, [
      'IPv4: no external interface as template, use local mode',
      'IPv6: no external interface as template, use local mode',
    ]);
    const host = routedHost();
    const only4 = networkOf({}, { ...host, routes: host.routes.filter(({ family }) => family === 4) });
    assert.deepEqual(addressesOf(only4), ['192.0.2.10/24', '192.0.2.11/24']);
    assert.deepEqual(only4.infos, [
      'IPv6: no external interface as template, use local mode',
      'Template interface: eth0 (IPv4)',
    ]);
  });

  test('a family that is off is nowhere', () => {
    const network = networkOf({ ipv4: { enabled: false } });
    assert.equal(network.plan.ipv4, false);
    assert.deepEqual(addressesOf(network), ['2001:db8::10/64']);
    assert.deepEqual(mappingsOf(network), ['fe80::1 ::1']);
  });

  test('-6 on a host without IPv6', () => {
    const host = routedHost();
    const v4 = (all: HostNetwork): HostNetwork => ({
      ...all,
      addresses: all.addresses.filter(({ family }) => family === 4),
    });
    const text = /^PastaError: IPv6 not available but --ipv6-only given$/;
    assert.throws(() => networkOf({ ipv4: { enabled: false } }, v4(host)), text);
    assert.equal(networkOf({}, v4(host)).plan.guest6, '');
  });

  test('--map-host-loopback, --map-guest-addr and none', () => {
    const podman = { mapHostLoopback: 'none', mapGuestAddress: '169.254.1.2' };
    assert.deepEqual(mappingsOf(networkOf({ ipv4: podman })), ['169.254.1.2 192.0.2.10', 'fe80::1 ::1']);
    assert.deepEqual(
      mappingsOf(networkOf({ ipv4: { mapHostLoopback: '10.1.1.1' } }))[0],
      '10.1.1.1 127.0.0.1',
    );
    assert.deepEqual(
      mappingsOf(networkOf({ ipv6: { mapGuestAddress: 'fc00::2' } }))[2],
      'fc00::2 2001:db8::10',
    );
  });

  test('a host without a default route has no gateway to stand for its loopback', () => {
    const host = routedHost();
    const network = networkOf(
      {},
      { ...host, routes: host.routes.filter(({ prefixLength }) => prefixLength > 0) },
    );
    assert.deepEqual([network.plan.gateway4, mappingsOf(network)], ['', []]);
  });
});
