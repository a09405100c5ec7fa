import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EV_CLOSED, EV_RESET } from '../../../src/stack/tcp/owner.ts';
import { Recovery, TcpState } from '../../../src/stack/tcp/tcb.ts';
import { type HostOptions, hostIn, pattern, type TcpHost } from '../../support/tcp-host.ts';

/** Connections here have no window scale, so that `window` is in bytes, and a round trip of 0: RTO is 200 ms. */
function established(options: HostOptions = {}): TcpHost {
  return hostIn(TcpState.Established, { windowScale: -1, ...options });
}

/** Milliseconds at which lines came out. */
function times(lines: string[]): number[] {
  return lines.map((line) => Number(/^\+(\d+) /.exec(line)?.[1]));
}

describe('cutting segments', () => {
  test('whole segments, the rest at once, PSH on the last (RQ-16, RQ-21)', () => {
    const host = established();
    assert.deepEqual(host.write(3000), ['. 1:1461 ack 1', '. 1461:2921 ack 1', 'PA 2921:3001 ack 1']);
    assert.deepEqual(host.write('x'), ['PA 3001:3002 ack 1'], 'no waiting for the ACK of the small one');
    assert.equal(
      host.sent
        .filter((s) => s.length > 0)
        .map((s) => s.text)
        .join(''),
      `${pattern(3000)}x`,
    );
  });

  test('FIN goes with the last byte, or alone', () => {
    const host = established();
    host.connection.closeSend();
    assert.deepEqual(host.write('bye'), ['FPA 1:4 ack 1']);
    assert.equal(host.state, TcpState.FinWait1);
    const other = established();
    other.write('bye');
    assert.deepEqual(other.close(), ['FA 4:4 ack 1']);
  });

  test('a lost last segment brings its FIN again', () => {
    const host = established({ sack: false });
    host.connection.closeSend();
    host.write('bye');
    assert.deepEqual(host.advance(250), ['+200 FA 1:4 ack 1']);
  });

  test('super-segments are whole numbers of segments, except the last', () => {
    const host = established({ superSegment: 65455, windowScale: 7, window: 4000 });
    assert.deepEqual(host.write(150_000), [
      '. 1:64241 ack 1',
      '. 64241:128481 ack 1',
      'PA 128481:150001 ack 1',
    ]);
    for (const s of host.sent.slice(1)) assert.equal(s.mss, 1460);
  });

  test('a link whose MTU became smaller gets segments that fit, and the old ones when it grows again', () => {
    for (const [mtu, timestamps, cut] of [
      [1280, false, 1240],
      [1280, true, 1228],
      [9000, false, 1460],
      // However small: the least that a guest may ask for.
      [68, false, 216],
    ] as const) {
      const host = established({ timestamps });
      host.link.mtu = mtu;
      host.write(3000);
      assert.equal(host.sent.find((s) => s.length > 0)?.length, cut, `MTU ${mtu}`);
      host.link.mtu = 1500;
      host.sent.length = 0;
      host.write(3000);
      assert.equal(host.sent[0]?.length, timestamps ? 1448 : 1460);
    }
  });

  test('a super-segment is cut for the MTU of now', () => {
    const host = established({ superSegment: 65455, windowScale: 7, window: 4000 });
    host.link.mtu = 1280;
    host.write(150_000);
    assert.equal(host.sent.find((s) => s.length > 0)?.mss, 1240);
  });

  test('a window of few segments is cut in four: acknowledgments keep coming', () => {
    for (const [window, cut] of [
      [65535, 16383],
      [8000, 2000],
      [2000, 1024],
    ] as const) {
      const host = established({ mtu: 65520, mss: 65480, window });
      host.write(200_000);
      assert.equal(host.sent.find((s) => s.length > 0)?.length, cut, `window ${window}`);
      assert.ok(host.tcb.snd.flight > window / 2 && host.tcb.snd.flight <= window);
    }
  });

  test('never more than the window, to the byte', () => {
    const host = established({ window: 3000 });
    assert.deepEqual(host.write(10_000), ['. 1:1025 ack 1', '. 1025:2049 ack 1']);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1025 }), ['. 2049:3073 ack 1']);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1025, window: 2048 }), []);
  });

  test('the end of the data goes into a window however small', () => {
    const host = established({ window: 10 });
    assert.deepEqual(host.write('0123456789'), ['PA 1:11 ack 1']);
    assert.deepEqual(host.close(), [], 'FIN takes a place in the window too');
    assert.deepEqual(host.segment({ flags: 'A', ack: 11 }), ['FA 11:11 ack 1']);
  });
});

describe('zero window and the persist timer (RQ-15, T-12)', () => {
  function shut(options: HostOptions = {}): TcpHost {
    const host = established(options);
    host.write('abc');
    host.segment({ flags: 'A', window: 0 });
    return host;
  }

  test('first probe after one RTO, gaps double up to 60 s', () => {
    const host = shut();
    assert.deepEqual(host.write('defgh'), []);
    const out = host.advance(60_000);
    assert.deepEqual(times(out), [200, 600, 1400, 3000, 6200, 12600, 25400, 51000]);
    assert.ok(
      out.every((line) => line.endsWith(' 4:5 ack 1')),
      `${out}`,
    );
    assert.equal(host.last.text, 'd');
  });

  test('answered probes keep the connection for ever; they are no duplicate ACKs', () => {
    const host = shut({ newReno: true });
    host.write('defgh');
    for (let i = 0; i < 20; i++) {
      const out = host.advance(60_000);
      assert.ok(out.length >= 1);
      assert.deepEqual(host.segment({ flags: 'A', ack: 4, window: 0 }), []);
    }
    assert.equal(host.state, TcpState.Established);
    assert.equal(host.tcb.loss.recovery, Recovery.None);
    const out = host.segment({ flags: 'A', ack: 4, window: 1000 });
    assert.equal(
      host.sent
        .slice(-out.length)
        .map((s) => s.text)
        .join(''),
      'defgh',
    );
    assert.deepEqual(host.segment({ flags: 'A', ack: 9, window: 1000 }), []);
    assert.deepEqual(host.advance(100_000), [], 'nothing is probed any more');
  });

  test('silence for R2 ends it with RST (T-20)', () => {
    const host = shut();
    host.write('defgh');
    const out = host.advance(300_000);
    assert.match(out[out.length - 1] as string, /^\+1\d{5} RA /);
    assert.equal(host.events & (EV_RESET | EV_CLOSED), EV_RESET | EV_CLOSED);
  });

  test('a window that opens while the probe is under way: the rest at once, nothing lost', () => {
    for (const kept of [true, false]) {
      const host = shut();
      host.write('defgh');
      host.advance(250);
      const out = host.segment({ flags: 'A', ack: kept ? 5 : 4, window: 1000 });
      assert.equal(
        host.sent
          .slice(-out.length)
          .map((s) => s.text)
          .join(''),
        kept ? 'efgh' : 'defgh',
      );
      host.segment({ flags: 'A', ack: 9, window: 1000 });
      assert.deepEqual(host.advance(100_000), []);
    }
  });

  test('a probe that was taken after all: answers to the ACKs it has overtaken are no sign of loss, without SACK', () => {
    const host = shut({ sack: false });
    host.write('defgh');
    host.advance(250);
    host.segment({ flags: 'A', ack: 4, window: 1000 });
    assert.deepEqual(host.segment({ flags: 'A', ack: 5, window: 1000 }), []);
    for (let i = 0; i < 4; i++) assert.deepEqual(host.segment({ flags: 'A', ack: 5, window: 1000 }), []);
  });

  test('a probe that is acknowledged while the window stays shut: the next byte is the next probe', () => {
    const host = shut();
    host.write('defgh');
    host.advance(250);
    host.segment({ flags: 'A', ack: 5, window: 0 });
    const out = host.advance(1000);
    assert.ok(out.length > 0 && out.every((line) => line.endsWith(' 5:6 ack 1')), `${out}`);
  });

  test('the bare ACKs of a side that probes stay inside the window', () => {
    const host = shut();
    host.write('defgh');
    host.advance(250);
    const out = host.segment({ flags: 'A', ack: 4, window: 0, data: 'x' });
    assert.deepEqual(out, ['. 4:4 ack 2']);
  });

  test('FIN before a shut window: sent, repeated, and sent again at once when it opens', () => {
    const host = shut();
    assert.deepEqual(host.close(), ['FA 4:4 ack 1']);
    host.segment({ flags: 'A', ack: 4, window: 0 });
    assert.deepEqual(times(host.advance(1000)), [200, 600]);
    assert.deepEqual(host.segment({ flags: 'A', ack: 4, window: 500 }), ['FA 4:4 ack 1']);
    host.segment({ flags: 'A', ack: 5, window: 500 });
    assert.equal(host.state, TcpState.FinWait2);
  });

  test('FIN behind data before a shut window comes with the last of them', () => {
    const host = shut();
    host.write('defgh');
    assert.deepEqual(host.close(), []);
    host.advance(250);
    const out = host.segment({ flags: 'A', ack: 5, window: 500 });
    assert.deepEqual(out, ['FPA 5:9 ack 1']);
  });
});

describe("sender's silly window avoidance (RQ-16, T-13)", () => {
  test('small openings are not used; after one RTO they are', () => {
    const host = established({ window: 4000 });
    host.write(8000);
    host.segment({ flags: 'A', ack: host.tcb.snd.flight + 1, window: 100 });
    assert.equal(host.tcb.snd.flight, 0);
    const out = host.advance(250);
    assert.deepEqual(times(out), [200]);
    assert.equal(host.last.length, 100);
  });

  test('a peer that keeps talking with a small window does not put that off', () => {
    const host = established({ window: 4000 });
    host.write(8000);
    host.segment({ flags: 'A', ack: host.tcb.snd.flight + 1, window: 100 });
    let sent = 0;
    for (let i = 0; i < 50; i++) {
      host.segment({ flags: 'A', window: 100, data: 'x', ack: host.tcb.snd.flight > 0 ? 3001 : 3001 });
      host.advance(10);
      sent = Math.max(sent, host.tcb.snd.flight);
    }
    assert.equal(sent, 100);
  });

  test('what went out that way is repeated like anything else', () => {
    const host = established({ window: 4000 });
    host.write(8000);
    host.segment({ flags: 'A', ack: host.tcb.snd.flight + 1, window: 100 });
    assert.deepEqual(times(host.advance(700)), [200, 400]);
    assert.equal(host.last.length, 100);
  });
});

describe('a peer that takes its window back (T-11, RQ-14)', () => {
  test('nothing new beyond, repetition within, one byte when it is shut; the flow lives', () => {
    const host = established({ window: 30_000 });
    host.write(60_000);
    const flight = host.tcb.snd.flight;
    assert.ok(flight > 28_000);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1, window: 1000 }), []);
    host.advance(250);
    const again = host.sent.filter((s) => s.atMs > 100_000 && s.length > 0);
    assert.ok(again.length > 0 && again.every((s) => s.header.seq + s.length <= host.iss + 1 + 1000));
    host.segment({ flags: 'A', ack: 1, window: 0 });
    const before = host.sent.length;
    for (let i = 0; i < 10; i++) {
      host.advance(60_000);
      host.segment({ flags: 'A', ack: 1, window: 0 });
    }
    assert.equal(host.state, TcpState.Established, 'it answers: it is not gone');
    const probes = host.sent.slice(before);
    assert.ok(probes.length > 0 && probes.every((s) => s.length === 1 && s.header.seq === host.iss + 1));
    host.segment({ flags: 'A', ack: 1, window: 30_000 });
    assert.equal(host.sent[host.sent.length - 1]?.length !== 1, true);
    let ack = 1;
    for (let i = 0; i < 200 && host.tcb.snd.queue.length > 0; i++) {
      ack = host.tcb.snd.nxt - host.iss;
      host.segment({ flags: 'A', ack, window: 30_000 });
    }
    assert.equal(ack, 60_001);
  });

  test('a window that belongs to an old acknowledgment is not believed', () => {
    const host = established({ window: 4000 });
    host.write(4000);
    host.segment({ flags: 'A', seq: 1, ack: 2001, window: 1000, data: 'a' });
    // Overtaken by the segment above: a higher number, but an acknowledgment of before.
    host.segment({ flags: 'A', seq: 2, ack: 1, window: 60_000, data: 'b' });
    assert.equal(host.tcb.snd.wnd, 1000);
  });
});

describe('ending', () => {
  test('abort: one RST with the next number, then silence, everything given back (RQ-07)', () => {
    const host = established();
    host.write(10_000);
    const nxt = host.tcb.snd.flight + 1;
    assert.deepEqual(host.abort(), [`RA ${nxt}:${nxt} ack 1`]);
    assert.equal(host.slab.pagesUsed, 0);
    assert.deepEqual(host.advance(1_000_000), []);
    assert.equal(host.state, TcpState.Closed);
  });

  test('half-close: the other direction goes on without limit (RQ-23, P-02)', () => {
    const host = hostIn(TcpState.FinWait2);
    for (let i = 0; i < 30; i++) {
      host.advance(60_000);
      host.segment({ flags: 'A', data: 'x' });
    }
    assert.equal(host.received.length, 30);
    const other = hostIn(TcpState.CloseWait);
    for (let i = 0; i < 30; i++) {
      other.advance(60_000);
      other.write('y');
      other.segment({ flags: 'A' });
    }
    assert.equal(other.state, TcpState.CloseWait);
    assert.equal(other.tcb.snd.flight, 0);
  });

  for (const state of [TcpState.FinWait1, TcpState.Closing, TcpState.LastAck]) {
    test(`FIN is repeated in state ${state} and given up after R2 (T-20)`, () => {
      const host = hostIn(state);
      const out = host.advance(400_000);
      assert.ok(out.length > 5);
      assert.ok(
        out.slice(0, -1).every((line) => / FA 1:1 ack [12]$/.test(line)),
        `${out}`,
      );
      const end = times(out.slice(-1))[0] as number;
      assert.ok(end >= 100_000 && end < 250_000, `${end}`);
      assert.match(out[out.length - 1] as string, / RA /);
      assert.equal(host.state, TcpState.Closed);
    });
  }
});

describe('keep-alive (RQ-12, RFC 9293 §3.8.4; RQ-81, RFC 5382 REQ-5)', () => {
  test('no probe before two hours; nine lost answers end it, one does not', () => {
    const host = established();
    host.connection.armKeepalive(host.now);
    assert.deepEqual(host.advance(7_199_000), []);
    assert.deepEqual(host.advance(2000), ['+1000 . 0:0 ack 1']);
    assert.deepEqual(host.advance(75_000), ['+74000 . 0:0 ack 1']);
    assert.deepEqual(host.segment({ flags: 'A' }), []);
    assert.deepEqual(host.advance(7_000_000), []);
    const out = host.advance(2_000_000);
    assert.equal(out.filter((line) => line.endsWith('. 0:0 ack 1')).length, 9);
    assert.match(out[out.length - 1] as string, / RA 1:1 /);
  });
});
