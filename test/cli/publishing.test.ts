import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { parseArguments } from '../../src/cli/options.ts';
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
});
