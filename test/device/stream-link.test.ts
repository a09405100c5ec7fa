import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LENGTH_BYTES, putLength, type StreamFraming } from '../../src/device/framing.ts';
import { StreamLink } from '../../src/device/stream-link.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { EBADF, ENOBUFS } from '../../src/sys/errno.ts';
import { close, write } from '../../src/sys/io.ts';
import { SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, setsockoptInt } from '../../src/sys/socket.ts';
import { seededRng } from '../support/seeded-rng.ts';
import { Bench, FRAME } from './support/bench.ts';

/** 64 pages of 16 KiB are what the bench has. */
const QUEUE_MOST = 256 * 1024;

function framed(frame: Buffer, framing: StreamFraming): Buffer {
  const prefix = Buffer.alloc(LENGTH_BYTES[framing]);
  putLength(prefix, 0, frame.length, framing);
  return Buffer.concat([prefix, frame]);
}

function linkOf(b: Bench, framing: StreamFraming = 'be32'): StreamLink {
  return b.use(
    new StreamLink({ input: b.fd, output: b.fd }, { medium: 'ethernet', mtu: 1500, framing }, b.services),
  );
}

/** The frames of a stream, whatever pieces it comes in. */
class Unframer {
  #bytes = Buffer.alloc(0);
  readonly frames: Buffer[] = [];

  take(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    while (this.#bytes.length >= 4) {
      const length = this.#bytes.readUInt32BE(0);
      assert.ok(length >= 14 && length <= 65549, `a length of ${length}`);
      if (this.#bytes.length < 4 + length) return;
      this.frames.push(this.#bytes.subarray(4, 4 + length));
      this.#bytes = this.#bytes.subarray(4 + length);
    }
  }

  get rest(): number {
    return this.#bytes.length;
  }
}

describe('StreamLink', () => {
  for (const framing of ['be32', 'le16'] as const) {
    test(`links L-2: whatever the cuts, the frames are the same, ${framing}`, () => {
      const rng = seededRng(framing.length);
      const below = (n: number): number => rng.u32() % n;
      for (let round = 0; round < 30; round++) {
        const b = new Bench(SOCK_STREAM);
        linkOf(b, framing);
        const sent = Array.from({ length: 300 }, (_, i) => {
          const large = i % 50 === 49 ? 60_000 : 1500;
          const frame = Buffer.alloc(14 + below(large), i);
          frame.writeUInt32BE(i, 0);
          return frame;
        });
        let stream = Buffer.concat(sent.map((frame) => framed(frame, framing)));
        // From bytes one by one to hundreds of frames at a time.
        const most = [1, 3, 700, 5000, 60_000][round % 5] as number;
        if (most < 100) stream = stream.subarray(0, framed(sent[0] as Buffer, framing).length + 3000);
        while (stream.length > 0) {
          const size = Math.min(1 + below(most), stream.length);
          b.put(stream.subarray(0, size));
          stream = stream.subarray(size);
          b.turn();
        }
        for (let i = 0; i < 20; i++) b.turn();
        const expected = most < 100 ? sent.slice(0, b.frames.length) : sent;
        assert.ok(b.frames.length > 0);
        assert.deepEqual(b.frames, expected);
        assert.equal(b.gone, '');
        b.end();
        assert.equal(b.slab.pagesUsed, 0, 'nothing is kept');
      }
    });
  }

  test('links L-2: a prefix and a frame cut at each place', () => {
    const b = new Bench(SOCK_STREAM);
    linkOf(b);
    const bytes = framed(Buffer.alloc(60, 7), 'be32');
    for (let cut = 1; cut < bytes.length; cut++) {
      b.put(bytes.subarray(0, cut));
      b.turn();
      assert.equal(b.frames.length, cut - 1);
      b.put(bytes.subarray(cut));
      b.turn();
      assert.equal(b.frames.length, cut);
    }
    b.end();
  });

  test('links L-2: a guest that takes a few at a time loses none', () => {
    const b = new Bench(SOCK_STREAM);
    linkOf(b);
    b.mostTaken = 3;
    const sent = Array.from({ length: 200 }, (_, i) => Buffer.alloc(100 + i, i));
    b.put(Buffer.concat(sent.map((frame) => framed(frame, 'be32'))));
    b.until(() => b.frames.length === sent.length, 'all frames');
    assert.deepEqual(b.frames, sent);
    b.end();
  });

  for (const [length, text] of [
    [13, /13 bytes/],
    [65550, /65550 bytes/],
    [69632, /69632 bytes/],
    [0xffffffff, /4294967295 bytes/],
  ] as const) {
    test(`links L-1: a length of ${length} ends the link, after the frames before it`, () => {
      const b = new Bench(SOCK_STREAM);
      linkOf(b);
      const prefix = Buffer.alloc(4);
      prefix.writeUInt32BE(length);
      b.put(Buffer.concat([framed(Buffer.from('the frame before it'), 'be32'), prefix, Buffer.alloc(500)]));
      b.until(() => b.gone !== '', 'the end');
      assert.deepEqual(b.frames.map(String), ['the frame before it']);
      assert.equal(b.reason, 'oversized');
      assert.match(b.gone, text);
      close(b.peer);
    });
  }

  test('links L-13: a frame of 65,549 bytes passes', () => {
    const b = new Bench(SOCK_STREAM);
    linkOf(b);
    const frame = Buffer.alloc(65549, 5);
    const bytes = framed(frame, 'be32');
    for (let at = 0; at < bytes.length; at += 50_000) {
      b.put(bytes.subarray(at, at + 50_000));
      b.turn();
    }
    b.until(() => b.frames.length > 0, 'the frame');
    assert.deepEqual(b.frames, [frame]);
    assert.equal(b.gone, '');
    b.end();
  });

  for (const [name, bytes, reason] of [
    ['between frames', framed(Buffer.from('a whole frame'.padEnd(14)), 'be32'), 'closed'],
    ['within a length', Buffer.concat([framed(Buffer.alloc(14), 'be32'), Buffer.alloc(3)]), 'truncated'],
    ['within a frame', framed(Buffer.alloc(60), 'be32').subarray(0, 63), 'truncated'],
    ['before anything', Buffer.alloc(0), 'closed'],
  ] as const) {
    test(`links L-3: the end ${name} is told as ${reason}`, () => {
      const b = new Bench(SOCK_STREAM);
      linkOf(b);
      if (bytes.length > 0) b.put(bytes);
      close(b.peer);
      b.until(() => b.gone !== '', 'the end');
      assert.equal(b.reason, reason);
      assert.equal(b.transmit(1), -EBADF);
      assert.equal(b.slab.pagesUsed, 0);
    });
  }

  test('links L-4: what is written in part goes on where it ended, whatever the peer takes', () => {
    const b = new Bench(SOCK_STREAM);
    setsockoptInt(b.memory, b.fd, SOL_SOCKET, SO_SNDBUF, 4096, b.at);
    const link = linkOf(b);
    const peer = new Unframer();
    let sent = 0;
    let refused = 0;
    for (let round = 0; round < 400; round++) {
      for (let i = 0; i < 7; i++) {
        if (b.transmit(sent, 60 + ((sent * 37) % 1400)) >= 0) sent++;
        else refused++;
      }
      link.flush();
      // A peer that takes one piece a round, and less than comes.
      const bytes = b.get(1 + ((round * 101) % 3000));
      if (bytes !== null) peer.take(bytes);
      b.turn();
    }
    assert.ok(refused > 0, 'it never had too much to hold');
    b.until(() => {
      for (let bytes = b.get(); bytes !== null; bytes = b.get()) peer.take(bytes);
      return peer.frames.length === sent;
    }, 'all of it');
    assert.equal(peer.rest, 0);
    peer.frames.forEach((frame, index) => {
      assert.equal(frame.readUInt32BE(0), index);
      assert.equal(frame.length, 60 + ((index * 37) % 1400));
    });
    assert.equal(b.turn(), 0, 'room is not waited for any more');
    b.end();
  });

  test('links L-4: long frames, which are written from where they lie, are as whole and in order', () => {
    const b = new Bench(SOCK_STREAM);
    setsockoptInt(b.memory, b.fd, SOL_SOCKET, SO_SNDBUF, 30_000, b.at);
    const link = linkOf(b);
    const peer = new Unframer();
    const payload = b.slab.region(70_000);
    for (let i = 0; i < 70_000; i++) b.slab.bytes[payload + i] = (i * 31) >> 3;
    const pattern = Buffer.from(b.slab.bytes.subarray(payload, payload + 70_000));
    const frame = new TxFrame();
    frame.headOffset = b.slab.region(256) + 64;
    frame.headLength = 54;
    const sent: number[] = [];
    for (let round = 0; round < 300; round++) {
      for (const length of [60, 20_000 + round * 100, 1514, 65_549]) {
        const payloadLength = length - 54;
        frame.parts.count = 0;
        for (let at = 0; at < payloadLength; at += 16_384)
          frame.parts.add(payload + at, Math.min(16_384, payloadLength - at));
        frame.payloadLength = payloadLength;
        b.slab.view.setUint32(frame.headOffset, sent.length);
        if (link.transmit(frame) >= 0) sent.push(length);
      }
      link.flush();
      for (let i = 0; i < 3; i++) {
        const bytes = b.get(1 + ((round * 7919) % 65_000));
        if (bytes !== null) peer.take(bytes);
      }
      b.turn();
    }
    b.until(() => {
      for (let bytes = b.get(); bytes !== null; bytes = b.get()) peer.take(bytes);
      return peer.frames.length === sent.length;
    }, 'all of it');
    assert.equal(peer.rest, 0);
    assert.ok(sent.filter((length) => length === 65_549).length > 10, 'few long ones');
    peer.frames.forEach((got, index) => {
      assert.deepEqual([got.readUInt32BE(0), got.length], [index, sent[index]]);
      assert.ok(got.subarray(54).equals(pattern.subarray(0, got.length - 54)), `frame ${index}`);
    });
    assert.equal(b.slab.pagesUsed, 0);
    b.end();
  });

  test('links L-4: what waits has a bound; full comes first', () => {
    const b = new Bench(SOCK_STREAM);
    const link = linkOf(b);
    let sent = 0;
    while (!link.full) assert.ok(b.transmit(sent++) >= 0);
    const atFull = sent;
    while (b.transmit(sent) >= 0) sent++;
    assert.equal(b.transmit(sent), -ENOBUFS);
    assert.ok(sent > atFull, 'datagrams have room that TCP has not');
    assert.ok(b.slab.pagesUsed * 16384 <= QUEUE_MOST + 2 * 16384, `${b.slab.pagesUsed} pages`);
    // It takes no more before there is room, and then all that it had taken arrives.
    const peer = new Unframer();
    b.until(() => {
      for (let bytes = b.get(); bytes !== null; bytes = b.get()) peer.take(bytes);
      return peer.frames.length === sent;
    }, 'all of it');
    assert.equal(link.full, false);
    assert.equal(b.slab.pagesUsed, 0);
    b.end();
  });

  test('the frames of a turn leave together, at its end', () => {
    const b = new Bench(SOCK_STREAM);
    const link = linkOf(b);
    for (let i = 0; i < 5; i++) b.transmit(i, 100);
    assert.equal(b.get(), null);
    assert.equal(b.touches, 5);
    link.flush();
    assert.equal(b.get()?.length, 5 * 104);
    for (let i = 0; i < 60; i++) b.transmit(i, FRAME);
    assert.notEqual(b.get(), null, 'much does not wait');
    b.end();
  });

  test('two descriptors, one for each way', () => {
    const inward = new Bench(SOCK_STREAM);
    const outward = new Bench(SOCK_STREAM);
    const link = inward.use(
      new StreamLink(
        { input: inward.fd, output: outward.fd },
        { medium: 'ethernet', mtu: 1500, framing: 'le16' },
        inward.services,
      ),
    );
    inward.put(framed(Buffer.from('a frame to the guest'), 'le16'));
    inward.until(() => inward.frames.length > 0, 'the frame');
    let sent = 0;
    while (!link.full) assert.ok(inward.transmit(sent++) >= 0);
    let got = 0;
    inward.until(() => {
      for (let bytes = outward.get(); bytes !== null; bytes = outward.get()) got += bytes.length;
      return got === sent * (FRAME + 2);
    }, 'all of it');
    assert.equal(inward.get(), null, 'nothing comes by the other');
    inward.end();
    close(outward.peer);
  });

  test('tells nothing after it was closed, not even of what it had', () => {
    const b = new Bench(SOCK_STREAM);
    const link = linkOf(b);
    b.onFirst = () => link.close();
    b.put(Buffer.concat([framed(Buffer.alloc(14, 1), 'be32'), framed(Buffer.alloc(14, 2), 'be32')]));
    b.turn();
    assert.equal(b.results.length, 1);
    assert.equal(write(b.memory, b.peer, b.at, 1) < 0, true);
    b.turn();
    assert.equal(b.gone, '');
    assert.equal(b.slab.pagesUsed, 0);
    close(b.peer);
  });

  test('links L-5: where there is no memory for what is sent it waits a little, and goes out in order', () => {
    const b = new Bench(SOCK_STREAM);
    const link = linkOf(b);
    const { frames } = b.services;
    const writeParts = frames.writeParts.bind(frames);
    let tries = 0;
    Object.assign(frames, {
      writeParts: () => {
        tries++;
        return -ENOBUFS;
      },
    });
    for (let i = 0; i < 3; i++) assert.ok(b.transmit(i) > 0);
    link.flush();
    assert.equal(tries, 1);
    const reader = new Unframer();
    Object.assign(frames, { writeParts });
    b.now += 1;
    b.until(() => {
      const bytes = b.get();
      if (bytes !== null) reader.take(bytes);
      return reader.frames.length === 3;
    }, 'the frames');
    assert.deepEqual(
      reader.frames.map((frame) => frame.readUInt32BE(0)),
      [0, 1, 2],
    );
    b.end();
  });
});
