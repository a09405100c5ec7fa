import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventHub, type StreamEvent } from '../../src/expose/event-hub.ts';

test('events of all guests have one sequence without gaps, whoever listens', () => {
  const hub = new EventHub(() => Date.UTC(2026, 10, 22, 12, 0, 0, 123));
  hub.sink('g0').emit({ type: 'guest.up' });
  const lines: StreamEvent[] = [];
  const stop = hub.listen((line) => lines.push(line));
  hub.sink('g1').emit({ type: 'guest.up' });
  hub.sink('g0').emit({ type: 'guest.down', reason: 'closed' });
  stop();
  hub.sink('g0').emit({ type: 'guest.up' });
  const t = '2026-11-22T12:00:00.123Z';
  assert.deepEqual(lines, [
    { v: 1, seq: 2, t, guest: 'g1', type: 'guest.up' },
    { v: 1, seq: 3, t, guest: 'g0', type: 'guest.down', reason: 'closed' },
  ]);
});
