import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  announcedLength,
  BAD_LENGTH,
  cutFrame,
  LEAST_FRAME,
  LENGTH_BYTES,
  MOST_FRAME,
  putLength,
  type StreamFraming,
} from '../../src/device/framing.ts';

const FRAMINGS: readonly StreamFraming[] = ['be32', 'le16'];

function withLength(length: number, framing: StreamFraming): Uint8Array {
  const prefix = LENGTH_BYTES[framing];
  const bytes = new Uint8Array(prefix + length);
  putLength(bytes, 0, length, framing);
  return bytes;
}

describe('framing', () => {
  test('the bytes of a length are those of QEMU and of hyperkit', () => {
    const bytes = new Uint8Array(5);
    putLength(bytes, 1, 0x1234, 'be32');
    assert.deepEqual([...bytes], [0, 0, 0, 0x12, 0x34]);
    putLength(bytes, 0, 0x1234, 'le16');
    assert.deepEqual([...bytes.subarray(0, 2)], [0x34, 0x12]);
    assert.equal(announcedLength(Uint8Array.of(0xff, 0xff, 0xff, 0xfe), 0, 'be32'), 0xfffffffe);
    assert.equal(announcedLength(Uint8Array.of(0xfe, 0xff), 0, 'le16'), 0xfffe);
  });

  for (const framing of FRAMINGS) {
    const prefix = LENGTH_BYTES[framing];
    test(`links L-2: a frame is there with its last byte and not before, ${framing}`, () => {
      const bytes = withLength(60, framing);
      for (let end = 0; end < bytes.length; end++) assert.equal(cutFrame(bytes, 0, end, framing, 14), 0);
      assert.equal(cutFrame(bytes, 0, bytes.length, framing, 14), 60);
      assert.equal(cutFrame(bytes, 0, bytes.length + 100, framing, 14), 60);
    });

    test(`links L-1: a length below 14 ends it as soon as it is known, ${framing}`, () => {
      for (let length = 0; length < LEAST_FRAME.ethernet; length++)
        assert.equal(cutFrame(withLength(length, framing), 0, prefix, framing, 14), BAD_LENGTH, `${length}`);
      assert.equal(cutFrame(withLength(14, framing), 0, prefix, framing, 14), 0);
      assert.equal(cutFrame(withLength(19, framing), 0, prefix, framing, LEAST_FRAME.ip), BAD_LENGTH);
    });
  }

  test('links L-13: 65,549 bytes pass, one more does not', () => {
    const bytes = withLength(MOST_FRAME, 'be32');
    assert.equal(cutFrame(bytes, 0, bytes.length, 'be32', 14), 65549);
    putLength(bytes, 0, MOST_FRAME + 1, 'be32');
    assert.equal(cutFrame(bytes, 0, bytes.length, 'be32', 14), BAD_LENGTH);
    putLength(bytes, 0, 0xffffffff, 'be32');
    assert.equal(cutFrame(bytes, 0, 4, 'be32', 14), BAD_LENGTH);
  });
});
