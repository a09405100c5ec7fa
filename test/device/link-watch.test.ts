import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { LinkWatch } from '../../src/device/link-watch.ts';
import type { IoHandler, Poller } from '../../src/loop.ts';
import { EAGAIN, ENOBUFS } from '../../src/sys/errno.ts';
import type { LinkNews } from '../../src/sys/netns/link-news.ts';

/** What the next receives give; then there is nothing. */
let queue: number[] = [];
let asked = 0;
let again = 0;
let told: number[] = [];

const news = {
  fd: -1,
  join: () => 0,
  ask: () => {
    asked++;
    return 0;
  },
  receive: () => queue.shift() ?? -EAGAIN,
} as unknown as LinkNews;
const poller: Poller = {
  add: () => 0,
  modify: () => 0,
  remove: () => undefined,
  forget: () => undefined,
  readClock: () => undefined,
  ready: (_: IoHandler) => {
    again++;
  },
};

function started(): LinkWatch {
  const watch = new LinkWatch(news, poller, (mtu) => told.push(mtu));
  assert.equal(watch.start(), 0);
  return watch;
}

describe('LinkWatch', () => {
  beforeEach(() => {
    queue = [];
    asked = 0;
    again = 0;
    told = [];
  });

  test('asks at the start: a change before the first news is not missed', () => {
    started();
    assert.equal(asked, 1);
  });

  test('takes the last of several MTUs', () => {
    const watch = started();
    queue = [9000, 0, 1280, 0];
    watch.onIo();
    assert.deepEqual(told, [1280]);
    assert.equal(asked, 1);
  });

  test('a flood takes a bounded part of each turn, and is read to its end', () => {
    const watch = started();
    queue = Array.from({ length: 1000 }, (_, i) => 1000 + i);
    watch.onIo();
    assert.ok(queue.length >= 900, `${1000 - queue.length} messages in one turn`);
    assert.equal(told.length, 1);
    for (let turn = 0; turn < 1000 && again > 0; turn++) {
      again = 0;
      watch.onIo();
    }
    assert.equal(told.at(-1), 1999);
  });

  test('news that were lost are asked for, when there is room for the answer', () => {
    const watch = started();
    queue = [1280, -ENOBUFS, ...Array.from({ length: 20 }, () => 0)];
    watch.onIo();
    assert.equal(asked, 1);
    watch.onIo();
    assert.equal(asked, 2);
    queue = [1500];
    watch.onIo();
    assert.deepEqual(told, [1280, 1500]);
    assert.equal(asked, 2);
  });
});
