/**
 * The bad link itself, a process of its own: carries frames between descriptors 3 and 4, each a TAP or a unix packet
 * socket, as its one argument (BadLinkOptions as JSON) says. It blocks in ppoll(2), which keeps time to some 50 µs where
 * Node's timers have a millisecond; so it is ended by a signal, and ends by itself when a device is gone.
 */
import { EAGAIN, EINTR, EIO, ENOBUFS } from '../../../src/sys/errno.ts';
import { read, setNonBlocking, write } from '../../../src/sys/io.ts';
import { errno, libcFunction } from '../../../src/sys/libc.ts';
import { Memory } from '../../../src/sys/memory.ts';
import { type BadLinkOptions, Direction, MAX_FRAMES } from './direction.ts';

const FDS = [3, 4] as const;
const SLOT_SIZE = 2048;
const POLLIN = 1;
const POLLOUT = 4;
/** Frames taken from one side before the other is looked at. */
const BATCH = 64;

const options = JSON.parse(process.argv[2] ?? '{}') as BadLinkOptions;
const slots = 2 * MAX_FRAMES;
const scratch = slots * SLOT_SIZE;
const memory = new Memory(new ArrayBuffer(scratch + 4096));
const bytes = new Uint8Array(memory.view.buffer);
const cPoll = libcFunction('ppoll', 'int', ['uintptr_t', 'ulong', 'uintptr_t', 'uintptr_t']);

/** By the side that sends. */
const directions = [new Direction(options, 0), new Direction(options, 1)] as const;
const blocked = [false, false];
const free = Array.from({ length: slots }, (_, i) => i);

function end(): never {
  process.exit(0);
}

/** Take what one side has sent. */
function take(from: 0 | 1): void {
  const direction = directions[from];
  for (let i = 0; i < BATCH; i++) {
    const slot = free[free.length - 1];
    if (slot === undefined || direction.count > MAX_FRAMES - 2) return;
    const n = read(memory, FDS[from], slot * SLOT_SIZE, SLOT_SIZE);
    if (n === -EAGAIN || n === -EINTR) return;
    if (n <= 0) end();
    const copies = direction.copies(n, performance.now());
    for (let copy = 0; copy < copies; copy++) {
      const at = free.pop();
      if (at === undefined) return;
      if (at !== slot) bytes.copyWithin(at * SLOT_SIZE, slot * SLOT_SIZE, slot * SLOT_SIZE + n);
      direction.push(at, n);
    }
  }
}

/** Hand over what has arrived by now. */
function give(from: 0 | 1, now: number): void {
  const direction = directions[from];
  blocked[from] = false;
  while (direction.nextAt <= now) {
    const slot = direction.nextSlot;
    const n = write(memory, FDS[1 - from] as number, slot * SLOT_SIZE, direction.nextLength);
    if (n === -EAGAIN || n === -ENOBUFS) {
      blocked[from] = true;
      return;
    }
    // A TAP that is down takes nothing: lost like anything else.
    if (n < 0 && n !== -EINTR && n !== -EIO) end();
    direction.pop();
    free.push(slot);
  }
}

function wait(now: number): void {
  const { view } = memory;
  for (const side of [0, 1] as const) {
    view.setInt32(scratch + side * 8, FDS[side], true);
    const events = POLLIN | (blocked[1 - side] === true ? POLLOUT : 0);
    view.setInt32(scratch + side * 8 + 4, events, true);
  }
  let next = Number.POSITIVE_INFINITY;
  for (const side of [0, 1] as const) {
    if (blocked[side] !== true) next = Math.min(next, directions[side].nextAt);
  }
  const waitMs = Math.max(0, Math.min(1000, next - now));
  const seconds = Math.floor(waitMs / 1000);
  view.setBigInt64(scratch + 16, BigInt(seconds), true);
  view.setBigInt64(scratch + 24, BigInt(Math.floor((waitMs - seconds * 1000) * 1e6)), true);
  if (cPoll(memory.address(scratch, 16), 2, memory.address(scratch + 16, 16), 0) < 0 && errno() !== EINTR) {
    end();
  }
}

for (const fd of FDS) setNonBlocking(fd);
process.stdout.write('ready\n', () => {
  for (;;) {
    take(0);
    take(1);
    const now = performance.now();
    give(0, now);
    give(1, now);
    wait(performance.now());
  }
});
