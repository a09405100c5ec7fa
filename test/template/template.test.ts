import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type HostNetwork, readHostNetwork } from '../../src/template/host-network.ts';
import { familyTemplate } from '../../src/template/template.ts';
import { routedHost, routedHostBytes } from '../support/recorded-network.ts';

const shown = ({ destination, prefixLength, nextHops, metric }: HostNetwork['routes'][number]): string =>
  [
    `${destination}/${prefixLength}`,
    ...nextHops.map(({ gateway, weight }) => `${gateway || 'link'}*${weight}`),
    metric,
  ].join(' ');

describe('what the kernel says of a host', () => {
  test('links, addresses and unicast routes of the main table, in its order', () => {
    const { links, addresses, routes } = routedHost();
    assert.deepEqual(
      links.map(({ name, isLoopback }) => [name, isLoopback]),
      [
        ['lo', true],
        ['out0', false],
        ['eth0', false],
      ],
    );
    const eth0 = links[2]?.index;
    assert.deepEqual(
      addresses
        .filter(({ link }) => link === eth0)
        .map(({ address, prefixLength, isLinkLocal }) => [address, prefixLength, isLinkLocal]),
      [
        ['192.0.2.10', 24, false],
        ['192.0.2.11', 24, false],
        ['2001:db8::10', 64, false],
        ['fe80::ff:fe00:10', 64, true],
      ],
    );
    assert.deepEqual(routes.filter(({ family }) => family === 4).map(shown), [
      '0.0.0.0/0 192.0.2.1*1 100',
      '10.99.0.1/32 link*1 0',
      '10.99.1.0/24 10.99.0.1*1 0',
      '192.0.2.0/24 link*1 0',
      '198.51.100.0/24 192.0.2.2*1 0',
      '203.0.113.0/24 192.0.2.3*1 192.0.2.4*5 0',
    ]);
    assert.ok(routes.some((route) => shown(route) === '::/0 fe80::1*1 1024'));
  });

  test('an answer that is cut anywhere is read as far as it goes, and nothing beyond', () => {
    const bytes = routedHostBytes();
    for (let length = 0; length < bytes.length; length += 7) {
      const exact = new Uint8Array(bytes.subarray(0, length));
      readHostNetwork(new DataView(exact.buffer), length);
    }
  });
});

describe('pasta §4.1: the template', () => {
  const names = (host: HostNetwork, ...given: string[]) =>
    ([4, 6] as const).map((family) => familyTemplate(host, family, ...given)?.link.name);

  test('is the interface of the first default route, with its gateway, addresses and routes', () => {
    const found = familyTemplate(routedHost(), 4);
    assert.deepEqual(
      [
        found?.link.name,
        found?.gateway,
        found?.addresses.map(({ address }) => address),
        found?.routes.length,
      ],
      ['eth0', '192.0.2.1', ['192.0.2.10', '192.0.2.11'], 6],
    );
    const six = familyTemplate(routedHost(), 6);
    assert.deepEqual(
      [six?.link.name, six?.gateway, six?.addresses.map(({ address }) => address)],
      ['eth0', 'fe80::1', ['2001:db8::10']],
    );
  });

  test('may be named, and has no gateway then if no default route leads there', () => {
    assert.deepEqual(names(routedHost(), 'out0'), ['out0', 'out0']);
    assert.deepEqual(names(routedHost(), '', 'out0'), ['out0', 'out0']);
    assert.equal(familyTemplate(routedHost(), 4, 'out0')?.gateway, '');
    assert.deepEqual(names(routedHost(), 'nosuch'), [undefined, undefined]);
  });

  test('without a default route is the first interface with a route, link-local ones apart', () => {
    const host = routedHost();
    const routes = host.routes.filter(({ prefixLength }) => prefixLength !== 0);
    assert.deepEqual(names({ ...host, routes }), ['eth0', 'eth0']);
    const only = routes.filter(({ destination }) => destination === 'fe80::');
    assert.deepEqual(names({ ...host, routes: only }), [undefined, undefined]);
    assert.deepEqual(names({ ...host, routes: [] }), [undefined, undefined]);
  });

  test('of several routers the one with the greatest weight is the gateway', () => {
    const host = routedHost();
    const several = host.routes.find(({ nextHops }) => nextHops.length === 2);
    assert.ok(several !== undefined);
    const route = { ...several, destination: '0.0.0.0', prefixLength: 0 };
    assert.equal(familyTemplate({ ...host, routes: [route] }, 4)?.gateway, '192.0.2.4');
  });

  test('an address that is not on its way out speaks for all', () => {
    const host = routedHost();
    const addresses = host.addresses.map((address) => ({
      ...address,
      isDeprecated: address.address === '192.0.2.10',
    }));
    assert.equal(familyTemplate({ ...host, addresses }, 4)?.addresses[0]?.address, '192.0.2.11');
  });
});
