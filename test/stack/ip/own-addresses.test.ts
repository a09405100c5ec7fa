import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultAddresses as plan } from '../../../src/config.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';

test('owns gateway, DNS and link-local router address, and nothing else', () => {
  const own = new OwnAddresses(plan);
  for (const text of ['10.0.2.2', '10.0.2.3', 'fd00::2', 'fd00::3', 'fe80::2'])
    assert.equal(own.owns(parseIpAddress(text)), true, text);
  for (const text of [
    '10.0.2.100',
    '10.0.2.1',
    '0.0.0.0',
    '::',
    '::a00:202',
    'fd00::100',
    'fe80::1',
    'fd00:0:0:1::2',
  ])
    assert.equal(own.owns(parseIpAddress(text)), false, text);
});

test('without IPv6 no IPv6 address is owned or on the link, :: least of all', () => {
  const own = new OwnAddresses({ ...plan, ipv6: false, gateway6: '', dns6: '', guest6: '' });
  for (const text of ['fd00::2', 'fe80::2', '::', 'fd00::100']) {
    assert.equal(own.owns(parseIpAddress(text)), false, text);
    assert.equal(own.onLink(parseIpAddress(text)), false, text);
  }
  assert.equal(own.owns(parseIpAddress('10.0.2.2')), true);
});

test('on the link: inside the prefixes, and IPv6 link-local', () => {
  const own = new OwnAddresses(plan);
  for (const text of ['10.0.2.1', '10.0.2.254', 'fd00::ffff', 'fe80::abcd'])
    assert.equal(own.onLink(parseIpAddress(text)), true, text);
  for (const text of ['10.0.3.1', '169.254.1.1', 'fd00:0:0:1::1', '2001:db8::1'])
    assert.equal(own.onLink(parseIpAddress(text)), false, text);
});

test('the guest speaks from the link, or where it may, from any address of a host', () => {
  const strict = new OwnAddresses(plan);
  const open = new OwnAddresses(plan, { anySource: true });
  for (const own of [strict, open]) {
    for (const text of ['10.0.2.100', 'fd00::100', 'fe80::abcd'])
      assert.equal(own.mayBeGuest(parseIpAddress(text)), true, text);
    for (const text of ['192.168.7.7', '2001:2::100'])
      assert.equal(own.mayBeGuest(parseIpAddress(text)), own === open, text);
    for (const text of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '::', '::1', 'ff02::1'])
      assert.equal(own.mayBeGuest(parseIpAddress(text)), false, text);
  }
  const v4Only = { ...plan, ipv6: false, gateway6: '', dns6: '', guest6: '' };
  assert.equal(
    new OwnAddresses(v4Only, { anySource: true }).mayBeGuest(parseIpAddress('2001:2::100')),
    false,
  );
});

test('pasta §15.2: another network for whoever has borrowed addresses; one that is none changes nothing', () => {
  const own = new OwnAddresses(plan, { mac: '02:00:00:00:00:01', sharedNetwork: true });
  const { guest4, gateway6 } = own;
  assert.throws(() => own.change({ ...plan, guest4: '192.0.2.10', gateway6: '1.2.3.4' }), RangeError);
  assert.equal(guest4.toString(), '10.0.2.100');
  const now = { guest4: '192.0.2.10', prefix4: 25, guest6: '2001:db8::10', gateway6: 'fe80::9', prefix6: 60 };
  own.change({ ...plan, ...now, dns4: '9.9.9.9' });
  assert.deepEqual([guest4.toString(), gateway6.toString()], ['192.0.2.10', 'fe80::9']);
  for (const text of ['192.0.2.1', '2001:db8:0:f::1']) assert.ok(own.onLink(parseIpAddress(text)), text);
  for (const text of ['192.0.2.129', '10.0.2.2', '2001:db8:0:10::1'])
    assert.equal(own.onLink(parseIpAddress(text)), false, text);
  assert.equal(own.dns4.toString(), '10.0.2.3');
});

test('the MAC is unicast, locally administered and ends in the gateway address', () => {
  const own = new OwnAddresses(plan);
  assert.deepEqual([own.macHi, own.macLo], [0x5255, 0x0a000202]);
});

test('an address of the wrong family is refused', () => {
  assert.throws(() => new OwnAddresses({ ...plan, gateway4: 'fd00::2' }), /fd00::2 is not an IPv4 address/);
  assert.throws(() => new OwnAddresses({ ...plan, dns6: '10.0.2.3' }), /10.0.2.3 is not an IPv6 address/);
});
