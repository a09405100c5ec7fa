import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rtnetlink } from '../../src/sys/netns/rtnetlink.ts';

/** NLMSG_ERROR with code 0: an acknowledgment, of request `sequence`. */
function acknowledgment(sequence: number): DataView {
  const message = new DataView(new ArrayBuffer(20));
  message.setUint32(0, 20, true);
  message.setUint16(4, 2, true);
  message.setUint32(8, sequence, true);
  return message;
}

test('review OR-11: answers to earlier requests are none; who asks is told to wait for another', () => {
  const netlink = new Rtnetlink();
  const first = netlink.setLink(1, { up: true });
  assert.ok(first.next().value instanceof Uint8Array);
  assert.deepEqual(first.next(acknowledgment(1)), { done: true, value: 0 });
  const second = netlink.setLink(1, { up: true });
  second.next();
  for (let times = 0; times < 3; times++)
    assert.deepEqual(second.next(acknowledgment(1)), { done: false, value: null });
  assert.deepEqual(second.next(acknowledgment(2)), { done: true, value: 0 });
});

test('an answer that is cut off is an error', () => {
  for (const length of [0, 15, 19]) {
    const steps = new Rtnetlink().setLink(1, { up: true });
    steps.next();
    const answer = new DataView(acknowledgment(1).buffer, 0, length);
    assert.deepEqual(steps.next(answer), { done: true, value: -74 });
  }
});
