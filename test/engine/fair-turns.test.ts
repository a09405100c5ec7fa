/** How guests of one loop take turns. The time is the test's: each handler says what it takes. */
import assert from 'node:assert/strict';
import { closeSync, writeSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { EventLoop } from '../../src/engine/event-loop.ts';
import type { GuestShare } from '../../src/engine/fair-turns.ts';
import type { IoHandler } from '../../src/loop.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { EPOLLIN } from '../../src/sys/epoll.ts';
import { eventfd } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';

const fds: number[] = [];
after(() => {
  for (const fd of fds) closeSync(fd);
});

class Bench {
  nowMs = 1000;
  readonly loop: EventLoop;
  /** Who ran, in order. */
  readonly ran: string[] = [];
  readonly spent = new Map<string, number>();

  constructor() {
    const slab = new Slab(1 << 20, 1);
    const fail = (error: unknown): never => {
      throw error;
    };
    this.loop = new EventLoop(new Memory(slab.buffer), slab, fail, () => this.nowMs);
  }

  share(weight = 100): GuestShare {
    return this.loop.share(() => weight);
  }

  /** Takes `costMs` whenever it is called. */
  handler(name: string, costMs: number, then: (events: number) => void = () => undefined): IoHandler {
    return {
      waiting: false,
      onIo: (events) => {
        this.ran.push(name);
        this.nowMs += costMs;
        this.spent.set(name, (this.spent.get(name) ?? 0) + costMs);
        then(events);
      },
    };
  }

  /** A guest with a descriptor that is always readable, or is once `wake` has been called. */
  busy(name: string, costMs: number, weight = 100, isReadable = true): { token: number; wake: () => void } {
    const fd = eventfd();
    fds.push(fd);
    const wake = (): void => {
      writeSync(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    };
    if (isReadable) wake();
    return { token: this.share(weight).add(fd, EPOLLIN, this.handler(name, costMs)), wake };
  }

  turns(count: number): void {
    for (let i = 0; i < count; i++) this.loop.turn();
  }

  spentBy(name: string): number {
    return this.spent.get(name) ?? 0;
  }
}

function near(actual: number, expected: number, part: number): void {
  assert.ok(Math.abs(actual - expected) <= expected * part, `${actual}, not ${expected}`);
}

describe('guests that compete', () => {
  test('serve S-13: each has as much time as the other, whatever its events cost', () => {
    const b = new Bench();
    b.busy('dear', 0.4);
    b.busy('cheap', 0.01);
    b.turns(4000);
    near(b.spentBy('dear') / b.spentBy('cheap'), 1, 0.1);
  });

  test('serve S-13: time goes by weight', () => {
    const b = new Bench();
    b.busy('one', 0.02, 100);
    b.busy('three', 0.02, 300);
    b.turns(4000);
    near(b.spentBy('three') / b.spentBy('one'), 3, 0.15);
  });

  test('serve S-13: many handlers of one guest have no more time than one of another', () => {
    const b = new Bench();
    const many = b.share();
    // Each asks for another turn at every turn.
    for (let i = 0; i < 20; i++) {
      const handler = b.handler('many', 0.01, () => many.ready(handler));
      many.ready(handler);
    }
    const seen = b.busy('seen', 0.001);
    b.busy('few', 0.01);
    b.turns(4000);
    b.loop.remove(seen.token);
    near(b.spentBy('many') / b.spentBy('few'), 1, 0.1);
  });

  test('serve S-13: one that has been idle goes first, in the next turn', () => {
    const b = new Bench();
    b.busy('a', 0.03);
    b.busy('b', 0.03);
    const idle = b.busy('idle', 0.001, 100, false);
    b.turns(100);
    assert.equal(b.ran.includes('idle'), false);
    idle.wake();
    b.ran.length = 0;
    b.turns(1);
    assert.equal(b.ran[0], 'idle');
  });

  test('serve S-13: a run ends when its bytes are moved, and they are a part of what one alone has', () => {
    const b = new Bench();
    const { clock } = b.loop;
    const left: number[] = [];
    const reader = b.share();
    const fd = eventfd();
    fds.push(fd);
    writeSync(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    const read = b.handler('reader', 0.001, () => {
      left.push(clock.bytesLeft, clock.batchFrames);
      clock.bytesLeft = 0;
    });
    reader.add(fd, EPOLLIN, read);
    b.turns(2);
    assert.deepEqual(left, [256 * 1024, 64, 256 * 1024, 64]);
    b.busy('other', 0.001);
    left.length = 0;
    b.turns(2);
    assert.deepEqual(left, [64 * 1024, 8, 64 * 1024, 8]);
  });

  test('serve S-13: alone again, what was left is done, and all is as before', () => {
    const b = new Bench();
    const heavy = b.share();
    const fd = eventfd();
    fds.push(fd);
    const more = b.handler('more', 0.06, () => heavy.ready(more));
    const late = b.handler('late', 0.06);
    const other = b.busy('other', 0.06);
    writeSync(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    const token = heavy.add(fd, EPOLLIN, b.handler('device', 0.06));
    b.turns(3);
    heavy.ready(more);
    heavy.ready(late);
    b.loop.remove(other.token);
    b.turns(300);
    assert.ok(b.ran.includes('late'));
    // Three handlers cost more than a turn of those that compete.
    b.ran.length = 0;
    b.turns(1);
    assert.deepEqual(b.ran, ['more', 'device']);
    b.loop.remove(token);
  });

  test('an event of a descriptor that is closed meanwhile goes nowhere', () => {
    const b = new Bench();
    const [dear, gone] = [b.busy('dear', 5), b.busy('gone', 1)];
    b.turns(1);
    const before = b.ran.filter((name) => name === 'gone').length;
    b.loop.remove(gone.token);
    b.turns(50);
    assert.equal(b.ran.filter((name) => name === 'gone').length, before);
    b.loop.remove(dear.token);
  });
});
