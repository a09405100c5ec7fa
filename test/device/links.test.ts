/** Links on real descriptors, in a real loop: what a guest, or the peer at the other end, would notice. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { SocketLink } from '../../src/device/socket-link.ts';
import { DropReason } from '../../src/stack/wire/drop-reason.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../src/stack/wire/vnet-header.ts';
import { EBADF, ENOBUFS } from '../../src/sys/errno.ts';
import { close, read } from '../../src/sys/io.ts';
import { AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, socketpair } from '../../src/sys/socket.ts';
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
    b.transmit(1);
    b.turn();
    assert.deepEqual([b.unsent, b.gone], [1, '']);
    b.link?.close();
  });

  test('links §2: frames of a turn leave together at its end, long ones in their place among them', () => {
    const b = new Bench(SOCK_SEQPACKET);
    const link = b.socket(true);
    const lengths = Array.from({ length: 150 }, (_, i) => (i % 40 === 39 ? 60_000 : 60 + i));
    const got: [number, number][] = [];
    const take = (): void => {
      for (let frame = b.get(); frame !== null; frame = b.get())
        got.push([frame.readUInt32BE(0), frame.length]);
    };
    b.transmit(0, lengths[0]);
    take();
    assert.deepEqual(got, [], 'not before the end of the turn');
    for (let i = 1; i < lengths.length; i++) {
      assert.ok(b.transmit(i, lengths[i]) > 0);
      if (i % 40 === 0) take();
    }
    link.flush();
    take();
    b.until(() => {
      take();
      return got.length === lengths.length;
    }, 'all frames');
    assert.deepEqual(
      got,
      lengths.map((length, i) => [i, length]),
    );
    assert.equal(b.unsent, 0);
    b.end();
  });

  test('links §2: what waits for the end of the turn is whose link it is, and goes before what comes later', () => {
    const b = new Bench(SOCK_DGRAM);
    const one = b.socket(false);
    assert.equal(socketpair(b.memory, AF_UNIX, SOCK_DGRAM, b.at), 0);
    const [fd, peer] = [b.memory.view.getInt32(b.at, true), b.memory.view.getInt32(b.at + 4, true)];
    const shape = { medium: 'ethernet', mtu: 1500, endsWithPeer: false, probe: false } as const;
    const two = new SocketLink(fd, shape, b.services);
    assert.equal(two.open(b), 0);
    const numbers: number[] = [];
    const at = (of: number): number[] => {
      const length = read(b.memory, of, b.at, 2000);
      if (length < 0) return numbers.splice(0);
      numbers.push(b.slab.view.getUint32(b.at));
      return at(of);
    };
    for (const [link, number] of [
      [one, 1],
      [two, 2],
      [two, 3],
      [one, 4],
    ] as const) {
      b.link = link;
      assert.ok(b.transmit(number) > 0);
    }
    two.flush();
    assert.deepEqual([at(peer), at(b.peer)], [[2, 3], [1]]);
    b.link = two;
    b.transmit(5);
    two.close();
    one.flush();
    assert.deepEqual([at(peer), at(b.peer)], [[], [4]]);
    b.link = one;
    b.end();
    close(peer);
  });

  test('links §2: a guest that takes few frames at a time gets all of a batch, empty packets apart', () => {
    const b = new Bench(SOCK_DGRAM);
    b.socket(false);
    b.mostTaken = 3;
    const sent = Array.from({ length: 64 }, (_, i) => (i % 9 === 4 ? '' : `frame ${i}`));
    for (const text of sent) b.put(Buffer.from(text));
    b.turn();
    assert.deepEqual(
      b.frames.map(String),
      sent.filter((text) => text !== ''),
    );
    assert.equal(b.turn(), 0);
    b.end();
  });

  test('links L-10: many empty packets are not the end either', () => {
    const b = new Bench(SOCK_SEQPACKET);
    b.socket(true);
    for (let i = 0; i < 80; i++) b.put(Buffer.alloc(0));
    b.put(Buffer.from('last'));
    b.until(() => b.frames.length === 1, 'the frame behind them');
    assert.equal(b.gone, '');
    b.end();
  });

  test('links L-5: while the peer does not read, nothing is tried', () => {
    const b = new Bench(SOCK_DGRAM);
    const link = b.socket(false);
    for (let i = 0; !link.full; i++) assert.ok(b.transmit(i) > 0);
    assert.equal(b.turn(), 0, 'an event, and there is no room');
    while (b.get() !== null);
    assert.ok(b.turn() > 0, 'told that there is room');
    b.end();
  });

  test('links L-5: where there is no room and nobody tells of it, frames wait a little, and go out in order', () => {
    const b = new Bench(SOCK_SEQPACKET);
    const link = b.socket(true);
    const { packets } = b.services.frames;
    const send = packets.send.bind(packets);
    const writeParts = b.services.frames.writeParts.bind(b.services.frames);
    let tries = 0;
    const full = (): number => {
      tries++;
      return -ENOBUFS;
    };
    Object.assign(packets, { send: full });
    Object.assign(b.services.frames, { writeParts: full });
    for (let i = 0; i < 5; i++) assert.ok(b.transmit(i) > 0);
    link.flush();
    for (let i = 0; i < 5; i++) assert.equal(b.turn(), 0, 'an event, and there is no room');
    assert.equal(tries, 1);
    assert.ok(b.transmit(5) > 0);
    b.now += 1;
    b.turn();
    assert.equal(tries, 2);
    Object.assign(packets, { send });
    Object.assign(b.services.frames, { writeParts });
    b.now += 1;
    b.turn();
    const got: number[] = [];
    for (let frame = b.get(); frame !== null; frame = b.get()) got.push(frame.readUInt32BE(0));
    assert.deepEqual(got, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual([b.unsent, b.slab.pagesUsed], [0, 0]);
    b.end();
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
    b.tap(false);
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
