import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Parts } from '../../../src/stack/buffer/byte-queue.ts';
import { ReassemblyQueue } from '../../../src/stack/buffer/reassembly-queue.ts';
import { PAGE_SIZE, Slab } from '../../../src/stack/buffer/slab.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const POISON = 0xa5;
const SOURCE_SIZE = 65536;

const NOTHING = -1;

/** What the queue must hold: a byte or nothing at each offset from the first unread one. */
class Model {
  readonly bytes: Int16Array = new Int16Array(4 * SOURCE_SIZE).fill(NOTHING);
  readable = 0;
  /** Behind the last byte. */
  end = 0;

  insert(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      if (this.bytes[offset + i] === NOTHING) this.bytes[offset + i] = data[i] as number;
    }
    this.end = Math.max(this.end, offset + data.length);
    while (this.bytes[this.readable] !== NOTHING) this.readable++;
  }

  consume(n: number): void {
    this.bytes.copyWithin(0, n, this.end);
    this.bytes.fill(NOTHING, this.end - n, this.end);
    this.end -= n;
    this.readable -= n;
  }

  discardOutOfOrder(): void {
    this.bytes.fill(NOTHING, this.readable, this.end);
    this.end = this.readable;
  }

  ranges(): [number, number][] {
    const out: [number, number][] = [];
    for (let i = this.readable; i < this.end; i++) {
      if (this.bytes[i] === NOTHING) continue;
      const last = out[out.length - 1];
      if (last !== undefined && last[1] === i) last[1]++;
      else out.push([i, i + 1]);
    }
    return out;
  }
}

function readAll(slab: Slab, queue: ReassemblyQueue, parts: Parts): Buffer {
  assert.equal(queue.peek(queue.readable, parts), queue.readable);
  const pieces: Uint8Array[] = [];
  for (let i = 0; i < parts.count; i++) {
    const from = parts.offset[i] as number;
    pieces.push(slab.bytes.subarray(from, from + (parts.length[i] as number)));
  }
  return Buffer.concat(pieces);
}

describe('ReassemblyQueue against a sparse array (T-10, T-15)', () => {
  test('random pieces: the first copy of a byte wins, poison never shows, no page leaks', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const rng = seededRng(seed);
      const below = (n: number): number => rng.u32() % n;
      const slab = new Slab(SOURCE_SIZE, 64);
      slab.bytes.fill(POISON);
      const source = slab.region(SOURCE_SIZE);
      const queue = new ReassemblyQueue(slab);
      const parts = new Parts(64);
      let model = new Model();
      const span = seed % 2 === 0 ? 300 : 5 * PAGE_SIZE;
      for (let step = 0; step < 120; step++) {
        const action = below(12);
        if (action < 9) {
          const offset = below(3) === 0 ? model.readable : below(span);
          const length = 1 + below(Math.ceil(Math.min(span, 30_000) / (1 + below(20))));
          const data = slab.bytes.subarray(source, source + length);
          for (let i = 0; i < length; i++) data[i] = (step * 7 + i) % POISON;
          assert.equal(queue.insert(offset, source, length, 1000), true);
          model.insert(offset, data);
          data.fill(POISON);
        } else if (action < 11) {
          const size = below(2) === 0 ? model.readable : below(model.readable + 1);
          queue.consume(size);
          model.consume(size);
        } else if (below(6) === 0) {
          queue.discardOutOfOrder();
          model.discardOutOfOrder();
        } else if (below(10) === 0) {
          queue.clear();
          model = new Model();
        }
        const at = `seed ${seed} step ${step}`;
        assert.equal(queue.readable, model.readable, at);
        const ranges = model.ranges();
        assert.equal(queue.rangeCount, ranges.length, at);
        ranges.forEach(([from, to], i) => {
          assert.equal(queue.rangeStartAt(i), from, at);
          assert.equal(queue.rangeEndAt(i), to, at);
        });
        assert.equal(
          queue.outOfOrder,
          ranges.reduce((sum, [from, to]) => sum + to - from, 0),
          at,
        );
        const expected = Buffer.from(model.bytes.subarray(0, model.readable));
        assert.equal(Buffer.compare(readAll(slab, queue, parts), expected), 0, at);
        if (queue.isEmpty) assert.equal(slab.pagesUsed, 0, at);
      }
      queue.clear();
      assert.equal(slab.pagesUsed, 0);
    }
  });

  test('one-byte pieces at every second offset stop at the limit; filling up afterwards is intact (T-15)', () => {
    const slab = new Slab(SOURCE_SIZE, 8);
    const source = slab.region(SOURCE_SIZE);
    const queue = new ReassemblyQueue(slab);
    for (let i = 0; i < 2000; i++) slab.bytes[source + i] = i & 0xff;
    let refused = 0;
    for (let i = 1; i < 2000; i += 2) if (!queue.insert(i, source + i, 1, 128)) refused++;
    assert.equal(queue.rangeCount, 128);
    assert.equal(refused, 1000 - 128);
    assert.equal(queue.insert(0, source, 2000, 128), true);
    const parts = new Parts(8);
    assert.deepEqual(
      readAll(slab, queue, parts),
      Buffer.from({ length: 2000 }).map((_, i) => i & 0xff),
    );
  });

  test('out of memory: nothing changes; giving up what is out of order makes room for what is next', () => {
    const slab = new Slab(SOURCE_SIZE, 2);
    slab.bytes.fill(POISON);
    const source = slab.region(SOURCE_SIZE);
    slab.bytes.fill(1, source, source + 1000);
    const queue = new ReassemblyQueue(slab);
    assert.equal(queue.insert(0, source, 10, 8), true);
    assert.equal(queue.insert(3 * PAGE_SIZE, source, 1000, 8), true);
    assert.equal(queue.insert(PAGE_SIZE, source, 1000, 8), false);
    assert.equal(queue.readable, 10);
    assert.equal(queue.outOfOrder, 1000);
    queue.discardOutOfOrder();
    assert.equal(queue.outOfOrder, 0);
    assert.equal(slab.pagesUsed, 1);
    assert.equal(queue.insert(10, source, 1000, 8), true);
    assert.equal(queue.readable, 1010);
    queue.consume(1010);
    assert.equal(slab.pagesUsed, 0);
  });
});
