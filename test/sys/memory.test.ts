import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventLoop } from '../../src/engine/event-loop.ts';
import { HostScratch } from '../../src/forward/host/scratch.ts';
import { payloadRegion, ReceiveSlots } from '../../src/forward/udp/batch.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { Memory } from '../../src/sys/memory.ts';
import { putMsghdr, SOCKADDR_SIZE } from '../../src/sys/socket.ts';

/** Every 64-bit word of `view` that could be an address within `size` bytes from `base`. */
function pointersInto(view: DataView, base: number, size: number): number {
  let count = 0;
  for (let at = 0; at + 8 <= view.byteLength; at += 4) {
    const word = Number(view.getBigUint64(at, true));
    if (word >= base && word < base + size) count++;
  }
  return count;
}

describe('memory', () => {
  test('review OR-9: no address that the kernel is given lies where packets do', () => {
    const slab = new Slab(4 * 1024 * 1024, 4);
    const memory = new Memory(slab.buffer as ArrayBuffer);
    new EventLoop(memory, slab, assert.ifError);
    const scratch = new HostScratch(slab, memory);
    scratch.putReceive(scratch.message, scratch.messageSize);
    new ReceiveSlots(slab, memory, payloadRegion(slab), SOCKADDR_SIZE, 0);
    const { structures } = memory;
    const base = memory.address(0, 0);
    assert.equal(pointersInto(memory.view, base, memory.size), 0);
    const structureBytes = structures.view.byteLength;
    assert.equal(pointersInto(memory.view, structures.address(0, 0), structureBytes), 0);
    assert.ok(pointersInto(structures.view, base, memory.size) >= 32, 'they are among the structures');
  });

  test('review OR-9: offsets outside are errors of ours, in the arena and in the structures', () => {
    const memory = new Memory(new ArrayBuffer(64), 128);
    const { structures } = memory;
    const at = structures.region(56);
    const iov = structures.region(16);
    assert.equal(iov % 16, 0);
    assert.throws(() => structures.region(64), /no room/);
    memory.putIovec(iov, 0, 60, 4);
    assert.throws(() => memory.putIovec(iov, 0, 60, 5), /outside the arena/);
    assert.throws(() => memory.putIovec(iov, 0, Number.NaN, 1), /outside the arena/);
    putMsghdr(memory, at, 0, 16, iov, 1, 16, 48);
    assert.throws(() => putMsghdr(memory, at, 0, 65, iov, 1, 0, 0), /outside the arena/);
    assert.throws(() => putMsghdr(memory, at, 0, 0, iov, 5, 0, 0), /structures: 80 bytes/);
    assert.throws(() => structures.address(-1, 1), /structures/);
    assert.throws(() => structures.address(Number.NaN, 1), /structures/);
  });
});
