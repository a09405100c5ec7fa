import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Cubic } from '../../../src/stack/tcp/congestion/cubic.ts';
import { NewReno } from '../../../src/stack/tcp/congestion/new-reno.ts';

const MSS = 1000;
const RTT = 100;

/** A round trip: every byte of the window is acknowledged, two segments at a time, spread over `spreadMs`. */
function round(
  c: Cubic | NewReno,
  startMs: number,
  {
    rttMs = RTT,
    limited = true,
    spreadMs = 20,
  }: { rttMs?: number; limited?: boolean; spreadMs?: number } = {},
): void {
  const acks = Math.max(1, Math.floor(c.cwnd / (2 * MSS)));
  for (let i = 0; i < acks; i++) c.onAck(2 * MSS, limited, startMs + (i * spreadMs) / acks, rttMs);
}

/** After a loss at a window of `segments`. */
function afterLoss(segments: number): Cubic {
  const c = new Cubic(MSS);
  c.cwnd = segments * MSS;
  c.ssthresh = c.cwnd;
  c.onLoss();
  c.onRecovered();
  return c;
}

describe('CUBIC (RFC 9438)', () => {
  test('a loss takes the window to 0.7 of it (§4.6), never below two segments', () => {
    assert.equal(afterLoss(100).cwnd, 70 * MSS);
    assert.equal(afterLoss(2).cwnd, 2 * MSS);
  });

  test('the plateau is reached after K, and the window goes on beyond it (§4.2)', () => {
    const c = afterLoss(1000);
    // K = cbrt(Wmax (1 − β) / C) seconds.
    const kMs = 1000 * Math.cbrt((1000 * 0.3) / 0.4);
    let now = 0;
    for (; now < 0.5 * kMs; now += RTT) round(c, now);
    assert.ok(c.cwnd > 930 * MSS && c.cwnd < 980 * MSS, `${c.cwnd} at K/2`);
    for (; now < kMs; now += RTT) round(c, now);
    assert.ok(Math.abs(c.cwnd - 1000 * MSS) < 15 * MSS, `${c.cwnd} at K`);
    for (; now < 2 * kMs; now += RTT) round(c, now);
    assert.ok(c.cwnd > 1250 * MSS, `${c.cwnd} at 2 K`);
  });

  test('a small window grows at least as Reno would with this decrease (§4.3)', () => {
    const c = afterLoss(10);
    for (let i = 0; i < 10; i++) round(c, i * RTT);
    // 7 + 10 · 0.53 segments, with what the larger steps behind the plateau add.
    assert.ok(c.cwnd >= 11 * MSS && c.cwnd < 16 * MSS, `${c.cwnd}`);
  });

  test('a second loss below the plateau makes room for others (§4.7)', () => {
    const c = afterLoss(1000);
    c.onLoss();
    c.onRecovered();
    // The plateau is at 700 · 0.85 segments instead of 700.
    const kMs = 1000 * Math.cbrt((595 - 490) / 0.4);
    for (let now = 0; now < kMs; now += RTT) round(c, now);
    assert.ok(Math.abs(c.cwnd - 595 * MSS) < 10 * MSS, `${c.cwnd}`);
  });

  test('time in which the window was not filled does not count (§5.8)', () => {
    const idle = afterLoss(1000);
    const busy = afterLoss(1000);
    for (let now = 0; now < 1000; now += RTT) {
      round(idle, now);
      round(busy, now);
    }
    for (let now = 1000; now < 21_000; now += RTT) round(idle, now, { limited: false });
    round(idle, 21_000);
    round(busy, 1000);
    assert.ok(Math.abs(idle.cwnd - busy.cwnd) < 10 * MSS, `${idle.cwnd} and ${busy.cwnd}`);
  });

  test('the timer: one segment, and slow start to 0.7 of the window', () => {
    const c = new Cubic(MSS);
    c.cwnd = 100 * MSS;
    c.ssthresh = 50 * MSS;
    c.onTimeout(0, 0, false);
    assert.equal(c.cwnd, MSS);
    assert.equal(c.ssthresh, 70 * MSS);
    c.onTimeout(0, 1000, true);
    assert.equal(c.ssthresh, 70 * MSS);
  });

  test('undo brings back what a mistake took away (RFC 4015)', () => {
    const c = afterLoss(100);
    c.undo();
    assert.equal(c.cwnd, 100 * MSS);
  });

  test('after an idle time the window is the initial one at most (RFC 5681 §4.1, RQ-32)', () => {
    for (const c of [new Cubic(MSS), new NewReno(MSS)]) {
      c.cwnd = 100 * MSS;
      c.onIdle();
      assert.equal(c.cwnd, 10 * MSS);
      c.cwnd = 3 * MSS;
      c.onIdle();
      assert.equal(c.cwnd, 3 * MSS);
    }
  });
});

describe('slow start (RQ-30, RFC 9406)', () => {
  test('doubles while the round trip stays, in however few acknowledgments (RFC 9406 §4.2: L is infinite)', () => {
    const c = new Cubic(MSS);
    for (let i = 0; i < 4; i++) round(c, i * RTT);
    assert.equal(c.cwnd, 160 * MSS);
    c.onAck(50 * MSS, true, 500, RTT);
    assert.equal(c.cwnd, 210 * MSS);
  });

  test('after a timeout ends exactly at ssthresh', () => {
    const c = new Cubic(MSS);
    c.cwnd = 100 * MSS;
    c.onTimeout(0, 0, false);
    c.onAck(500 * MSS, true, 100, RTT);
    assert.equal(c.cwnd, 70 * MSS);
  });

  test('a round trip that grows ends it before there is a loss', () => {
    const c = new Cubic(MSS);
    for (let i = 0; i < 4; i++) round(c, i * RTT);
    for (let i = 4; i < 12; i++) round(c, i * RTT, { rttMs: RTT + 20 });
    assert.ok(c.ssthresh < 1000 * MSS, `${c.ssthresh}`);
    assert.equal(c.cwnd >= c.ssthresh, true);
  });

  test('acknowledgments spread by our own pace, over two thirds of a round trip, do not slow it down', () => {
    const c = new Cubic(MSS);
    for (let i = 0; i < 6; i++) round(c, i * RTT, { spreadMs: 70 });
    assert.equal(c.cwnd, 640 * MSS);
  });

  test('acknowledgments without a pause for a round trip slow it down, a queue that stays ends it', () => {
    const c = new Cubic(MSS);
    for (let i = 0; i < 4; i++) round(c, i * RTT);
    round(c, 4 * RTT, { spreadMs: 110 });
    const slow = c.cwnd;
    assert.ok(slow > 280 * MSS && slow < 320 * MSS, `${slow}`);
    round(c, 5 * RTT, { spreadMs: 110 });
    assert.ok(c.cwnd < 1.3 * slow, `${slow} to ${c.cwnd}`);
    assert.equal(c.ssthresh, Number.POSITIVE_INFINITY);
    round(c, 6 * RTT, { spreadMs: 110, rttMs: RTT + 20 });
    assert.ok(c.ssthresh < 1.4 * slow, `${slow} to ${c.ssthresh}`);
  });

  test('that ended without a loss goes on by a twentieth per round trip until there is one', () => {
    const c = new Cubic(MSS);
    c.cwnd = 100 * MSS;
    c.ssthresh = c.cwnd;
    for (let i = 0; i < 20; i++) round(c, i * RTT);
    assert.ok(c.cwnd > 250 * MSS && c.cwnd < 280 * MSS, `${c.cwnd}`);
    c.onLoss();
    c.onRecovered();
    const reduced = c.cwnd;
    for (let i = 20; i < 22; i++) round(c, i * RTT);
    assert.ok(c.cwnd < 1.05 * reduced, `${reduced} to ${c.cwnd}`);
  });

  test('one that shrinks again was a burst: on with it', () => {
    const c = new Cubic(MSS);
    for (let i = 0; i < 4; i++) round(c, i * RTT);
    round(c, 4 * RTT, { rttMs: RTT + 20 });
    const before = c.cwnd;
    for (let i = 5; i < 8; i++) round(c, i * RTT);
    assert.ok(c.cwnd > 4 * before, `${before} to ${c.cwnd}`);
    assert.equal(c.ssthresh, Number.POSITIVE_INFINITY);
  });
});
