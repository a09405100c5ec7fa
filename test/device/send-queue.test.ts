import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SendQueue } from '../../src/device/send-queue.ts';
import { Parts } from '../../src/stack/buffer/byte-queue.ts';
import { PAGE_SIZE, Slab } from '../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { seededRng } from '../support/seeded-rng.ts';

/** Fewer than the queue could fill. */
const PAGES = 4;
const QUEUE_BYTES = 65536;

describe('SendQueue', () => {
  test('gives frames back whole and in order, wherever pages end, and holds no page when it is empty', () => {
    const rng = seededRng(7);
    const slab = new Slab(65536, PAGES);
    const queue = new SendQueue(slab, QUEUE_BYTES);
    const source = slab.region(2048);
    const frame = new TxFrame();
    const parts = new Parts(8);
    const expected: Buffer[] = [];
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      if (rng.u32() % 1000 < (round % 2000 < 1000 ? 700 : 300)) {
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
          // Of the pages, part of the first may have been given back by then.
          assert.ok(before + length + 4 > (PAGES - 1) * PAGE_SIZE, `${length} bytes refused at ${before}`);
        }
      } else if (queue.used > 0) {
        const length = queue.first(parts);
        const pieces = Array.from({ length: parts.count }, (_, i) => {
          const at = parts.offset[i] as number;
          return slab.bytes.subarray(at, at + (parts.length[i] as number));
        });
        const taken = Buffer.concat(pieces);
        assert.equal(taken.length, length);
        assert.deepEqual(taken, expected.shift());
        queue.drop(length);
      }
      assert.equal(queue.used === 0, expected.length === 0);
      if (queue.used === 0) assert.equal(slab.pagesUsed, 0);
    }
    assert.ok(refused > 100);
  });
});
