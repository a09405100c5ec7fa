import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NewReno } from '../../../src/stack/tcp/congestion/new-reno.ts';
import { EV_CLOSED, EV_RESET } from '../../../src/stack/tcp/owner.ts';
import { seqAdd } from '../../../src/stack/tcp/seq.ts';
import { Recovery, TcpState } from '../../../src/stack/tcp/tcb.ts';
import { type HostOptions, hostIn, type TcpHost } from '../../support/tcp-host.ts';

const MSS = 1000;

/** Segments of 1000 bytes; byte 1 + 1000 n begins segment n. */
function established(options: HostOptions = {}): TcpHost {
  return hostIn(TcpState.Established, { mss: MSS, windowScale: 2, ...options });
}

function reno(host: TcpHost): NewReno {
  assert.ok(host.tcb.loss.congestion instanceof NewReno);
  return host.tcb.loss.congestion;
}

/** `n` segments from segment `first` on, as lines. */
function segments(first: number, n: number): string[] {
  return Array.from({ length: n }, (_, i) => `. ${1 + (first + i) * MSS}:${1 + (first + i + 1) * MSS} ack 1`);
}

/** Leave PSH out: which piece was the last of a write is not the matter here. */
function plain(lines: string[]): string[] {
  return lines.map((line) => line.replace('PA ', '. '));
}

describe('retransmission timeout (RFC 6298 §5, RQ-09, RQ-10)', () => {
  test('everything again after the RTO, which doubles; after R2 the end', () => {
    const host = established({ sack: false });
    host.write(2000);
    const out = plain(host.advance(700));
    assert.deepEqual(
      out.filter((l) => l.startsWith('+200 ')),
      segments(0, 2).map((l) => `+200 ${l}`),
    );
    assert.deepEqual(
      out.filter((l) => l.startsWith('+600 ')),
      segments(0, 2).map((l) => `+600 ${l}`),
    );
    const end = host.advance(300_000);
    assert.match(end[end.length - 1] as string, /^\+\d{6} RA /);
    assert.equal(host.events & (EV_RESET | EV_CLOSED), EV_RESET | EV_CLOSED);
  });

  test('the timer starts anew with each new acknowledgment and stops when nothing is outstanding', () => {
    const host = established({ sack: false });
    host.write(2000);
    host.advance(150);
    host.segment({ flags: 'A', ack: 1001 });
    assert.deepEqual(host.advance(150), []);
    host.segment({ flags: 'A', ack: 2001 });
    assert.deepEqual(host.advance(10_000), []);
  });

  test('cwnd falls to one segment, and grows from there (RFC 5681 §3.1)', () => {
    const host = established({ newReno: true, sack: false });
    host.write(20_000);
    const flight = host.tcb.snd.flight;
    host.advance(210);
    assert.equal(reno(host).cwnd, MSS);
    assert.equal(reno(host).ssthresh, flight / 2);
    assert.equal(host.last.line, segments(0, 1)[0]);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1001 }), segments(1, 2));
  });

  test('no sample from what was sent twice, without timestamps (Karn, RQ-09)', () => {
    const host = established();
    host.write('x');
    host.advance(5000);
    const { srttMs } = host.tcb.loss.rtt;
    host.segment({ flags: 'A', ack: 2 });
    assert.equal(host.tcb.loss.rtt.srttMs, srttMs);
  });

  test('the scoreboard is forgotten (RFC 2018 §8, RQ-40)', () => {
    const host = established();
    host.write(3000);
    host.segment({ flags: 'A', ack: 1, sack: [[1001, 2001]] });
    const out = plain(host.advance(450)).filter((l) => l.startsWith('+2'));
    for (const line of segments(0, 3))
      assert.ok(
        out.some((l) => l.endsWith(line)),
        `${line} in ${out}`,
      );
  });

  test('an acknowledgment of more stops what need not be sent again', () => {
    const host = established({ newReno: true, sack: false });
    host.write(10_000);
    host.advance(210);
    // The ACKs were only late.
    assert.deepEqual(host.segment({ flags: 'A', ack: 10_001 }), []);
    assert.deepEqual(host.advance(10_000), []);
  });
});

describe('three duplicate ACKs (RQ-31, RFC 5681 §3.2)', () => {
  test('one retransmission at the third, none before, none for more; ssthresh is half the flight', () => {
    const host = established({ newReno: true, sack: false });
    host.write(10_000);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), []);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), []);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), segments(0, 1));
    assert.equal(reno(host).ssthresh, 5000);
    for (let i = 0; i < 5; i++) assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), []);
  });

  test('with SACK only what is reported counts (RFC 6675 §2): an empty ACK may answer anything', () => {
    const host = established({ newReno: true, sack: true });
    host.write(10_000);
    for (let i = 0; i < 5; i++) assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), []);
    assert.equal(host.tcb.loss.recovery, Recovery.None);
  });

  for (const [name, segment] of [
    ['with data', { data: 'x' }],
    ['that change the window', { window: 9000 }],
    ['with FIN', { flags: 'FA' }],
  ] as const) {
    test(`ACKs ${name} are none`, () => {
      const host = established({ sack: false });
      host.write(10_000);
      const before = host.sent.filter((s) => s.length > 0).length;
      for (let i = 0; i < 4; i++) {
        const window = 'window' in segment ? segment.window + i : 15_000;
        host.segment({ flags: 'A', ack: 1, ...segment, window });
      }
      assert.equal(host.sent.filter((s) => s.length > 0).length, before);
    });
  }

  test('nothing outstanding: no retransmission whatever comes', () => {
    const host = established({ sack: false });
    for (let i = 0; i < 10; i++) assert.deepEqual(host.segment({ flags: 'A' }), []);
  });

  test('still works after 2³¹ bytes without a loss', () => {
    const host = established({ sack: false });
    const c = host.tcb;
    // As if that much had been sent and acknowledged.
    const far = seqAdd(c.snd.una, 0x9000_0000);
    c.snd.una = far;
    c.snd.nxt = far;
    c.snd.queueSeq = far;

    c.snd.wl2 = far;
    host.write(5000);
    const ack = far - host.iss;
    host.segment({ flags: 'A', ack });
    host.segment({ flags: 'A', ack });
    assert.equal(host.segment({ flags: 'A', ack }).length, 1);
  });
});

describe('limited transmit (RFC 3042, RQ-42)', () => {
  test('new data on the first two duplicate ACKs', () => {
    const host = established({ newReno: true, sack: false });
    host.write(30_000);
    assert.equal(host.tcb.snd.flight, 10_000);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), segments(10, 1));
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), segments(11, 1));
    assert.deepEqual(host.segment({ flags: 'A', ack: 1 }), segments(0, 1));
  });
});

describe('NewReno without SACK (RFC 6582, RQ-33)', () => {
  test('a partial ACK sends the next hole and stays in recovery; the full one ends it', () => {
    const host = established({ newReno: true, sack: false });
    host.write(8000);
    for (let i = 0; i < 3; i++) host.segment({ flags: 'A', ack: 1 });
    assert.deepEqual(host.segment({ flags: 'A', ack: 3001 }), segments(3, 1));
    assert.equal(host.tcb.loss.recovery, Recovery.Fast);
    assert.deepEqual(plain(host.segment({ flags: 'A', ack: 7001 })), segments(7, 1));
    assert.deepEqual(host.segment({ flags: 'A', ack: 8001 }), []);
    assert.equal(host.tcb.loss.recovery, Recovery.None);
    assert.equal(reno(host).cwnd, reno(host).ssthresh);
  });
});

describe('SACK recovery (RFC 6675, RQ-40)', () => {
  test('holes are sent again, and only holes', () => {
    const host = established();
    host.write(10_000);
    const out = host.segment({
      flags: 'A',
      ack: 1,
      sack: [
        [1001, 3001],
        [5001, 8001],
      ],
    });
    assert.deepEqual(out, [...segments(0, 1), ...segments(3, 2)]);
    assert.deepEqual(host.segment({ flags: 'A', ack: 3001, sack: [[5001, 8001]] }), []);
    // Nothing is known of the tail: a probe asks for it (RFC 8985 §7; RFC 6675 §4 rule 4 would send it at once).
    assert.deepEqual(host.segment({ flags: 'A', ack: 8001 }), []);
    assert.deepEqual(plain(host.advance(10)), [`+10 ${segments(9, 1)[0]}`]);
    assert.deepEqual(host.segment({ flags: 'A', ack: 8001, sack: [[9001, 10_001]] }), segments(8, 1));
    assert.deepEqual(host.segment({ flags: 'A', ack: 10_001 }), []);
    assert.deepEqual(host.advance(10_000), []);
  });

  test('every second segment of a window lost: recovered without the timer', () => {
    const host = established();
    host.write(14_000);
    const missing = new Set([0, 2, 4, 6, 8, 10]);
    const held: [number, number][] = [];
    for (let i = 1; i < 14; i++) {
      if (missing.has(i)) continue;
      held.unshift([1 + i * MSS, 1 + (i + 1) * MSS]);
      for (const line of host.segment({ flags: 'A', ack: 1, sack: held.slice(0, 4) })) {
        missing.delete((Number(/ (\d+):/.exec(line)?.[1]) - 1) / MSS);
      }
    }
    assert.deepEqual([...missing], []);
  });

  test('blocks that make no sense are ignored (T-14)', () => {
    const host = established();
    host.write(5000);
    for (const block of [
      [2001, 1001],
      [1001, 1001],
      [-5000, -4000],
      [4001, 9001],
      [1, 0x7fffffff],
    ] as [number, number][]) {
      assert.deepEqual(host.segment({ flags: 'A', ack: 1, sack: [block] }), []);
      assert.equal(host.tcb.loss.scoreboard.sacked, 0);
    }
  });

  test('a D-SACK does no harm and is no sign of loss (RQ-41)', () => {
    const host = established();
    host.write(5000);
    host.segment({ flags: 'A', ack: 1001 });
    for (let i = 0; i < 5; i++) {
      assert.deepEqual(host.segment({ flags: 'A', ack: 1001, sack: [[1, 1001]] }), []);
    }
    assert.equal(host.tcb.loss.recovery, Recovery.None);
  });

  test('SACK without having been permitted is ignored', () => {
    const host = established({ sack: false });
    host.write(5000);
    assert.deepEqual(host.segment({ flags: 'A', ack: 1, sack: [[1001, 5001]] }), []);
    assert.equal(host.tcb.loss.scoreboard.isEmpty, true);
  });
});

describe('tail loss probe (RFC 8985 §7)', () => {
  test('the last segment again before the timer, once', () => {
    const host = established();
    host.write(3000);
    assert.deepEqual(
      plain(host.advance(150)),
      segments(2, 1).map((l) => `+10 ${l}`),
    );
  });

  test('a single segment waits for a delayed ACK: no probe', () => {
    const host = established();
    host.write(500);
    assert.deepEqual(host.advance(190), []);
  });

  test('none where the round trip is not known', () => {
    const host = hostIn(TcpState.SynReceived, { mss: MSS, windowScale: 2 });
    host.advance(1500);
    host.segment({ flags: 'A' });
    host.write(3000);
    assert.deepEqual(host.advance(900), []);
  });
});

describe('NewReno growth (RQ-30, T-09)', () => {
  test('the initial window is ten segments, at most 14600 bytes or two segments (RFC 6928)', () => {
    assert.equal(new NewReno(1000).cwnd, 10_000);
    assert.equal(new NewReno(1460).cwnd, 14_600);
    assert.equal(new NewReno(9000).cwnd, 18_000);
  });

  test('bytes count, not ACKs: a window acknowledged byte by byte grows it by no more than itself', () => {
    const host = established({ newReno: true });
    host.write(60_000);
    const before = reno(host).cwnd;
    for (let i = 2; i <= 10_001; i++) host.segment({ flags: 'A', ack: i });
    assert.ok(reno(host).cwnd <= 2 * before, `${reno(host).cwnd}`);
  });

  test('one ACK for everything grows slow start by two segments', () => {
    const host = established({ newReno: true });
    host.write(60_000);
    host.segment({ flags: 'A', ack: 10_001 });
    assert.equal(reno(host).cwnd, 12_000);
  });

  test('optimistic ACKs of what was not sent grow nothing (T-09)', () => {
    const host = established({ newReno: true });
    host.write(60_000);
    for (let i = 0; i < 10; i++) host.segment({ flags: 'A', ack: 20_001 + i });
    assert.equal(reno(host).cwnd, 10_000);
    assert.equal(host.tcb.snd.flight, 10_000);
  });
});

describe('what a congestion window learns from (RFC 7661, RFC 9438 §5.8)', () => {
  test('a guest whose window is the smaller one does not make it grow, paced or not', () => {
    const host = established({ congestion: 'cubic', timestamps: true, windowScale: 0, window: 12_000 });
    host.write(400_000);
    const c = host.tcb;
    for (let i = 0; i < 30; i++) {
      host.advance(50);
      host.segment({ flags: 'A', ack: 1 + Math.min(400_000, (i + 1) * 10_000) });
    }
    assert.ok(
      c.loss.congestion.cwnd <= 30_000,
      `${c.loss.congestion.cwnd} although never more than 12,000 were in flight`,
    );
  });
});
