import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FrameCutter, lengthPrefix } from '../../src/app/frame-cutter.ts';

test('links L-62: frames come out of a stream whole, wherever it is cut', () => {
  const frames = [14, 60, 1514, 0, 3].map((size, i) => Buffer.alloc(size, i + 1));
  const stream = Buffer.concat(frames.flatMap((frame) => [lengthPrefix(frame.length), frame]));
  for (const size of [1, 2, 3, 4, 5, 17, 64, 1000, stream.length]) {
    const cutter = new FrameCutter();
    const found: Buffer[] = [];
    for (let at = 0; at < stream.length; at += size)
      found.push(...cutter.add(stream.subarray(at, at + size)).map((frame) => Buffer.from(frame)));
    assert.deepEqual(found, frames, `${size} at a time`);
  }
});
