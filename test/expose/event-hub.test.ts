import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventHub, type StampedEvent } from '../../src/expose/event-hub.ts';
import { listener, published } from '../support/exposed.ts';

test('events of all guests come in one order to whoever listens', () => {
  const hub = new EventHub(() => Date.UTC(2026, 10, 22, 12, 0, 0, 123));
  hub.sink('g0').emit({ type: 'guest.up' });
  const events: StampedEvent[] = [];
  const stop = hub.listen((event) => events.push(event));
  hub.sink('g1').emit({ type: 'guest.up' });
  hub.sink('g0').emit({ type: 'guest.down', reason: 'closed' });
  stop();
  hub.sink('g0').emit({ type: 'guest.up' });
  const t = '2026-11-22T12:00:00.123Z';
  assert.deepEqual(events, [
    { t, guest: 'g1', type: 'guest.up' },
    { t, guest: 'g0', type: 'guest.down', reason: 'closed' },
  ]);
});

test('what has been added and not removed is there, guest by guest', () => {
  const hub = new EventHub(() => 0);
  const sink = hub.sink('g0');
  hub.sink('g1');
  const [web, name] = [listener({ port: 80 }), listener({ proto: 'udp', port: 53 })];
  const [first, second] = [published({}), published({ proto: 'udp' })];
  for (const one of [web, name]) sink.emit({ type: 'listener.added', ...one });
  for (const one of [first, second]) sink.emit({ type: 'forward.added', ...one });
  sink.emit({ type: 'listener.removed', lastedMs: 1, flaps: 0, ...web });
  const { proto, guestEnd, hostEnd } = first;
  const counts = { connections: 0, bytesIn: 0, bytesOut: 0 };
  sink.emit({ type: 'forward.removed', cause: 'closed', proto, guestEnd, hostEnd, ...counts });
  assert.deepEqual(hub.present(), [
    ['g0', { listeners: [name], forwards: [second] }],
    ['g1', { listeners: [], forwards: [] }],
  ]);
});
