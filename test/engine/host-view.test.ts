import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostView } from '../../src/engine/host-view.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { type PrefixSpec, parsePrefix } from '../../src/firewall/prefix.ts';
import { parseIpAddress } from '../../src/stack/wire/address.ts';

function spec(text: string): PrefixSpec {
  const { address, bits } = parsePrefix(text);
  return { address: address.toString(), bits };
}

function view(guest: string[], routes: string[], locals: string[] = []): ReturnType<typeof hostView> {
  const table = new HostRouteTable();
  for (const text of routes) {
    const { address, bits } = parsePrefix(text);
    table.add(address, bits);
  }
  for (const text of locals) table.addLocal(parseIpAddress(text));
  return hostView(table, guest.map(spec));
}

test('review OP-8: the networks of the host are told once each, without what every host has', () => {
  const routes = [
    ...[
      '192.168.1.0/24',
      '10.0.0.0/8',
      '10.1.0.0/16',
      '10.1.0.0',
      '127.0.0.0/8',
      '224.0.0.0/4',
      '192.168.1.7',
    ],
    ...['fe80::/64', 'ff00::/8', '::1', '2001:db8:1::/64', '2001:db8:1::7', '203.0.113.9', '172.20.0.5'],
  ];
  assert.deepEqual(view([], routes, ['203.0.113.9']), {
    networks: ['10.0.0.0/8', '172.20.0.5', '192.168.1.0/24', '2001:db8:1::/64'],
    notes: [],
  });
});

test('review OP-14: a network of the guest that is one of the host as well is told, whichever is larger', () => {
  for (const route of ['10.0.2.0/24', '10.0.0.0/8', '10.0.2.128/25', '10.0.2.9']) {
    assert.deepEqual(view(['10.0.2.0/24', 'fd00::/64'], [route, '10.1.3.0/24']).notes, [
      `the guest's network 10.0.2.0/24 overlaps ${route} of the host: what is there on the host's side is out of the guest's reach; --cidr chooses another network for the guest`,
    ]);
  }
  const two = view(['10.0.2.0/24', 'fd00::/64'], ['10.0.2.0/25', '10.0.2.128/25', 'fd00::/8']).notes;
  assert.equal(two.length, 2);
  assert.match(two[0] ?? '', /overlaps 10\.0\.2\.0\/25, 10\.0\.2\.128\/25 of the host/);
  assert.match(
    two[1] ?? '',
    /network fd00::\/64 overlaps fd00::\/8 of the host: .*; --cidr6 chooses another network/,
  );
  for (const route of ['10.0.3.0/24', '10.0.0.0/23', '::/3', 'fd00:0:0:1::/64', '192.168.0.0/16'])
    assert.deepEqual(view(['10.0.2.0/24', 'fd00::/64'], [route]).notes, [], route);
});
