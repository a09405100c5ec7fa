import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveEndpoints } from '../../src/cli/wireguard-endpoints.ts';
import { parseWireGuardFile } from '../../src/cli/wireguard-file.ts';
import { wireGuardGuests } from '../../src/cli/wireguard-guests.ts';
import { defaultAddresses } from '../../src/config.ts';

const key = (n: number): string => Buffer.alloc(32, n).toString('base64');

function guests(address: string, ...peers: string[]) {
  const sections = peers.map((peer, i) => `[Peer]\nPublicKey = ${key(i + 2)}\n${peer}`);
  const text = `[Interface]\nPrivateKey = ${key(1)}\n${address}\n${sections.join('\n')}`;
  return wireGuardGuests(parseWireGuardFile(text, 'wg0.conf'), '/etc/wg0.conf');
}

test('each peer is a guest whose gateway and name server is the interface', () => {
  const [phone, laptop] = guests(
    'Address = 10.9.0.1/24, fd09::1/64\nMTU = 1380\nListenPort = 51820',
    'AllowedIPs = 10.9.0.2/32, fd09::2/128\nEndpoint = 192.0.2.7:51821',
    'AllowedIPs = 192.168.7.0/24, 10.9.0.3/32',
  );
  assert.deepEqual(phone!.addresses, {
    ...{ guest4: '10.9.0.2', prefix4: 24, lease4: '10.9.0.2', gateway4: '10.9.0.1', dns4: '10.9.0.1' },
    ...{ ipv6: true, guest6: 'fd09::2', prefix6: 64, gateway6: 'fd09::1', dns6: 'fd09::1' },
  });
  assert.equal(laptop!.addresses.guest4, '10.9.0.3');
  assert.equal(laptop!.addresses.guest6, 'fd09::2', 'the address behind ours');
  for (const { mtu, target } of [phone!, laptop!]) {
    assert.equal(mtu, 1380);
    assert.equal(target.interface, '/etc/wg0.conf');
    assert.equal(target.listenPort, 51820);
  }
  assert.deepEqual(phone!.target.peer.endpoint, { address: '192.0.2.7', port: 51821 });
  assert.equal(laptop!.target.peer.endpoint, null);
});

test('without IPv6 addresses there is no IPv6, without any the usual network', () => {
  assert.equal(guests('Address = 10.9.0.1/24', '')[0]!.addresses.ipv6, false);
  assert.equal(guests('Address = 10.9.0.1/24', 'AllowedIPs = 0.0.0.0/0')[0]!.addresses.guest4, '10.9.0.2');
  assert.equal(guests('Address = fd09::1/64', '')[0]!.addresses.gateway4, defaultAddresses.gateway4);
  assert.deepEqual(guests('', '')[0]!.addresses, { ...defaultAddresses, ipv6: false });
});

test('names of endpoints become addresses', async () => {
  const [known, named] = guests('', 'Endpoint = [2001:db8::1]:5', 'Endpoint = localhost:6');
  await resolveEndpoints([known!.target, named!.target]);
  assert.deepEqual(known!.target.peer.endpoint, { address: '2001:db8::1', port: 5 });
  assert.match(named!.target.peer.endpoint!.address, /^(127\.0\.0\.1|::1)$/);
  const [bad] = guests('', 'Endpoint = no-such-host.invalid:6');
  await assert.rejects(
    resolveEndpoints([bad!.target]),
    /the endpoint no-such-host\.invalid .* cannot be found: E/,
  );
});
