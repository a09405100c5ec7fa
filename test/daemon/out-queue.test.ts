import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { OutQueue } from '../../src/daemon/out-queue.ts';

function drain(queue: OutQueue): object[] {
  const all: object[] = [];
  for (let frame = queue.take(); frame !== undefined; frame = queue.take())
    all.push(JSON.parse(frame.toString('utf8', 4)) as object);
  return all;
}

/** Frames of these have 4 + 11 bytes. */
const item = (n: number): object => ({ n: 100 + n });
const FRAME = 13;

describe('OutQueue', () => {
  it('keeps the order of all that fits', () => {
    const queue = new OutQueue();
    queue.add('event', item(1));
    queue.add('call', item(2));
    queue.add('log', item(3));
    assert.deepEqual(drain(queue), [item(1), item(2), item(3)]);
    assert.equal(queue.bytes, 0);
  });

  it('M-28: the oldest events make room first, and are counted in their place', () => {
    const queue = new OutQueue(4 * FRAME);
    queue.add('event', item(1));
    queue.add('log', item(2));
    queue.add('event', item(3));
    queue.add('event', item(4));
    queue.add('event', item(5));
    queue.add('log', item(6));
    assert.deepEqual(drain(queue), [
      { type: 'dropped', what: 'events', count: 2 },
      item(2),
      item(4),
      item(5),
      item(6),
    ]);
  });

  it('M-28: logs make room for calls, not for events', () => {
    const queue = new OutQueue(2 * FRAME);
    queue.add('log', item(1));
    queue.add('log', item(2));
    queue.add('event', item(3));
    queue.add('call', item(4));
    assert.deepEqual(drain(queue), [
      { type: 'dropped', what: 'events', count: 1 },
      { type: 'dropped', what: 'logs', count: 1 },
      item(2),
      item(4),
    ]);
  });

  it('M-28: calls are kept whatever there is', () => {
    const queue = new OutQueue(2 * FRAME);
    for (let n = 1; n <= 3; n++) queue.add('call', item(n));
    queue.add('event', item(4));
    assert.deepEqual(drain(queue), [
      item(1),
      item(2),
      item(3),
      { type: 'dropped', what: 'events', count: 1 },
    ]);
  });

  it('M-28: memory is bounded whatever is not read', () => {
    const queue = new OutQueue();
    for (let n = 0; n < 10_000; n++) queue.add(n % 2 === 0 ? 'event' : 'log', { text: 'x'.repeat(100) });
    assert.ok(queue.bytes <= 256 * 1024);
  });
});
