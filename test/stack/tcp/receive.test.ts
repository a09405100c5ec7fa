import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EV_FIN } from '../../../src/stack/tcp/owner.ts';
import { TcpState } from '../../../src/stack/tcp/tcb.ts';
import { type HostOptions, hostIn, type TcpHost } from '../../support/tcp-host.ts';

const DAY_MS = 24 * 3600 * 1000;

function established(options: HostOptions = {}): TcpHost {
  return hostIn(TcpState.Established, options);
}

/** The window that the last segment offers, in bytes. */
function offered(host: TcpHost): number {
  return host.last.header.window * 2 ** host.tcb.rcv.windowShift;
}

/** SACK blocks of the last segment, relative. */
function blocks(host: TcpHost): [number, number][] {
  const h = host.last.header;
  return Array.from({ length: h.sackCount }, (_, i) => [
    (h.sackLeft[i] as number) - host.irs,
    (h.sackRight[i] as number) - host.irs,
  ]);
}

describe('text and the window (T-10)', () => {
  test('left of the window: acknowledged, not delivered again', () => {
    const host = established();
    host.segment({ flags: 'A', seq: 1, data: 'hello' });
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, data: 'WORLD' }), ['. 1:1 ack 6']);
    assert.equal(host.received, 'hello');
  });

  test('straddling RCV.NXT: only what is new', () => {
    const host = established();
    host.segment({ flags: 'A', seq: 1, data: 'hello' });
    assert.deepEqual(host.segment({ flags: 'A', seq: 3, data: 'XXX there' }), ['. 1:1 ack 12']);
    assert.equal(host.received, 'hello there');
  });

  test('from before the window to behind it: trimmed at both ends', () => {
    const host = established({ receiveLimit: 4096 });
    host.readerTakes = 0;
    host.segment({ flags: 'A', seq: 1, data: 3072 });
    host.segment({ flags: 'A', seq: 1, data: 9000 });
    assert.equal(host.last.line, '. 1:1 ack 4097');
    assert.equal(offered(host), 0);
  });

  test('review OR-3: the right edge of the window never moves left, however little may be received by now', () => {
    for (const sizes of [[1], [1448], [3072, 1, 7, 500]]) {
      const host = established({ receiveLimit: 256 * 1024 });
      host.readerTakes = 0;
      let seq = 1;
      let edge = 0;
      let i = 0;
      host.segment({ flags: 'A', seq, data: 1 });
      seq += 1;
      edge = seq + offered(host);
      host.tcb.rcv.limit = 64 * 1024;
      const first = edge;
      const scale = 2 ** host.tcb.rcv.windowShift;
      while (seq + 4096 < edge && i < 400) {
        const data = sizes[i++ % sizes.length] as number;
        host.segment({ flags: 'A', seq, data });
        host.advance(1000);
        seq += data;
        const now = Number(host.last.header.ack) - host.irs + offered(host);
        assert.ok(now > edge - scale, `${now} after ${edge}`);
        edge = Math.max(edge, now);
      }
      // Nor does rounding open it further.
      assert.ok(edge < first + scale, `${edge} after ${first}`);
    }
  });

  test('the first copy of a byte wins', () => {
    const host = established();
    host.segment({ flags: 'A', seq: 4, data: 'def' });
    host.segment({ flags: 'A', seq: 3, data: 'XXXXX' });
    host.segment({ flags: 'A', seq: 1, data: 'abYYYYYY' });
    host.read(100);
    assert.equal(host.received, 'abXdefXY');
  });

  test('one byte beyond, half a space away: acknowledged only', () => {
    const host = established({ receiveLimit: 4096 });
    assert.deepEqual(host.segment({ flags: 'A', seq: 4097, data: 'x' }), ['. 1:1 ack 1']);
    assert.deepEqual(blocks(host), [], 'what was not taken is not reported as taken');
    assert.deepEqual(host.segment({ flags: 'A', seq: 2 ** 31, data: 'x' }), ['. 1:1 ack 1']);
    assert.equal(host.tcb.rcv.queue.isEmpty, true);
  });

  test('an empty segment at the right edge is not answered, and its ACK counts (T-12)', () => {
    const host = established({ receiveLimit: 4096 });
    host.write('data');
    host.segment({ flags: 'A', seq: 2, ack: 1, data: 4095 });
    assert.deepEqual(host.segment({ flags: 'A', seq: 4097, ack: 5 }), []);
    assert.equal(host.tcb.snd.flight, 0);
  });

  test('empty segments outside the window are answered at a limited rate (two sides must not answer each other)', () => {
    const host = established();
    let answers = 0;
    for (let i = 0; i < 1000; i++) answers += host.segment({ flags: 'A', seq: 100_000 }).length;
    assert.equal(answers, 10);
  });

  test('sequence numbers wrap inside the text (T-16)', () => {
    const host = established({ irs: 0xfffffffa, iss: 0xfffffffa });
    for (let i = 0; i < 10; i++) host.segment({ flags: 'A', data: `${i}bc` });
    assert.equal(host.received, '0bc1bc2bc3bc4bc5bc6bc7bc8bc9bc');
    host.write('across the wrap');
    assert.deepEqual(host.segment({ flags: 'A', ack: 16 }), []);
    assert.equal(host.tcb.snd.flight, 0);
  });
});

describe('FIN (T-19)', () => {
  test('with data, and exactly at 2^32 (T-16)', () => {
    const host = established({ irs: 0xfffffffa });
    assert.deepEqual(host.segment({ flags: 'FA', seq: 1, data: 'abcde' }), ['. 1:1 ack 7']);
    assert.equal(host.received, 'abcde');
    assert.equal(host.state, TcpState.CloseWait);
  });

  test('before missing data: only when all of it has come', () => {
    const host = established();
    assert.deepEqual(host.segment({ flags: 'FA', seq: 4, data: 'def' }), ['. 1:1 ack 1']);
    assert.equal(host.state, TcpState.Established);
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, data: 'abc' }), ['. 1:1 ack 8']);
    assert.equal(host.events & EV_FIN, EV_FIN);
    assert.equal(host.state, TcpState.CloseWait);
    host.read(100);
    assert.equal(host.received, 'abcdef');
  });

  test('alone before missing data: acknowledged at once, and reported (RFC 5681 §4.2, RFC 2018)', () => {
    const host = established();
    assert.deepEqual(host.segment({ flags: 'FA', seq: 11 }), ['. 1:1 ack 1']);
    assert.deepEqual(blocks(host), [[11, 12]]);
    host.segment({ flags: 'A', seq: 5, data: 'ef' });
    assert.deepEqual(blocks(host), [
      [5, 7],
      [11, 12],
    ]);
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, data: 'abcdefghij' }), ['. 1:1 ack 12']);
    assert.deepEqual(blocks(host), []);
  });

  test('text behind FIN does not exist, and does not hide the FIN', () => {
    const host = established();
    host.segment({ flags: 'FA', seq: 4, data: 'def' });
    host.segment({ flags: 'A', seq: 6, data: 'fXXXX' });
    host.segment({ flags: 'A', seq: 1, data: 'abcdefYYYY' });
    host.read(100);
    assert.equal(host.received, 'abcdef');
    assert.equal(host.state, TcpState.CloseWait);
  });

  test('beyond a full window it does not count; its copy does later', () => {
    const host = established({ receiveLimit: 4096 });
    host.readerTakes = 0;
    host.segment({ flags: 'FA', seq: 1, data: 5000 });
    assert.equal(host.last.line, '. 1:1 ack 4097');
    host.read(4096);
    host.segment({ flags: 'FA', seq: 4097, data: 904 });
    assert.equal(host.last.line, '. 1:1 ack 5002');
    assert.equal(host.state, TcpState.CloseWait);
  });

  test('FIN and RST in one burst: reset', () => {
    const host = established();
    host.segment({ flags: 'FA', seq: 1 });
    host.segment({ flags: 'R', seq: 2 });
    assert.equal(host.state, TcpState.Closed);
  });
});

describe('gaps (RQ-18, RQ-39, RFC 2018)', () => {
  test('the first block holds the segment that caused the ACK', () => {
    const host = established();
    host.segment({ flags: 'A', seq: 11, data: 10 });
    assert.deepEqual(blocks(host), [[11, 21]]);
    host.segment({ flags: 'A', seq: 31, data: 10 });
    assert.deepEqual(blocks(host), [
      [31, 41],
      [11, 21],
    ]);
    host.segment({ flags: 'A', seq: 21, data: 5 });
    assert.deepEqual(blocks(host), [
      [11, 26],
      [31, 41],
    ]);
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, data: 10 }), ['. 1:1 ack 26']);
    assert.deepEqual(blocks(host), [[31, 41]]);
  });

  for (const timestamps of [false, true]) {
    test(`at most ${timestamps ? 3 : 4} blocks ${timestamps ? 'with' : 'without'} timestamps`, () => {
      const host = established({ timestamps });
      for (let i = 1; i <= 6; i++) host.segment({ flags: 'A', seq: 1 + 20 * i, data: 10 });
      assert.equal(blocks(host).length, timestamps ? 3 : 4);
      assert.deepEqual(blocks(host)[0], [121, 131]);
    });
  }

  test('a duplicate is reported once, before all other blocks, and only as far as it is one (RQ-41)', () => {
    const host = established();
    host.segment({ flags: 'A', seq: 1, data: 20 });
    host.segment({ flags: 'A', seq: 31, data: 10 });
    host.segment({ flags: 'A', seq: 11, data: 10 });
    assert.deepEqual(blocks(host), [
      [11, 21],
      [31, 41],
    ]);
    host.segment({ flags: 'A', seq: 51, data: 10 });
    assert.deepEqual(blocks(host)[0], [51, 61]);
    host.segment({ flags: 'A', seq: 16, data: 10 });
    assert.deepEqual(blocks(host)[0], [16, 21]);
  });

  test('a gap is told by a bare ACK even when there is data to send', () => {
    const host = established({ window: 65535 });
    host.write(1460);
    const c = host.tcb;
    const queued = c.snd.queue.length;
    host.segment({ flags: 'A', seq: 101, ack: 1, data: 100, window: 8 });
    assert.equal(queued, 1460);
    host.write('y');
    const out = host.segment({ flags: 'A', seq: 301, ack: 1461, data: 100 });
    assert.equal(out[0]?.startsWith('. '), true);
    assert.equal(blocks(host).length > 0 || host.sent.some((s) => s.header.sackCount === 2), true);
  });

  test('ranges and bytes are bounded; data is intact in the end (T-15)', () => {
    const host = established({ outOfOrderRanges: 16, receiveLimit: 8192 });
    for (let i = 3; i < 6000; i += 2) host.segment({ flags: 'A', seq: i, data: 'x' });
    assert.equal(host.tcb.rcv.queue.rangeCount, 16);
    assert.ok(host.slab.pagesUsed <= 1);
    host.segment({ flags: 'A', seq: 1, data: 'a'.repeat(6000) });
    host.read(8192);
    assert.equal(host.received.length, 6000);
    assert.match(host.received, /^aa(xa){16}a+$/);
  });

  test('out of memory: what waits behind a gap gives way to what fills it', () => {
    const host = established({ pages: 1, receiveLimit: 65536 });
    host.segment({ flags: 'A', seq: 30_001, data: 100 });
    host.segment({ flags: 'A', seq: 1, data: 'first' });
    assert.equal(host.last.line, '. 1:1 ack 6');
    assert.equal(host.received, 'first');
  });

  test('out of memory: bytes that the reader did not take are given back and come again', () => {
    const host = established({ pages: 0 });
    host.readerTakes = 2;
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, data: 'abcd' }), ['. 1:1 ack 3']);
    host.readerTakes = 100;
    host.segment({ flags: 'A', seq: 3, data: 'cd' });
    assert.equal(host.received, 'abcd');
  });
});

describe('the window we offer (RQ-14, RQ-16, T-12, T-13)', () => {
  test('the right edge never moves left while the reader sleeps', () => {
    const host = established({ receiveLimit: 65536 });
    host.readerTakes = 0;
    let edge = 0;
    for (let i = 0; i < 70; i++) {
      host.segment({ flags: 'A', data: 1000 });
      const right = host.last.header.ack + offered(host);
      // But for the rounding to the scale (RFC 7323 §2.4).
      assert.ok(right > edge - 128, `${right} < ${edge}`);
      edge = Math.max(edge, right);
    }
    assert.equal(offered(host), 0);
    assert.equal(host.tcb.rcv.queue.readable, edge - host.irs - 1);
  });

  test('byte by byte the guest gets no more into the buffer than it holds', () => {
    const host = established({ receiveLimit: 4096 });
    host.readerTakes = 0;
    for (let i = 0; i < 6000; i++) host.segment({ flags: 'A', data: 'x' });
    assert.ok(host.tcb.rcv.queue.readable < 4096 + 128, `${host.tcb.rcv.queue.readable}`);
  });

  test('a reader that takes one byte at a time opens it in large steps', () => {
    const host = established({ receiveLimit: 8192 });
    host.readerTakes = 0;
    for (let i = 0; i < 9; i++) host.segment({ flags: 'A', data: 1024 });
    assert.equal(offered(host), 0);
    const updates: number[] = [];
    for (let i = 1; i <= 8192; i++) if (host.read(1).length > 0) updates.push(offered(host));
    assert.ok(updates.length >= 3 && updates.length <= 8, `${updates}`);
    updates.reduce((last, now) => {
      assert.ok(now - last >= 1024 && now % 128 === 0, `${updates}`);
      return now;
    }, 0);
  });

  test('the closed window is opened at once when the reader takes everything', () => {
    const host = established({ receiveLimit: 4096 });
    host.readerTakes = 0;
    host.segment({ flags: 'A', data: 4096 });
    assert.deepEqual(host.read(4096), ['. 1:1 ack 4097']);
    assert.equal(offered(host), 4096);
  });

  test('half of it is told although it is rounded up: a sender that has less than half would wait', () => {
    const host = established({ receiveLimit: 1500, windowScale: 7 });
    host.readerTakes = 0;
    host.segment({ flags: 'A', data: 748 });
    assert.equal(offered(host), 768);
    assert.deepEqual(host.read(748), ['. 1:1 ack 749']);
    assert.equal(offered(host), 1536);
  });

  test('probes of our closed window are answered, not taken; one by one (T-12)', () => {
    const host = established({ receiveLimit: 4096 });
    host.readerTakes = 0;
    host.segment({ flags: 'A', data: 4096 });
    assert.deepEqual(host.segment({ flags: 'A', seq: 4097, data: 'x' }), ['. 1:1 ack 4097']);
    assert.deepEqual(blocks(host), []);
    assert.deepEqual(host.segment({ flags: 'A', seq: 4096 }), ['. 1:1 ack 4097']);
    assert.deepEqual(host.segment({ flags: 'FA', seq: 4097 }), ['. 1:1 ack 4097']);
    assert.deepEqual(host.segment({ flags: 'A', seq: 4097 }), [], 'an ACK in the window is never answered');
    assert.equal(host.state, TcpState.Established);
  });

  test('a probe of our closed window acknowledges our data; RST there still resets (T-08)', () => {
    const host = established({ receiveLimit: 4096 });
    host.readerTakes = 0;
    host.write('abc');
    host.segment({ flags: 'A', ack: 1, data: 4096 });
    host.segment({ flags: 'A', seq: 4097, ack: 4, data: 'x' });
    assert.equal(host.tcb.snd.flight, 0);
    host.segment({ flags: 'R', seq: 4097 });
    assert.equal(host.state, TcpState.Closed);
  });

  test('without window scaling a large buffer makes no needless updates (they would pass for duplicate ACKs)', () => {
    const host = established({ receiveLimit: 1 << 20, windowScale: -1 });
    host.readerTakes = 0;
    for (let i = 0; i < 30; i++) host.segment({ flags: 'A', data: 10_000 });
    assert.equal(offered(host), 65535);
    let updates = 0;
    for (let i = 0; i < 300; i++) updates += host.read(1000).length;
    assert.equal(updates, 0);
  });

  test('without window scaling the window opens again before it is too small for a sender of large segments', () => {
    const host = established({ receiveLimit: 1 << 20, windowScale: -1, mtu: 65520 });
    host.segment({ flags: 'A', data: 40_000 });
    assert.equal(offered(host), 65535);
  });
});

describe('when we acknowledge (RQ-17)', () => {
  test('once per batch; two full segments at the latest', () => {
    const host = established();
    assert.deepEqual(host.segment({ flags: 'A', data: 1460 }), ['. 1:1 ack 1461']);
    assert.deepEqual(host.segment({ flags: 'A', data: 2920 }), ['. 1:1 ack 4381']);
  });

  test('the reply carries it; if none comes, 2 ms later it goes alone', () => {
    const host = established();
    host.segment({ flags: 'A', data: 'request' });
    assert.deepEqual(host.write('reply'), ['PA 1:6 ack 8']);
    assert.deepEqual(host.segment({ flags: 'A', data: 'request' }), []);
    assert.deepEqual(host.write('reply'), ['PA 6:11 ack 15']);
    assert.deepEqual(host.segment({ flags: 'A', data: 'request' }), []);
    assert.deepEqual(host.advance(10), ['+2 . 11:11 ack 22']);
  });

  test('the first bytes may wait for an answer too, never longer than the delay', () => {
    const host = established({ interactive: true });
    assert.deepEqual(host.segment({ flags: 'A', data: 'request' }), []);
    assert.deepEqual(host.advance(10), ['+2 . 1:1 ack 8']);
    assert.deepEqual(
      host.segment({ flags: 'A', data: 'more' }),
      ['. 1:1 ack 12'],
      'it was in vain: not again',
    );
  });

  test('a segment that fills a gap is acknowledged at once (RFC 5681 §4.2)', () => {
    const host = established();
    host.segment({ flags: 'A', data: 'request' });
    host.write('reply');
    host.segment({ flags: 'A', seq: 12, data: 'later' });
    assert.deepEqual(host.segment({ flags: 'A', seq: 8, data: 'next' }), ['. 6:6 ack 17']);
  });
});

describe('timestamps (T-17, RQ-37, RQ-38)', () => {
  test('on every segment, echoing the oldest not yet acknowledged', () => {
    const host = established({ timestamps: true });
    host.segment({ flags: 'A', data: 'a', tsVal: 10 });
    assert.equal(host.last.header.hasTimestamps, true);
    assert.equal(host.last.header.tsEcr, 0x7fffff00 + 10);
    // A segment behind a gap does not change the echo (RFC 7323 §4.3).
    host.segment({ flags: 'A', seq: 100, data: 'z', tsVal: 20 });
    assert.equal(host.last.header.tsEcr, 0x7fffff00 + 10);
    host.segment({ flags: 'A', seq: 2, data: 'b', tsVal: 30 });
    assert.equal(host.last.header.tsEcr, 0x7fffff00 + 30);
  });

  test('a repetition whose ACK was lost is echoed with its own timestamp', () => {
    const host = established({ timestamps: true });
    host.segment({ flags: 'A', seq: 1, data: 'a', tsVal: 10 });
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, data: 'a', tsVal: 500 }), ['. 1:1 ack 2']);
    assert.equal(host.last.header.tsEcr, 0x7fffff00 + 500);
  });

  test('missing: dropped without a word, except RST', () => {
    const host = established({ timestamps: true });
    assert.deepEqual(host.segment({ flags: 'A', data: 'x', noTimestamps: true }), []);
    assert.equal(host.received, '');
    host.segment({ flags: 'R', noTimestamps: true });
    assert.equal(host.state, TcpState.Closed);
  });

  test('older, by 1 or by 2^31 − 1: acknowledged and dropped, also across the sign', () => {
    const host = established({ timestamps: true });
    host.segment({ flags: 'A', data: 'a', tsVal: 1000 });
    assert.deepEqual(host.segment({ flags: 'A', data: 'b', tsVal: 999 }), ['. 1:1 ack 2']);
    assert.deepEqual(host.segment({ flags: 'A', data: 'b', tsVal: 1000 - 0x7fffffff }), ['. 1:1 ack 2']);
    assert.equal(host.received, 'a');
    host.segment({ flags: 'R', tsVal: 1 });
    assert.equal(host.state, TcpState.Closed, 'PAWS is not for RST');
  });

  test('after more than 24 days of silence an old one is no evidence', () => {
    const host = established({ timestamps: true });
    host.segment({ flags: 'A', data: 'a', tsVal: 1000 });
    host.now += 25 * DAY_MS;
    host.segment({ flags: 'A', data: 'b', tsVal: 500 });
    assert.equal(host.received, 'ab');
  });

  test('an echo of what we never sent is no measurement', () => {
    const host = established({ timestamps: true });
    host.write('x');
    const { srttMs } = host.tcb.loss.rtt;
    host.segment({ flags: 'A', tsEcr: 0x12345678 });
    assert.equal(host.tcb.loss.rtt.srttMs, srttMs);
    assert.equal(host.tcb.snd.flight, 0);
  });
});

describe('URG (T-18, RQ-13)', () => {
  for (const urgent of [0, 1, 5, 6, 65535]) {
    test(`pointer ${urgent}: bytes stay in line`, () => {
      const host = established();
      assert.deepEqual(host.segment({ flags: 'UA', urgent, data: 'hello' }), ['. 1:1 ack 6']);
      assert.equal(host.received, 'hello');
      assert.equal(host.last.header.urgent, 0);
    });
  }
});

describe('challenges (RFC 5961, RQ-43, T-07, T-09)', () => {
  test('are limited per connection, and counted anew each second', () => {
    const host = established();
    let answers = 0;
    for (let i = 0; i < 100; i++) answers += host.segment({ flags: 'S', seq: 5 }).length;
    for (let i = 0; i < 100; i++) answers += host.segment({ flags: 'R', seq: 5 }).length;
    for (let i = 0; i < 100; i++) answers += host.segment({ flags: 'A', ack: 99_999 }).length;
    assert.equal(answers, 10);
    host.now += 1000;
    assert.deepEqual(host.segment({ flags: 'S', seq: 5 }), ['. 1:1 ack 1']);
    assert.equal(host.state, TcpState.Established);
  });

  test('an ACK below SND.UNA by less than the largest window is quietly old', () => {
    const host = established({ window: 65535, windowScale: 0 });
    host.write(1000);
    host.segment({ flags: 'A', ack: 1001 });
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), []);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1001 - 65536 }), ['. 1001:1001 ack 1']);
  });

  test('after the reset nothing is answered and nothing kept (T-08)', () => {
    const host = established();
    host.readerTakes = 0;
    host.segment({ flags: 'A', data: 1000 });
    host.write(5000);
    host.segment({ flags: 'R' });
    assert.equal(host.slab.pagesUsed, 0);
    for (let i = 0; i < 1000; i++) assert.deepEqual(host.segment({ flags: 'R' }), []);
    assert.deepEqual(host.advance(1_000_000), []);
  });
});

describe('duplicates are reported (RFC 2883)', () => {
  test('beyond a gap: the copy, then what holds it (§4.2), and only if all of it was there', () => {
    const host = established();
    host.segment({ flags: 'A', seq: 11, data: 10 });
    assert.deepEqual(blocks(host), [[11, 21]]);
    host.segment({ flags: 'A', seq: 13, data: 5 });
    assert.deepEqual(blocks(host), [
      [13, 18],
      [11, 21],
    ]);
    host.segment({ flags: 'A', seq: 15, data: 10 });
    assert.deepEqual(blocks(host), [[11, 25]]);
  });

  test('nothing is one before the handshake is over', () => {
    const host = hostIn(TcpState.SynReceived);
    assert.deepEqual(host.segment({ flags: 'A', seq: -9, data: 5 }), ['. 1:1 ack 1']);
    assert.deepEqual(blocks(host), []);
  });
});
