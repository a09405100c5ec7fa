import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SendQueue } from '../../src/device/send-queue.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { seededRng } from '../support/seeded-rng.ts';

const QUEUE_BYTES = 4096;

describe('SendQueue', () => {
  test('gives frames back whole and in order, over and over the end of the ring', () => {
    const rng = seededRng(7);
    const slab = new Slab(65536, 1);
    const queue = new SendQueue(slab, QUEUE_BYTES);
    const source = slab.region(2048);
    const frame = new TxFrame();
    const expected: Buffer[] = [];
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      if (rng.u32() % 2 === 0) {
        const length = 1 + (rng.u32() % 1500);
        for (let i = 0; i < length; i++) slab.bytes[source + i] = rng.u32() & 255;
        const head = Math.min(length, 54);
        const middle = head + ((length - head) >> 1);
        frame.headOffset = source;
        frame.headLength = head;
        frame.parts.count = 0;
        frame.parts.add(source + head, middle - head);
        frame.parts.add(source + middle, length - middle);
        frame.payloadLength = length - head;
        const before = queue.used;
        if (queue.push(frame)) {
          expected.push(Buffer.from(slab.bytes.subarray(source, source + length)));
        } else {
          refused++;
          assert.equal(queue.used, before);
          // Half the ring can always be had: what cannot be used at its end is less than one frame.
          assert.ok(before + length + 1508 > QUEUE_BYTES, `${length} bytes refused at ${before}`);
        }
      } else if (queue.used > 0) {
        const taken = slab.bytes.subarray(queue.offset, queue.offset + queue.length);
        assert.deepEqual(Buffer.from(taken), expected.shift());
        queue.shift();
      }
      assert.equal(queue.used === 0, expected.length === 0);
    }
    assert.ok(refused > 100);
  });
});
