/** Links on real descriptors, in a real loop: what a guest, or the peer at the other end, would notice. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { DropReason } from '../../src/stack/wire/drop-reason.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../src/stack/wire/vnet-header.ts';
import { EBADF, ENOBUFS } from '../../src/sys/errno.ts';
import { close } from '../../src/sys/io.ts';
import { SOCK_DGRAM, SOCK_SEQPACKET } from '../../src/sys/socket.ts';
import { Bench, FRAME } from './support/bench.ts';

/** Descriptors of this process. */
function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

describe('SocketLink', () => {
  test('review H-2: frames that the peer does not take wait, and go out in order when it does', () => {
    const b = new Bench(SOCK_DGRAM);
    const before = descriptors();
    const link = b.socket(false);
    let sent = 0;
    while (!link.full) assert.ok(b.transmit(sent++) >= 0);
    assert.equal(descriptors(), before, 'waiting takes no descriptor');
    const got: number[] = [];
    for (let turns = 0; got.length < sent; turns++) {
      assert.ok(turns < 10_000, `${got.length} of ${sent} frames`);
      for (let frame = b.get(); frame !== null; frame = b.get()) {
        assert.equal(frame.length, FRAME);
        got.push(frame.readUInt32BE(0));
      }
      b.turn();
    }
    assert.deepEqual(
      got,
      Array.from({ length: sent }, (_, i) => i),
    );
    assert.equal(link.full, false);
    assert.equal(b.slab.pagesUsed, 0, 'nothing is kept');
    assert.deepEqual(b.results, [], 'nothing has come meanwhile');
    assert.equal(b.turn(), 0, 'room is not waited for any more');
    b.end();
  });

  test('what waits has a bound, and is let go with the link', () => {
    const b = new Bench(SOCK_DGRAM);
    const link = b.socket(false);
    let sent = 0;
    while (b.transmit(sent) >= 0) sent++;
    assert.equal(b.transmit(sent), -ENOBUFS);
    assert.ok(sent * FRAME < 2 * 1024 * 1024, `${sent} frames`);
    link.close();
    assert.equal(b.slab.pagesUsed, 0);
    assert.equal(b.transmit(sent), -EBADF);
    b.end();
  });

  test('L-10: an empty packet is not the end; the end comes after the last frame', () => {
    const b = new Bench(SOCK_SEQPACKET);
    b.socket(true);
    b.put(Buffer.alloc(0));
    b.turn();
    assert.equal(b.gone, '');
    b.put(Buffer.from('last'));
    close(b.peer);
    for (let i = 0; i < 10 && b.gone === ''; i++) b.turn();
    assert.deepEqual(b.frames.map(String), ['last']);
    assert.match(b.gone, /closed/);
    assert.equal(b.transmit(1), -EBADF);
    b.turn();
    assert.deepEqual(b.frames.map(String), ['last']);
  });

  test('a peer that is gone without a sign ends nothing', () => {
    const b = new Bench(SOCK_DGRAM);
    b.socket(false);
    close(b.peer);
    for (let i = 0; i < 5; i++) b.turn();
    assert.ok(b.transmit(1) < 0);
    assert.equal(b.gone, '');
    b.link?.close();
  });

  test('tells nothing after it was closed', () => {
    const b = new Bench(SOCK_DGRAM);
    const link = b.socket(false);
    b.put(Buffer.from('late'));
    link.close();
    link.close();
    b.turn();
    assert.deepEqual(b.results, []);
    close(b.peer);
  });
});

describe('reading frames', () => {
  test('a lone frame is not followed by a read in vain, and what came meanwhile is told of again', () => {
    const b = new Bench(SOCK_DGRAM);
    b.socket(false);
    b.put(Buffer.from('one'));
    b.turn();
    b.turn();
    b.turn();
    b.onFirst = () => b.put(Buffer.from('three'));
    b.put(Buffer.from('two'));
    b.turn();
    assert.deepEqual(b.results, [
      [1, 0],
      [1, 0],
    ]);
    assert.deepEqual(b.frames.map(String), ['one', 'two']);
    // Some turns in a row may be so; more are a train, read to its end.
    b.onFirst = () => {};
    for (const text of ['four', 'five', 'six']) {
      b.put(Buffer.from(text));
      b.turn();
    }
    assert.deepEqual(b.results.slice(2), [
      [1, 0],
      [1, 0],
      [1, 1, 0],
    ]);
    assert.deepEqual(b.frames.map(String), ['one', 'two', 'three', 'four', 'five', 'six']);
    b.end();
  });
});

describe('TapLink', () => {
  test('review H-2: the virtio-net header is its own, in both directions', () => {
    const b = new Bench(SOCK_DGRAM);
    const link = b.tap(true);
    const header = Buffer.alloc(10);
    header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header.writeUInt16LE(34, 6);
    header.writeUInt16LE(16, 8);
    b.put(Buffer.concat([header, Buffer.alloc(60, 7)]));
    b.turn();
    assert.deepEqual(b.frames, [Buffer.alloc(60, 7)]);
    const { flags, csumStart, csumOffset } = b.received.offload;
    assert.deepEqual([flags, csumStart, csumOffset], [VIRTIO_NET_HDR_F_NEEDS_CSUM, 34, 16]);
    for (const length of [54, 60, 1514]) {
      assert.ok(b.transmit(0x5a5a5a5a, length) >= 0);
      const frame = b.get() as Buffer;
      assert.equal(frame.length, 10 + length);
      assert.deepEqual(frame.subarray(0, 14), Buffer.from('000000000000000000005a5a5a5a', 'hex'));
    }
    assert.equal(link.tso && link.uso && link.checksumOffload, true);
    b.end();
  });

  test('one that makes no sense costs the frame, not the batch', () => {
    const b = new Bench(SOCK_DGRAM);
    b.tap(true);
    const bad = Buffer.alloc(70);
    bad[1] = 77;
    b.put(Buffer.alloc(70, 0));
    b.put(bad);
    b.put(Buffer.alloc(9));
    b.put(Buffer.alloc(71, 0));
    b.turn();
    assert.deepEqual(b.results, [[1, DropReason.VnetMalformed, DropReason.VnetMalformed, 1, 0]]);
    assert.deepEqual(
      b.frames.map(({ length }) => length),
      [60, 61],
    );
    b.end();
  });

  test('without one a frame is what was read, whatever was said of the one before', () => {
    const b = new Bench(SOCK_DGRAM);
    const link = b.tap(false);
    assert.equal(link.tso || link.uso || link.checksumOffload, false);
    b.received.offload.flags = 1;
    b.received.offload.gsoType = 1;
    b.put(Buffer.from('frame'));
    b.turn();
    assert.deepEqual(b.frames.map(String), ['frame']);
    assert.deepEqual([b.received.offload.flags, b.received.offload.gsoType], [0, 0]);
    assert.ok(b.transmit(7, 100) >= 0);
    assert.equal(b.get()?.length, 100);
    b.end();
  });
});
