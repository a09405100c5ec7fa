import assert from 'node:assert/strict';
import { closeSync, writeSync } from 'node:fs';
import { after, test } from 'node:test';
import { EventLoop } from '../../src/engine/event-loop.ts';
import { type IoHandler, TimerNode } from '../../src/loop.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { EPOLLIN } from '../../src/sys/epoll.ts';
import { eventfd } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';

const fds: number[] = [];
after(() => {
  for (const fd of fds) closeSync(fd);
});

function newLoop(): EventLoop {
  const slab = new Slab(1 << 20, 1);
  return new EventLoop(new Memory(slab.buffer), slab, (error) => {
    throw error;
  });
}

/** A descriptor that is readable from the start. */
function readable(): number {
  const fd = eventfd();
  assert.ok(fd >= 0);
  writeSync(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
  fds.push(fd);
  return fd;
}

test('a turn serves the device, then what is left over, then the others', () => {
  const loop = newLoop();
  const order: string[] = [];
  const handler = (name: string): IoHandler => ({ waiting: false, onIo: () => order.push(name) });
  const left = handler('left over');
  loop.ready(left);
  loop.add(readable(), EPOLLIN, handler('socket'));
  loop.add(readable(), EPOLLIN, handler('device'), true);
  loop.add(readable(), EPOLLIN, handler('socket'));
  loop.turn();
  assert.deepEqual(order, ['device', 'left over', 'socket', 'socket']);
});

test('review O-11: a device learns what other events its turn has before they are handled', () => {
  const loop = newLoop();
  const seen: boolean[] = [];
  let tokens: number[] = [];
  const device: IoHandler = {
    waiting: false,
    onIo: () => seen.push(...tokens.map((token) => loop.mayConcern(token))),
  };
  const ignore: IoHandler = { waiting: false, onIo: () => undefined };
  loop.add(readable(), EPOLLIN, device, true);
  const silent = eventfd();
  fds.push(silent);
  tokens = [loop.add(readable(), EPOLLIN, ignore), loop.add(silent, EPOLLIN, ignore), -1];
  loop.turn();
  assert.deepEqual(seen, [true, false, true], 'in doubt there is one');
  // Too many to be looked through.
  for (let i = 0; i < 40; i++) loop.add(readable(), EPOLLIN, ignore);
  seen.length = 0;
  loop.turn();
  assert.deepEqual(seen, [true, true, true]);
});

test('every turn has its bytes anew', () => {
  const loop = newLoop();
  const whole = loop.clock.bytesLeft;
  assert.ok(whole > 0);
  const greedy: IoHandler = {
    waiting: false,
    onIo: () => {
      loop.clock.bytesLeft = -1;
      loop.ready(greedy);
    },
  };
  loop.ready(greedy);
  loop.turn();
  assert.equal(loop.clock.bytesLeft, -1);
  greedy.onIo = () => assert.equal(loop.clock.bytesLeft, whole);
  loop.turn();
});

for (const share of ['bytesLeft', 'sendLeft'] as const) {
  test(`flows that were cut short come before those that had their share (${share})`, () => {
    const loop = newLoop();
    const whole = loop.clock[share];
    const shares: string[] = [];
    const greedy = (name: string): IoHandler => {
      const flow: IoHandler = {
        waiting: false,
        onIo: () => {
          if (loop.clock[share] > 0) {
            shares.push(name);
            loop.clock[share] -= whole;
          }
          loop.ready(flow);
        },
      };
      return flow;
    };
    const flows = ['a', 'b', 'c'].map(greedy);
    // The guest acknowledges what the first was given, in every turn: it could read more of the host's bytes at once.
    if (share === 'bytesLeft')
      loop.add(readable(), EPOLLIN, { waiting: false, onIo: () => flows[0]?.onIo(0) }, true);
    for (const flow of flows) loop.ready(flow);
    for (let turn = 0; turn < 36; turn++) loop.turn();
    for (const name of ['a', 'b', 'c']) {
      assert.ok(shares.filter((had) => had === name).length >= 8, shares.join());
    }
  });
}

test('a deadline within the millisecond that has begun is waited for, not polled for', () => {
  class Deadline extends TimerNode {
    fired = false;
    onTimer(): void {
      this.fired = true;
    }
  }
  const loop = newLoop();
  for (let i = 0; i < 20; i++) {
    const node = new Deadline();
    node.deadline = Math.floor(performance.now()) + 0.01;
    loop.timers.update(node);
    let turns = 0;
    for (; !node.fired; turns++) loop.turn();
    assert.ok(turns <= 3, `${turns} turns`);
  }
});
