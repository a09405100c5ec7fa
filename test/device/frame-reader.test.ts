import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LinkOwner, LinkServices } from '../../src/device/device-link.ts';
import { FrameReader } from '../../src/device/frame-reader.ts';
import { Descriptor } from '../../src/sys/descriptor.ts';
import { EAGAIN } from '../../src/sys/errno.ts';

/** A device that holds `frames` frames; what was read, and how often in vain. */
class Device {
  frames = 0;
  reads = 0;
  vain = 0;
  readonly clock = { turn: 10, batchFrames: 64 };
  readonly #reader: FrameReader;
  readonly #owner = { onFrames: () => this.#take() } as unknown as LinkOwner;

  constructor() {
    const services = { clock: this.clock, frames: { read: () => this.#read() } };
    this.#reader = new FrameReader(services as unknown as LinkServices, new Descriptor(-1));
  }

  /** A turn `later` than the last one, in which there are `frames` more frames. */
  turn(frames: number, later = 1): void {
    this.clock.turn += later;
    this.frames += frames;
    this.#reader.run(this.#owner);
  }

  #take(): void {
    for (let index = 0; this.#reader.read(index) > 0; index++);
  }

  #read(): number {
    this.reads++;
    if (this.frames === 0) {
      this.vain++;
      return -EAGAIN;
    }
    this.frames--;
    return 60;
  }
}

test('review §5: frames that come one at a time, some turns in a row, cost no read in vain', () => {
  const device = new Device();
  device.turn(1, 5);
  assert.equal(device.vain, 1, 'nothing is known yet');
  for (let i = 0; i < 4; i++) {
    device.turn(1, 5);
    device.turn(1);
    device.turn(1);
  }
  assert.equal(device.vain, 1);
  assert.equal(device.frames, 0);
});

test('a train is read to its end as soon as it is known for one', () => {
  const device = new Device();
  device.turn(1, 5);
  device.turn(40, 5);
  device.turn(0);
  device.turn(0);
  assert.equal(device.frames, 37, 'one a turn at first');
  device.turn(0);
  assert.equal(device.frames, 0);
  device.turn(40);
  assert.equal(device.frames, 0, 'and from then on');
});

test('serve S-13: while guests take turns, there may have been many of others between two of its own', () => {
  const device = new Device();
  device.turn(1, 5);
  device.clock.batchFrames = 8;
  for (let i = 0; i < 5; i++) {
    device.turn(40, 5);
    assert.equal(device.frames, 0);
  }
});
