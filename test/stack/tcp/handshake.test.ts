import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EV_CLOSED, EV_RESET } from '../../../src/stack/tcp/owner.ts';
import { TcpState } from '../../../src/stack/tcp/tcb.ts';
import { type HostOptions, hostIn, TcpHost } from '../../support/tcp-host.ts';

/** Length of the largest segment that comes out for plenty of data. */
function largest(host: TcpHost): number {
  host.write(100_000);
  return Math.max(...host.sent.map((s) => s.length));
}

describe('passive open', () => {
  test('no SYN-ACK before the destination has answered (P-01)', () => {
    const host = new TcpHost();
    host.openPassive();
    assert.deepEqual(host.flush(), []);
    assert.deepEqual(host.advance(30_000), []);
    assert.deepEqual(host.accept(), ['SA 0:0 ack 1']);
    assert.deepEqual(host.flush(), []);
  });

  test('the SYN-ACK offers what the SYN offered, and MSS = MTU − 40 or − 60 (RQ-04)', () => {
    for (const isV4 of [true, false]) {
      const host = hostIn(TcpState.SynReceived, { isV4, timestamps: true, mtu: 1500 });
      const h = host.last.header;
      assert.equal(h.mss, isV4 ? 1460 : 1440);
      assert.equal(h.sackPermitted, true);
      assert.ok(h.windowScale > 0);
      assert.equal(h.hasTimestamps, true);
      assert.equal(h.window, 65535, 'the window of a SYN is not scaled (RFC 7323 §2.2)');
    }
  });

  test('what the SYN did not offer is not offered back, nor used later (RQ-36, RQ-37, RQ-39)', () => {
    const host = hostIn(TcpState.SynReceived, { windowScale: -1, sack: false, timestamps: false, mss: -1 });
    const h = host.last.header;
    assert.equal(h.mss, 1460, 'MSS is always told');
    assert.equal(h.sackPermitted, false);
    assert.equal(h.windowScale, -1);
    assert.equal(h.hasTimestamps, false);
    host.segment({ flags: 'A' });
    assert.deepEqual(host.segment({ flags: 'A', seq: 101, data: 10 }), ['. 1:1 ack 1']);
    assert.equal(host.last.header.sackCount, 0);
    assert.equal(host.last.header.window, 65535, 'unscaled');
  });

  test('the window begins as the SYN-ACK says it, however much there is room for (RFC 7323 §2.2)', () => {
    const host = hostIn(TcpState.SynReceived, { receiveLimit: 1 << 20 });
    assert.deepEqual(host.segment({ flags: 'A', seq: 65536, data: 'x' }), ['. 1:1 ack 1']);
    assert.equal(host.tcb.rcv.queue.outOfOrder, 0, 'not taken');
    // That acknowledgment has told of all of it.
    host.segment({ flags: 'A', seq: 65536, data: 'x' });
    assert.equal(host.tcb.rcv.queue.outOfOrder, 1);
  });

  test('later segments carry no MSS and no window scale (MUST-15, RFC 7323 §2.2)', () => {
    const host = hostIn(TcpState.Established);
    host.write('hello');
    assert.equal(host.last.header.mss, -1);
    assert.equal(host.last.header.windowScale, -1);
    assert.equal(host.last.header.sackPermitted, false);
  });

  test('a lost SYN-ACK comes again at 1, 2, 4 … s, and after 60 s RST (T-20, RQ-11)', () => {
    const host = hostIn(TcpState.SynReceived);
    const out = host.advance(100_000);
    assert.deepEqual(out, [
      '+1000 SA 0:0 ack 1',
      '+3000 SA 0:0 ack 1',
      '+7000 SA 0:0 ack 1',
      '+15000 SA 0:0 ack 1',
      '+31000 SA 0:0 ack 1',
      '+60000 RA 1:1 ack 1',
    ]);
    assert.equal(host.events, EV_RESET | EV_CLOSED);
    assert.equal(host.state, TcpState.Closed);
  });

  test('data on the SYN is not acknowledged: the guest sends it again, nothing is lost (T-05)', () => {
    // A SYN with data is given to openPassive as a SYN; what matters is the acknowledgment.
    const host = hostIn(TcpState.SynReceived);
    assert.equal(host.last.line, 'SA 0:0 ack 1');
    host.segment({ flags: 'A', seq: 1, data: 'on the SYN' });
    assert.equal(host.received, 'on the SYN');
  });

  test('abort before the answer: RST and nothing more', () => {
    const host = hostIn(TcpState.SynReceived);
    assert.deepEqual(host.abort(), ['RA 1:1 ack 1']);
    assert.deepEqual(host.advance(200_000), []);
  });
});

describe('MSS (T-03, RQ-04)', () => {
  const cases: [number, number, HostOptions?][] = [
    [0, 216],
    [1, 216],
    [7, 216],
    [48, 216],
    [88, 216],
    [216, 216],
    [535, 535],
    [1460, 1460],
    [65535, 1460],
    [-1, 536],
    [65535, 1440, { isV4: false }],
    [-1, 1220, { isV4: false }],
    [1460, 1448, { timestamps: true }],
    [0, 204, { timestamps: true }],
    [65535, 536, { mtu: 576 }],
  ];
  for (const [mss, expected, options] of cases) {
    test(`${mss} offered, ${JSON.stringify(options ?? {})}: segments of ${expected}`, () => {
      assert.equal(largest(hostIn(TcpState.Established, { ...options, mss })), expected);
    });
  }
});

describe('window scale (T-11, RQ-01, RQ-36)', () => {
  for (const windowScale of [14, 15, 255]) {
    test(`${windowScale} is used as ${Math.min(14, windowScale)}, and 0xffff with it is no negative number`, () => {
      const host = hostIn(TcpState.Established, { windowScale, window: 65535 });
      assert.equal(host.tcb.snd.wnd, 65535 * 2 ** 14);
      assert.equal(host.tcb.snd.maxWnd, 65535 * 2 ** 14);
      assert.equal(host.write(500_000).length, Math.ceil(500_000 / 1460));
    });
  }

  test('the window of the SYN itself is not scaled', () => {
    const host = hostIn(TcpState.SynReceived, { windowScale: 7, window: 1000 });
    assert.equal(host.tcb.snd.wnd, 1000);
  });

  test('active open: the peer does not scale, so neither do we', () => {
    const host = hostIn(TcpState.SynSent, { windowScale: -1 });
    assert.ok(host.last.header.windowScale > 0);
    host.syn(1);
    assert.equal(host.last.header.window, 65535);
    assert.equal(host.tcb.snd.windowShift, 0);
  });

  test('a scale on a later segment changes nothing', () => {
    const host = hostIn(TcpState.Established, { windowScale: 2 });
    host.segment({ flags: 'A', window: 100 });
    assert.equal(host.tcb.snd.wnd, 400);
  });
});

describe('options of the SYN that make no sense (T-02)', () => {
  const bad: [string, number[]][] = [
    ['MSS of length 0', [2, 0]],
    ['MSS of length 1', [2, 1]],
    ['length 0 behind a NOP', [1, 2, 0, 0]],
    ['window scale of length 1', [3, 1]],
    ['SACK past the end', [5, 0xff]],
    ['timestamps of length 0', [8, 0]],
    ['unknown of length 0', [0xff, 0]],
    ['a kind without length at the end', [1, 1, 1, 2]],
    ['40 NOPs', new Array<number>(40).fill(1)],
    ['MSS twice', [2, 4, 5, 0xb4, 2, 4, 5, 0xb4]],
    ['end of list, then garbage', [0, 2, 0, 0xff]],
    ['Fast Open cookie request (T-05)', [34, 2, 1, 1]],
  ];
  for (const [name, raw] of bad) {
    test(`${name}: the connection opens`, () => {
      const host = new TcpHost();
      host.openPassive(raw);
      assert.deepEqual(host.accept(), ['SA 0:0 ack 1']);
      host.segment({ flags: 'A', data: 'works' });
      assert.equal(host.state, TcpState.Established);
      assert.equal(host.received, 'works');
    });
  }
});

describe('round trip of the handshake (RFC 6298)', () => {
  for (const timestamps of [true, false]) {
    test(`is the first sample, timestamps ${timestamps}; what came later does not count`, () => {
      const host = hostIn(TcpState.SynReceived, { timestamps });
      host.advance(120);
      host.segment({ flags: 'A' });
      assert.equal(host.tcb.loss.rtt.srttMs, 120);
      host.advance(600_000);
      host.write('x');
      host.advance(120);
      host.segment({ flags: 'A' });
      assert.ok(Math.abs(host.tcb.loss.rtt.srttMs - 120) < 1, `${host.tcb.loss.rtt.srttMs}`);
    });
  }

  test('the SYN timer fired and there is no sample: data starts with 3 s (RQ-35)', () => {
    const host = hostIn(TcpState.SynReceived);
    host.advance(1500);
    host.segment({ flags: 'A' });
    assert.equal(host.tcb.loss.rtt.srttMs, -1);
    host.write('x');
    assert.deepEqual(host.advance(2999), []);
    assert.deepEqual(
      host.advance(2),
      ['+1 PA 1:2 ack 1'].map((l) => l.replace('PA', '.')),
    );
  });
});
