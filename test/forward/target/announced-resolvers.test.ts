import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultAddresses } from '../../../src/config.ts';
import { AddressMappings } from '../../../src/forward/target/address-mappings.ts';
import { AnnouncedResolvers } from '../../../src/forward/target/announced-resolvers.ts';
import { Resolvers } from '../../../src/forward/target/resolvers.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { IpAddress } from '../../../src/stack/wire/address.ts';

const own = new OwnAddresses(defaultAddresses);
const mapped = new AddressMappings(own, [{ guest: '192.0.2.1', host: '127.0.0.1' }]);
const shown = ({ v4, v6 }: AnnouncedResolvers): string[] => [
  ...v4.map((word) => new IpAddress().setV4(word).toString()),
  ...v6.map(String),
];

test('pasta §6: resolvers that are announced are the host’s, followed; its loopback by what stands for it, or not', () => {
  const resolvers = new Resolvers();
  const announced = new AnnouncedResolvers(resolvers, mapped, null);
  assert.deepEqual(shown(announced), []);
  resolvers.set(['127.0.0.53', '::1', '198.51.100.53']);
  assert.deepEqual(shown(announced), ['192.0.2.1', '198.51.100.53']);
  resolvers.set(['fe80::53%3', '198.51.100.54']);
  assert.deepEqual(shown(announced), ['198.51.100.54', 'fe80::53']);
  const unmapped = new AddressMappings(own, []);
  resolvers.set(['127.0.0.53']);
  assert.deepEqual(shown(new AnnouncedResolvers(resolvers, unmapped, null)), []);
});

test('pasta §6: those of the configuration are announced as they are, at most three of a family', () => {
  const fixed = ['127.0.0.1', '10.0.0.1', '10.0.0.2', '10.0.0.3', '2001:db8::53'];
  const announced = new AnnouncedResolvers(new Resolvers(), mapped, fixed);
  assert.deepEqual(shown(announced), ['127.0.0.1', '10.0.0.1', '10.0.0.2', '2001:db8::53']);
});
