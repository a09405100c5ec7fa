import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { type Invocation, parseArguments } from '../../src/cli/options.ts';
import type { PublishSpec } from '../../src/config.ts';

function publish(...args: string[]): PublishSpec | null {
  const result = parseArguments(['run', ...args, '--', 'true'], '0');
  assert.ok('config' in result);
  return result.config.guest.publish;
}

/** Which place the maps were read from, and their guest ports. */
function from(...args: string[]): unknown {
  const spec = publish(...args);
  return spec === null ? null : [spec.mapsFrom, spec.maps.map(({ guestPort }) => guestPort)];
}

describe('the options of what is published', () => {
  afterEach(() => {
    delete process.env['TSLIRP_PORT_MAPS'];
    delete process.env['IGLOO_VPN_PORT_MAPS'];
  });

  test('ports P-6: the option, then our variable, then Penguin’s; an empty one is none, and they are not merged', () => {
    assert.equal(from(), null);
    process.env['IGLOO_VPN_PORT_MAPS'] = 'tcp:3:*:3';
    assert.deepEqual(from(), ['IGLOO_VPN_PORT_MAPS', [3]]);
    process.env['TSLIRP_PORT_MAPS'] = 'tcp:2:*:2';
    assert.deepEqual(from(), ['TSLIRP_PORT_MAPS', [2]]);
    assert.deepEqual(from('--port-map', ''), ['TSLIRP_PORT_MAPS', [2]]);
    assert.deepEqual(from('--port-map', 'tcp:1:*:1', '--port-map', 'udp:4:*:4,udp:5:*:5'), [
      '--port-map',
      [1, 4, 5],
    ]);
    process.env['TSLIRP_PORT_MAPS'] = ' ';
    assert.deepEqual(from('--port-map', ' '), ['IGLOO_VPN_PORT_MAPS', [3]]);
  });

  test('maps of several options must not contradict each other', () => {
    assert.throws(
      () => from('--port-map', 'tcp:1:*:1', '--port-map', 'tcp:2:*:1'),
      /has another host port by/,
    );
  });

  test('what else there is', () => {
    const spec = publish(
      '--port-map',
      'tcp:1:*:1',
      '--port-map-wait',
      '--forward-per-address',
      '--forward-source',
      'client',
    );
    assert.deepEqual([spec?.waitsForMaps, spec?.perAddress, spec?.source], [true, true, 'client']);
    assert.throws(
      () => publish('--port-map', 'tcp:1:*:1', '--state', '/nowhere/at/all'),
      /option --state: "\/nowhere\/at\/all" is in/,
    );
  });

  test('links: beside a WireGuard peer they are of its network, not of the usual one', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tslirp-'));
    const file = join(directory, 'wg0.conf');
    const key = (n: number): string => Buffer.alloc(32, n).toString('base64');
    const peer = `[Peer]\nPublicKey = ${key(2)}\nAllowedIPs = 10.9.0.2/32`;
    writeFileSync(file, `[Interface]\nPrivateKey = ${key(1)}\nAddress = 10.9.0.1/24\n${peer}`, {
      mode: 0o600,
    });
    const serve = (...args: string[]): Invocation => {
      const result = parseArguments(['serve', '--link', `wireguard:${file}`, ...args], '0');
      assert.ok('config' in result);
      return result;
    };
    try {
      const { config, source } = serve('--port-map', 'tcp:80:*:80', '--forward-source', '10.0.2.100');
      assert.deepEqual([config.guest.publish?.source, source], ['10.0.2.100', '10.0.2.100']);
      assert.throws(() => serve('--port-map', 'tcp:80:[fd00::5]:80'), /of a guest without IPv6/);
      assert.throws(() => serve('--forward-source', '10.9.0.2'), /is no usable source/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
