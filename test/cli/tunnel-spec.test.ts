import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseLinkSpec } from '../../src/cli/link-spec.ts';
import { linkedGuests } from '../../src/cli/linked-guests.ts';
import { type AddressPlan, defaultAddresses } from '../../src/config.ts';
import type { TunnelTarget } from '../../src/device-spec.ts';

const LOCAL = 'tunnel:udp://127.0.0.1:9090,peer=10.1.3.1/32,learn=on';

function target(text: string): TunnelTarget {
  const { target: found } = parseLinkSpec(text);
  assert.equal(found.kind, 'tunnel');
  return found as TunnelTarget;
}

function addresses(text: string): AddressPlan | undefined {
  return linkedGuests(parseLinkSpec(text), {})[0]?.addresses;
}

describe('tunnel:', () => {
  test('all of it', () => {
    assert.deepEqual(
      target('tunnel:udp://[::1]:9090,peer=10.1.3.0/24,peer=fd01::1,remote=192.0.2.1:7,keepalive=25'),
      {
        ...{ kind: 'tunnel', local: { address: '::1', port: 9090 }, isExposed: false, keepaliveSeconds: 25 },
        remote: { address: '192.0.2.1', port: 7 },
        prefixes: [
          { address: '10.1.3.0', bits: 120 },
          { address: 'fd01::1', bits: 128 },
        ],
      },
    );
    assert.equal(target(LOCAL).remote, null);
  });

  test('links L-36: who the peer is has to be said, one way or the other', () => {
    assert.throws(
      () => parseLinkSpec('tunnel:udp://127.0.0.1:1,peer=10.1.3.1'),
      /does not say who the peer is; accepted: remote=ADDRESS:PORT, or learn=on/,
    );
    assert.throws(() => parseLinkSpec(`${LOCAL},remote=127.0.0.1:1`), /has remote= and learn=/);
  });

  test('links L-37: other than by loopback it takes --insecure-tunnel', () => {
    const open = parseLinkSpec('tunnel:udp://0.0.0.0:9090,peer=10.1.3.1/32,learn=on');
    assert.throws(
      () => linkedGuests(open, {}),
      /option --link: .*accepted: a loopback address, --insecure-tunnel/,
    );
    assert.equal(linkedGuests(open, { insecureTunnel: true }).length, 1);
    for (const local of ['127.0.0.1', '127.9.9.9', '[::1]'])
      assert.equal(linkedGuests(parseLinkSpec(LOCAL.replace('127.0.0.1', local)), {}).length, 1);
  });

  test('the peer’s network, and no gateway or name server unless we have an address', () => {
    const bare = linkedGuests(parseLinkSpec(LOCAL), {})[0]!;
    assert.equal(bare.hasGateway, false);
    const own = { guest4: '10.1.3.1', lease4: '10.1.3.1', ipv6: false };
    assert.deepEqual(bare.addresses, { ...defaultAddresses, ...own, prefix4: 32 });
    const told = linkedGuests(parseLinkSpec(`${LOCAL},address=10.1.3.254/24`), {})[0]!;
    assert.equal(told.hasGateway, true);
    assert.deepEqual(told.addresses, {
      ...{ ...defaultAddresses, ...own, prefix4: 24, gateway4: '10.1.3.254', dns4: '10.1.3.254' },
    });
  });

  test('a network of the peer’s: forwards lead to its first address', () => {
    const plan = addresses('tunnel:udp://127.0.0.1:1,peer=10.1.3.0/24,peer=fd01:3::/64,learn=on');
    assert.equal(plan?.guest4, '10.1.3.1');
    assert.equal(plan?.prefix4, 24);
    assert.equal(plan?.guest6, 'fd01:3::1');
    assert.equal(plan?.ipv6, true);
  });

  for (const [text, message] of [
    ['tunnel:127.0.0.1:1', /has "127.0.0.1:1"; accepted: udp:\/\/ADDRESS:PORT/],
    ['tunnel:udp://localhost:1,peer=10.1.3.1,learn=on', /accepted: ADDRESS:PORT/],
    ['tunnel:udp://127.0.0.1:1,learn=on', /has no peer=/],
    ['tunnel:udp://127.0.0.1:1,peer=x,learn=on', /has peer=x; accepted: ADDRESS or ADDRESS\/BITS/],
    [
      `${LOCAL},keepalive=never`,
      /option --link keepalive=: "never" is no number of seconds; accepted: 0 \(never\) to 65535/,
    ],
    [LOCAL.replace('on', 'off'), /has learn=off; accepted: learn=on/],
    [`${LOCAL},address=fd01::1`, /has address=fd01::1; accepted: with a peer= of the same family/],
    [`${LOCAL},switch=a`, /has switch=; accepted: Ethernet links there/],
  ] as const)
    test(`refused: ${text}`, () => assert.throws(() => parseLinkSpec(text), message));
});
