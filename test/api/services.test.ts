import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { ApiServices } from '../../src/api/services.ts';
import { defaultPublish } from '../../src/config.ts';
import type { GuestEvent } from '../../src/expose/event.ts';
import { Publisher } from '../../src/expose/publisher.ts';
import { PortEngine } from '../support/port-engine.ts';

describe('services that clients of the API publish', () => {
  let engine: PortEngine;
  let events: GuestEvent[];
  let made: number;
  let services: ApiServices;
  let publisher: Publisher;

  beforeEach(() => {
    engine = new PortEngine();
    events = [];
    made = 0;
    publisher = new Publisher({
      ...{ engine, spec: { ...defaultPublish, max: 2 }, events: { emit: (event) => events.push(event) } },
      ...{ plan: { guest4: '10.0.2.100', guest6: 'fd00::100' }, minPort: 1024, hasIpv6: true },
    });
    services = new ApiServices(() => {
      made++;
      return Promise.resolve(publisher);
    });
  });

  const told = (): string[] => events.map(({ type }) => type);

  test('a port that is chosen, and one that is named; both go when they are removed', async () => {
    const chosen = await services.add({ proto: 'tcp', guest_port: 80 });
    assert.deepEqual(
      [chosen.id, chosen.forwards.map(({ hostEnd, reason }) => [hostEnd, reason])],
      [1, [[{ ip: '127.0.0.1', port: 1080 }, 'privileged']]],
    );
    const named = {
      proto: 'udp',
      guest_addr: 'fd00::7',
      guest_port: 53,
      host_addr: '127.0.0.2',
      host_port: 5353,
    };
    assert.equal((await services.add({ ...named, source: 'gateway' })).id, 2);
    assert.deepEqual(engine.listeners(), [
      'tcp 127.0.0.1:1080 10.0.2.100:80',
      'tcp ::1:1080 10.0.2.100:80',
      'udp 127.0.0.2:5353 fd00::7:53',
    ]);
    await services.remove({ id: 1 });
    await services.remove({ id: 2 });
    assert.deepEqual(engine.listeners(), []);
    assert.deepEqual(told(), ['forward.added', 'forward.added', 'forward.removed', 'forward.removed']);
    await assert.rejects(services.remove({ id: 1 }), { message: 'remove_service: bad arguments.id' });
  });

  test('a port that is in use is refused, and not tried again', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    engine.busy.add('tcp 127.0.0.1 8080');
    const wish = { proto: 'tcp', guest_port: 80, host_port: 8080 };
    await assert.rejects(services.add(wish), { message: 'add_service: EADDRINUSE' });
    engine.busy.clear();
    t.mock.timers.tick(60_000);
    await publisher.settled();
    assert.deepEqual(engine.listeners(), []);
    assert.equal((await services.add(wish)).id, 1);
    // The same service at another port is somebody's already.
    await assert.rejects(services.add({ ...wish, host_port: 8081 }), { message: 'add_service: EEXIST' });
    assert.equal(engine.listeners().length, 2);
  });

  test('no more than there are places', async () => {
    for (const guest_port of [1, 2]) await services.add({ proto: 'tcp', guest_port });
    await assert.rejects(services.add({ proto: 'tcp', guest_port: 3 }), { message: 'add_service: limit' });
    await services.remove({ id: 1 });
    assert.equal((await services.add({ proto: 'tcp', guest_port: 3 })).id, 3);
  });

  for (const [name, args] of [
    ['proto', { proto: 'sctp', guest_port: 1 }],
    ['guest_port', { proto: 'tcp', guest_port: 0 }],
    ['guest_port', { proto: 'tcp' }],
    ['guest_addr', { proto: 'tcp', guest_port: 1, guest_addr: 'localhost' }],
    ['host_addr', { proto: 'tcp', guest_port: 1, host_addr: 7 }],
    ['host_port', { proto: 'tcp', guest_port: 1, host_port: 65536 }],
    ['source', { proto: 'tcp', guest_port: 1, source: 'me' }],
  ] as const) {
    test(`bad arguments.${name}: ${JSON.stringify(args)}`, async () => {
      await assert.rejects(services.add(args), { message: `add_service: bad arguments.${name}` });
      assert.equal(made, 0);
    });
  }
});
