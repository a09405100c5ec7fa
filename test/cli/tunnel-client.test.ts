import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Invocation, parseArguments } from '../../src/cli/options.ts';
import type { GuestConfig } from '../../src/config.ts';

const TO = ['--to', '127.0.0.1:9090'];
const USUAL = [...TO, '--address', '10.1.3.1/24'];

function guest(...args: string[]): GuestConfig {
  return (parseArguments(['tunnel', ...args], '1') as Invocation).config.guest;
}

describe('tslirp tunnel', () => {
  test('links L-31: an interface with addresses and routes, and where its packets go', () => {
    const {
      target,
      addresses,
      interface: wish,
      tunnel,
      dns,
    } = guest(
      ...[...USUAL, '--address', 'fd01::1/64', '--route', '10.1.1.0/24', '--route', 'fd02::/48'],
      ...['--tun', 'tun7', '--mtu', '1300', '--keepalive', '25', '--', 'ls', '-l'],
    );
    assert.deepEqual(target, { kind: 'run', command: ['ls', '-l'], mapAuto: false });
    assert.equal(addresses.guest4, '10.1.3.1');
    assert.equal(addresses.prefix4, 24);
    assert.equal(addresses.guest6, 'fd01::1');
    assert.equal(addresses.prefix6, 64);
    const routes = [
      { address: '10.1.1.0', bits: 120 },
      { address: 'fd02::', bits: 48 },
    ];
    assert.equal(wish.name, 'tun7');
    assert.equal(wish.mtu, 1300);
    assert.equal(wish.configure, 'yes');
    assert.deepEqual([wish.setup.medium, wish.setup.offloads, wish.setup.routes], ['ip', false, routes]);
    assert.deepEqual(tunnel, {
      ...{ kind: 'tunnel', local: { address: '', port: 0 }, remote: { address: '127.0.0.1', port: 9090 } },
      ...{ isExposed: false, keepaliveSeconds: 25, mtu: 1300 },
      prefixes: [{ address: '10.1.3.0', bits: 120 }, { address: 'fd01::', bits: 64 }, ...routes],
    });
    assert.equal(dns, false);
  });

  test('links L-32: 1400 unless something else is said', () => {
    const { interface: wish, tunnel, addresses } = guest(...USUAL, '--', 'ls');
    assert.deepEqual([wish.mtu, tunnel?.mtu, wish.name, addresses.ipv6], [1400, 1400, 'tun0', false]);
    assert.equal(tunnel?.keepaliveSeconds, 0);
  });

  test('without a command it is this namespace', () => {
    const { target } = guest(...USUAL);
    assert.deepEqual(target, { kind: 'attach', pid: process.pid, netnsPath: '', usernsPath: '' });
  });

  test('links L-37: anywhere but on this host it takes --insecure-tunnel', () => {
    for (const to of ['192.0.2.1:9090', '[2001:db8::1]:9090', 'example.org:9090', 'localhost:9090']) {
      const args = ['--to', to, '--address', '10.1.3.1/24', '--', 'ls'];
      assert.throws(() => guest(...args), /option --to: .*accepted: a loopback address, --insecure-tunnel/);
      assert.equal(guest('--insecure-tunnel', ...args).tunnel?.isExposed, true);
    }
    assert.equal(guest('--to', '[::1]:1', '--address', '10.1.3.1/24', '--', 'ls').tunnel?.isExposed, false);
  });

  test('the other end must not be reached through the tunnel itself, in one namespace', () => {
    const args = ['--to', '192.0.2.1:1', '--insecure-tunnel', '--address', '10.1.3.1/24'];
    assert.throws(
      () => guest(...args, '--route', '0.0.0.0/0'),
      /option --to: 192\.0\.2\.1 itself would be reached through the tunnel/,
    );
    assert.equal(guest(...args, '--route', '::/0').tunnel?.prefixes.length, 2);
    assert.equal(guest(...args, '--route', '0.0.0.0/0', '--', 'ls').target.kind, 'run');
  });

  for (const [args, message] of [
    [['--address', '10.1.3.1/24'], /required option '--to <host:port>' not specified/],
    [TO, /required option '--address <address\/bits>' not specified/],
    [[...TO, '--address', 'fd01::1/64'], /option --address: no IPv4 address; accepted: one, and one of IPv6/],
    [[...TO, '--address', '10.1.3.0/33'], /option --address: "10\.1\.3\.0\/33" is no prefix/],
    [
      [...USUAL, '--address', '10.1.4.1/24'],
      /option --address: "10\.1\.4\.1\/24" is one more; accepted: one/,
    ],
    [[...USUAL, '--route', 'x'], /option --route: "x" is no prefix; accepted: ADDRESS\/BITS/],
    [
      ['--to', '10.1.1.1', '--address', '10.1.3.1/24'],
      /option --to: "10\.1\.1\.1" is no place; accepted: HOST:PORT/,
    ],
    [['--to', '[10.1.1.1]:1', '--address', '10.1.3.1/24'], /is no place/],
    [['--to', '::1:1', '--address', '10.1.3.1/24'], /is no place/],
    [['--to', 'a:0', '--address', '10.1.3.1/24'], /port 1 to 65535/],
    [[...USUAL, '--keepalive', '-1'], /option --keepalive: "-1" is no number of seconds/],
    [[...USUAL, '--tun', 'lo'], /option --tun: "lo" is the loopback interface/],
    [[...USUAL, 'ls'], /tunnel has "ls"; accepted: -- in front of a COMMAND/],
  ] as const)
    test(`refused: ${args.join(' ')}`, () => assert.throws(() => guest(...args), message));
});
