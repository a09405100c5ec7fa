import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RemoteForwardSpec } from '../../../src/config.ts';
import { defaultAddresses as plan } from '../../../src/config.ts';
import { ForwardError } from '../../../src/forward/publish/forward-error.ts';
import { RemoteForwards } from '../../../src/forward/target/remote-forwards.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';

function spec(address: string, port: number, protocol: 'tcp' | 'udp' = 'tcp'): RemoteForwardSpec {
  return {
    protocol,
    bind: { address, port },
    target: { kind: 'ip', address: '127.0.0.1', port: 9 },
    proxyHeader: 0,
    rpc: false,
  };
}

function make() {
  const own = new OwnAddresses(plan);
  return { own, forwards: new RemoteForwards(own) };
}

test('a forward is found by protocol, address and port, and by nothing less', () => {
  const { forwards } = make();
  forwards.add(1, spec('10.0.2.2', 80));
  forwards.add(2, spec('192.0.2.5', 80));
  forwards.add(3, spec('10.0.2.2', 80, 'udp'));
  forwards.add(4, spec('fd00::2', 0, 'udp'));
  const find = (protocol: 'tcp' | 'udp', text: string, port: number) =>
    forwards.match(protocol, parseIpAddress(text), port)?.id;
  assert.equal(find('tcp', '10.0.2.2', 80), 1);
  assert.equal(find('tcp', '192.0.2.5', 80), 2);
  assert.equal(find('udp', '10.0.2.2', 80), 3);
  assert.equal(find('udp', 'fd00::2', 0), 4);
  assert.equal(find('tcp', '10.0.2.2', 81), undefined);
  assert.equal(find('tcp', '10.0.2.3', 80), undefined);
  assert.equal(find('udp', '192.0.2.5', 80), undefined);
});

test('the same place twice is a conflict, and the first forward stays (X-05)', () => {
  const { forwards } = make();
  forwards.add(1, spec('10.0.2.2', 80));
  assert.throws(
    () => forwards.add(2, spec('10.0.2.2', 80)),
    (error: unknown) => error instanceof ForwardError && error.errno === 98,
  );
  assert.equal(forwards.match('tcp', parseIpAddress('10.0.2.2'), 80)?.id, 1);
  assert.equal(forwards.remove(2), false);
});

test('a removed forward is gone at once, and its place is free', () => {
  const { forwards } = make();
  forwards.add(1, spec('10.0.2.2', 80));
  forwards.add(2, spec('192.0.2.5', 80));
  assert.equal(forwards.remove(1), true);
  assert.equal(forwards.remove(1), false);
  assert.equal(forwards.match('tcp', parseIpAddress('10.0.2.2'), 80), null);
  assert.equal(forwards.match('tcp', parseIpAddress('192.0.2.5'), 80)?.id, 2);
  forwards.add(3, spec('10.0.2.2', 80));
  assert.equal(forwards.match('tcp', parseIpAddress('10.0.2.2'), 80)?.id, 3);
});

test('the guest finds the address of a forward on its link as long as one is there', () => {
  const { own, forwards } = make();
  const address = parseIpAddress('10.0.2.77');
  assert.equal(own.answersFor(address), false);
  forwards.add(1, spec('10.0.2.77', 80));
  forwards.add(2, spec('10.0.2.77', 81));
  forwards.remove(1);
  assert.equal(own.answersFor(address), true);
  assert.equal(own.owns(address), false);
  forwards.remove(2);
  assert.equal(own.answersFor(address), false);
});

test('an address of the host may carry a zone as a number', () => {
  const { forwards } = make();
  forwards.add(1, {
    ...spec('10.0.2.2', 80),
    target: { kind: 'ip', address: 'fe80::1%3', port: 8 },
  });
  const found = forwards.match('tcp', parseIpAddress('10.0.2.2'), 80);
  assert.equal(found?.address.toString(), 'fe80::1');
  assert.equal(found?.scopeId, 3);
});
