import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeFrame, FRAME_MAX, FrameDecoder } from '../../src/daemon/frames.ts';
import { ProtocolFault } from '../../src/daemon/protocol-fault.ts';

function header(length: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(length);
  return bytes;
}

function decodeAll(decoder: FrameDecoder, chunk: Buffer): string[] {
  decoder.push(chunk);
  const frames: string[] = [];
  for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) frames.push(frame.toString());
  return frames;
}

describe('frames of the control protocol', () => {
  it('M-24: lengths of 0 and beyond 1 MiB are faults as soon as the length is there', () => {
    for (const length of [0, FRAME_MAX + 1, 0xffffffff]) {
      const decoder = new FrameDecoder();
      decoder.push(header(length));
      assert.throws(() => decoder.next(), ProtocolFault, String(length));
    }
  });

  it('M-24: a frame cut at every byte is the same frame', () => {
    const bytes = encodeFrame({ id: 1, type: 'ping' });
    for (let cut = 0; cut <= bytes.length; cut++) {
      const decoder = new FrameDecoder();
      const first = decodeAll(decoder, bytes.subarray(0, cut));
      const second = decodeAll(decoder, bytes.subarray(cut));
      assert.deepEqual([...first, ...second], ['{"id":1,"type":"ping"}'], `cut at ${cut}`);
      assert.equal(decoder.isEmpty, true);
    }
  });

  it('M-24: a thousand frames in one piece, and the piece of another', () => {
    const all = Array.from({ length: 1000 }, (_, id) => encodeFrame({ id }));
    const decoder = new FrameDecoder();
    const frames = decodeAll(decoder, Buffer.concat([...all, Buffer.from([0, 0])]));
    assert.equal(frames.length, 1000);
    assert.equal(frames[999], '{"id":999}');
    assert.equal(decoder.isEmpty, false);
  });

  it('M-24: the longest frame in single bytes takes less than 4 MB', () => {
    const decoder = new FrameDecoder();
    const before = process.memoryUsage().arrayBuffers;
    decoder.push(header(FRAME_MAX));
    const byte = Buffer.from('x');
    for (let i = 0; i < FRAME_MAX - 1; i++) decoder.push(byte);
    assert.equal(decoder.next(), undefined);
    decoder.push(byte);
    assert.equal(decoder.next()?.length, FRAME_MAX);
    assert.ok(process.memoryUsage().arrayBuffers - before < 4e6);
  });

  it('M-24: a length alone reserves nothing, and a long frame leaves nothing behind', () => {
    const decoder = new FrameDecoder();
    const before = process.memoryUsage().arrayBuffers;
    decoder.push(header(FRAME_MAX));
    assert.equal(decoder.next(), undefined);
    assert.ok(process.memoryUsage().arrayBuffers - before < 64 * 1024);
    decodeAll(decoder, Buffer.alloc(FRAME_MAX, 'x'));
    assert.deepEqual(decodeAll(decoder, encodeFrame({ a: 1 })), ['{"a":1}']);
  });

  it('what is too long to be sent is no frame', () => {
    assert.throws(() => encodeFrame({ text: 'x'.repeat(FRAME_MAX) }), RangeError);
    assert.equal(encodeFrame({ text: 'é' }).toString('utf8', 4), '{"text":"é"}');
  });
});
