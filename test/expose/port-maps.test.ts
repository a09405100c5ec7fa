/** Port maps and services of several addresses, on a host that has nothing but ports. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, mock, test } from 'node:test';
import { parsePortMaps } from '../../src/cli/port-map.ts';
import { defaultAddresses, type PublishSpec } from '../../src/config.ts';
import type { Service } from '../../src/expose/service.ts';
import { PortEngine } from '../support/port-engine.ts';
import { service } from '../support/services.ts';
import { type Publishing, publishing } from './support/publishing.ts';

async function mapping(
  maps: string,
  more: Partial<PublishSpec> = {},
  engine?: PortEngine,
): Promise<Publishing> {
  const spec = { maps: parsePortMaps(maps, defaultAddresses), findsServices: true, ...more };
  const made = publishing(spec, 1, engine);
  await made.publisher.start();
  return made;
}

describe('port maps', () => {
  test('ports P-9: a map has its port from the start, which leads nowhere and is not told of', async () => {
    const { engine, said } = await mapping('tcp:80:192.168.0.1:80');
    assert.deepEqual(engine.listeners(), ['tcp 0.0.0.0:80 nowhere', 'tcp :::80 nowhere']);
    assert.deepEqual(await said(), []);
  });

  test('its service has the port while it is there, by the same listeners', async () => {
    const { engine, publisher, said } = await mapping('tcp:80:192.168.0.1:80,source=192.0.2.7');
    const ids = [...engine.open.keys()];
    const web = service('192.168.0.1', 80);
    publisher.appear(web);
    assert.deepEqual(await said(), ['+ tcp 192.168.0.1:80 0.0.0.0:80 fixed']);
    assert.deepEqual(engine.listeners(), ['tcp 0.0.0.0:80 192.168.0.1:80', 'tcp :::80 192.168.0.1:80']);
    const { spec } = [...engine.open.values()][0] ?? assert.fail();
    assert.equal(spec.direction === 'local' && spec.source, '192.0.2.7');
    publisher.vanish(web, 'closed');
    assert.deepEqual(await said(), ['- tcp 80 closed']);
    assert.deepEqual(engine.listeners(), ['tcp 0.0.0.0:80 nowhere', 'tcp :::80 nowhere']);
    assert.deepEqual([...engine.open.keys()], ids);
    await publisher.stop();
    assert.equal(engine.open.size, 0);
  });

  test('where nobody looks for services, that of a map counts as there', async () => {
    const { engine, said } = await mapping('tcp:127.0.0.1/80:*:8080', { findsServices: false });
    assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:80 fixed']);
    assert.deepEqual(engine.listeners(), ['tcp 127.0.0.1:80 10.0.2.100:8080']);
  });

  test('ports P-8: a wildcard service, and a map of one of its addresses: both have a port', async () => {
    const { engine, publisher, said } = await mapping('tcp:80:192.168.0.1:80');
    publisher.appear(service('0.0.0.0', 80));
    assert.deepEqual(await said(), [
      '+ tcp 0.0.0.0:80 127.0.0.1:1080 busy',
      '+ tcp 192.168.0.1:80 0.0.0.0:80 fixed',
    ]);
    assert.deepEqual(engine.listeners(), [
      'tcp 0.0.0.0:80 192.168.0.1:80',
      'tcp :::80 192.168.0.1:80',
      'tcp 127.0.0.1:1080 10.0.2.100:80',
    ]);
    // The wildcard first, the address second.
    publisher.appear(service('192.168.0.1', 80));
    assert.deepEqual(await said(), []);
  });

  test('a map for the place where a wildcard service is reached, or for any, is enough for it', async () => {
    for (const guest of ['10.0.2.100', '0.0.0.0', '*']) {
      const { engine, publisher, said } = await mapping(`tcp:8080:${guest}:80`);
      publisher.appear(service('0.0.0.0', 80));
      assert.equal((await said()).length, 1);
      assert.deepEqual(engine.listeners(), ['tcp 0.0.0.0:8080 10.0.2.100:80', 'tcp :::8080 10.0.2.100:80']);
    }
  });

  test('a map for any address leads to where the service is now', async () => {
    const { engine, publisher, said } = await mapping('tcp:127.0.0.1/80:*:80');
    const [one, other] = [service('192.168.0.1', 80), service('192.168.0.2', 80)];
    publisher.appear(one);
    publisher.appear(other);
    assert.deepEqual(await said(), ['+ tcp 192.168.0.1:80 127.0.0.1:80 fixed']);
    publisher.vanish(one, 'closed');
    assert.deepEqual(await said(), ['- tcp 80 closed', '+ tcp 192.168.0.2:80 127.0.0.1:80 fixed']);
    assert.deepEqual(engine.listeners(), ['tcp 127.0.0.1:80 192.168.0.2:80']);
  });

  test('links: a port that is waited for is not taken when all is closed', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const engine = new PortEngine();
    engine.busy.add('tcp 127.0.0.1 80');
    const { publisher } = await mapping('tcp:127.0.0.1/80:*:80', { waitsForMaps: true }, engine);
    await publisher.stop();
    engine.busy.clear();
    mock.timers.tick(10_000);
    await new Promise(setImmediate);
    assert.deepEqual(engine.listeners(), []);
    mock.timers.reset();
  });

  test('links: a port that is being taken when all is closed is given back', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const engine = new PortEngine();
    engine.busy.add('tcp 127.0.0.1 80');
    const { publisher } = await mapping('tcp:127.0.0.1/80:*:80', { waitsForMaps: true }, engine);
    engine.busy.clear();
    mock.timers.tick(1000);
    await publisher.stop();
    await new Promise(setImmediate);
    assert.deepEqual(engine.listeners(), []);
    mock.timers.reset();
  });

  test('chosen ports are never those of maps, even of one that waits for its port', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const engine = new PortEngine();
    engine.busy.add('tcp 0.0.0.0 80');
    const { publisher, said } = await mapping('tcp:80:192.168.0.1:80', { waitsForMaps: true }, engine);
    assert.deepEqual(await said(), ['! 80 EADDRINUSE']);
    publisher.appear(service('10.0.2.100', 80));
    assert.deepEqual(await said(), ['+ tcp 10.0.2.100:80 127.0.0.1:1080 busy']);
    publisher.appear(service('192.168.0.1', 80));
    assert.deepEqual(await said(), []);
    mock.timers.tick(1000);
    await new Promise(setImmediate);
    assert.deepEqual(await said(), []);
    engine.busy.delete('tcp 0.0.0.0 80');
    mock.timers.tick(1000);
    mock.timers.reset();
    await new Promise(setImmediate);
    assert.deepEqual(await said(), ['+ tcp 192.168.0.1:80 0.0.0.0:80 fixed']);
  });

  test('host port 0 is the first that is free, and told as the map’s', async () => {
    const engine = new PortEngine();
    engine.busy.add('tcp 127.0.0.1 80');
    const { publisher, said } = await mapping('tcp:127.0.0.1/0:192.168.0.1:80', {}, engine);
    publisher.appear(service('192.168.0.1', 80));
    assert.deepEqual(await said(), ['+ tcp 192.168.0.1:80 127.0.0.1:1080 fixed']);
  });

  test('ports P-7: a port that is in use is an error of one line that names the map', async () => {
    const engine = new PortEngine();
    engine.busy.add('tcp :: 80');
    await assert.rejects(mapping('tcp:80:192.168.0.1:80', {}, engine), {
      message: /^port map tcp:80:192\.168\.0\.1:80: host 0\.0\.0\.0:80\/tcp is in use[^\n]*$/,
    });
    await assert.rejects(mapping('udp:[::1]/80:192.168.0.1:80', {}, refusing()), {
      message: 'port map udp:[::1]/80:192.168.0.1:80: cannot listen on udp ::1 80: EACCES',
    });
  });
});

function refusing(): PortEngine {
  const engine = new PortEngine();
  engine.minPort = 1024;
  return engine;
}

describe('addresses of a wildcard service', () => {
  const wildcard = service('0.0.0.0', 80, { process: 'nginx' });
  const address = service('192.168.0.1', 9999, { process: 'nc' });

  test('ports P-15: it is one service by default, and one for each address where that is wanted', async () => {
    const byDefault = publishing({}, 1);
    for (const each of [wildcard, address]) byDefault.publisher.appear(each);
    assert.deepEqual(await byDefault.said(), [
      '+ tcp 0.0.0.0:80 127.0.0.1:80 same',
      '+ tcp 192.168.0.1:9999 127.0.0.1:9999 same',
    ]);
    const { engine, publisher, said } = publishing({ perAddress: true }, 1);
    for (const each of [wildcard, address]) publisher.appear(each);
    assert.deepEqual(await said(), [
      '+ tcp 0.0.0.0:80 127.0.0.1:80 same',
      '+ tcp 192.168.0.1:80 127.0.0.1:1080 busy',
      '+ tcp 192.168.0.1:9999 127.0.0.1:9999 same',
    ]);
    assert.deepEqual(engine.listeners(), [
      'tcp 127.0.0.1:80 10.0.2.100:80',
      'tcp 127.0.0.1:1080 192.168.0.1:80',
      'tcp 127.0.0.1:9999 192.168.0.1:9999',
    ]);
    publisher.vanish(wildcard, 'closed');
    assert.deepEqual(await said(), ['- tcp 80 closed', '- tcp 1080 closed']);
  });

  test('ports P-15: the names told are those of the services', async () => {
    const { publisher, events } = publishing({ perAddress: true }, 1);
    for (const each of [wildcard, address]) publisher.appear(each);
    await publisher.settled();
    const names = events.map((event) => event.type === 'forward.added' && event.process);
    assert.deepEqual(names, ['nginx', 'nginx', 'nc']);
  });

  test('ports P-16: a new address of a TCP service brings that of a UDP service over UDP, and itself over TCP', async () => {
    const { publisher, said } = publishing({ perAddress: true }, 1);
    publisher.appear(service('0.0.0.0', 53, { proto: 'udp' }));
    publisher.appear(address);
    assert.deepEqual(await said(), [
      '+ udp 0.0.0.0:53 127.0.0.1:53 same',
      '+ udp 192.168.0.1:53 127.0.0.1:1053 busy',
      '+ tcp 192.168.0.1:9999 127.0.0.1:9999 same',
    ]);
  });

  test('ports P-17: whatever their order, the same services have ports in the end', async () => {
    const services = [
      wildcard,
      address,
      service('192.168.0.1', 80),
      service('0.0.0.0', 53, { proto: 'udp' }),
      service('fd77::1', 53, { proto: 'udp' }),
      service('::', 8080, { dualStack: true }),
    ];
    let expected: string[] | undefined;
    for (let seed = 1; seed <= 200; seed++) {
      const { engine, publisher } = publishing({ perAddress: true }, 1);
      for (const each of shuffled(services, seed)) publisher.appear(each);
      await publisher.settled();
      const targets = engine.listeners().map((line) => line.replace(/ .* /, ' '));
      expected ??= targets.sort();
      assert.deepEqual(targets.sort(), expected, `seed ${seed}`);
    }
    assert.deepEqual(expected, [
      'tcp 10.0.2.100:80',
      'tcp 10.0.2.100:8080',
      'tcp 192.168.0.1:80',
      'tcp 192.168.0.1:8080',
      'tcp 192.168.0.1:9999',
      'tcp fd77::1:8080',
      'udp 10.0.2.100:53',
      'udp 192.168.0.1:53',
      'udp fd77::1:53',
    ]);
  });

  test('an address of a map counts from the start, and a service at it and at all of them is there once', async () => {
    const { publisher, said } = await mapping('tcp:8000:192.168.0.1:1', { perAddress: true });
    publisher.appear(wildcard);
    publisher.appear(service('192.168.0.1', 80));
    assert.deepEqual(await said(), [
      '+ tcp 0.0.0.0:80 127.0.0.1:80 same',
      '+ tcp 192.168.0.1:80 127.0.0.1:1080 busy',
    ]);
    publisher.vanish(wildcard, 'closed');
    assert.deepEqual(await said(), ['- tcp 80 closed']);
  });
});

function shuffled(services: readonly Service[], seed: number): Service[] {
  let state = seed;
  const rest = [...services];
  const out: Service[] = [];
  while (rest.length > 0) {
    state = (state * 1103515245 + 12345) % 2147483648;
    out.push(...rest.splice(state % rest.length, 1));
  }
  return out;
}

describe('a state file', () => {
  test('ports P-21: a service has the port after a restart that it had before', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tslirp-state-'));
    const statePath = join(directory, 'ports');
    try {
      const engine = new PortEngine();
      engine.busy.add('tcp 127.0.0.1 8080');
      const first = publishing({ statePath }, 1024, engine);
      first.publisher.appear(service('0.0.0.0', 8080));
      first.publisher.appear(service('fd77::1', 53, { proto: 'udp' }));
      await first.said();
      await first.publisher.stop();
      const kept = 'tcp 0.0.0.0:8080 9080\nudp [fd77::1]:53 1053\n';
      assert.equal(readFileSync(statePath, 'utf8'), kept);
      // As if we had been killed while writing, and with what somebody else has written.
      appendFileSync(statePath, 'tcp 0.0.0.0:99999 1\nhello\ntcp 1.2.3.4:80 0\nudp 0.0.0.0:53 10');
      const second = publishing({ statePath });
      second.publisher.appear(service('0.0.0.0', 8080));
      assert.deepEqual(await second.said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:9080 busy']);
      assert.equal(readFileSync(statePath, 'utf8'), kept);
      writeFileSync(statePath, '');
      const third = publishing({ statePath });
      third.publisher.appear(service('0.0.0.0', 8080));
      assert.deepEqual(await third.said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:8080 same']);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('a file that cannot be used is an error of one line', () => {
    assert.throws(() => publishing({ statePath: '/proc/none/ports' }), {
      message: 'option --state: /proc/none/ports: No such file or directory',
    });
  });
});
