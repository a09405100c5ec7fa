/** State × event (T-19, RQ-22, RFC 9293 §3.10.7): the next state, and exactly what is answered. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EV_BAD_ACK, EV_CLOSED, EV_ESTABLISHED, EV_FIN, EV_RESET } from '../../../src/stack/tcp/owner.ts';
import { seqDiff } from '../../../src/stack/tcp/seq.ts';
import { TcpState, tcpStateNames } from '../../../src/stack/tcp/tcb.ts';
import { hostIn, type Segment, type TcpHost } from '../../support/tcp-host.ts';

const S = TcpState;
type Cell = [next: TcpState, answer: string[], events?: number];

interface Numbers {
  /** RCV.NXT, SND.NXT and SND.UNA, relative. */
  rcv: number;
  nxt: number;
  una: number;
}

const events: Record<string, (n: Numbers) => Segment> = {
  'RST at RCV.NXT': ({ rcv }) => ({ flags: 'R', seq: rcv }),
  'RST at RCV.NXT with data': ({ rcv }) => ({ flags: 'R', seq: rcv, data: 'bye' }),
  'RST in the window': ({ rcv }) => ({ flags: 'R', seq: rcv + 10 }),
  'RST outside': ({ rcv }) => ({ flags: 'R', seq: rcv - 10 }),
  'SYN in the window': ({ rcv }) => ({ flags: 'S', seq: rcv + 5 }),
  'the same SYN again': () => ({ flags: 'S', seq: 0 }),
  'no flags': ({ rcv }) => ({ flags: '', seq: rcv, data: 'x' }),
  'ACK of everything': ({ rcv, nxt }) => ({ flags: 'A', seq: rcv, ack: nxt }),
  'ACK of what was never sent, with data': ({ rcv, nxt }) => ({
    flags: 'A',
    seq: rcv,
    ack: nxt + 1000,
    data: 'x',
  }),
  'ACK of long ago, with data': ({ rcv, una }) => ({
    flags: 'A',
    seq: rcv,
    ack: una - 8_000_000,
    data: 'x',
  }),
  data: ({ rcv, una }) => ({ flags: 'A', seq: rcv, ack: Math.max(una, 1), data: '0123456789' }),
  'data beyond the window': ({ rcv, una }) => ({
    flags: 'A',
    seq: rcv + 65536,
    ack: Math.max(una, 1),
    data: 'x',
  }),
  FIN: ({ rcv, una }) => ({ flags: 'FA', seq: rcv, ack: Math.max(una, 1) }),
  'FIN again': ({ rcv, una }) => ({ flags: 'FA', seq: rcv - 1, ack: Math.max(una, 1) }),
  'empty segment before the window': ({ rcv, nxt }) => ({ flags: 'A', seq: rcv - 1, ack: nxt }),
};

/** What all states after SYN-RECEIVED have in common; `self` is the state. */
function common(self: TcpState, n: Numbers): Record<string, Cell> {
  const ack = `. ${n.nxt}:${n.nxt} ack ${n.rcv}`;
  return {
    'RST at RCV.NXT': [S.Closed, [], EV_RESET | EV_CLOSED],
    'RST at RCV.NXT with data': [S.Closed, [], EV_RESET | EV_CLOSED],
    'RST in the window': [self, [ack]],
    'RST outside': [self, []],
    'SYN in the window': [self, [ack]],
    'the same SYN again': [self, [ack]],
    'no flags': [self, []],
    'ACK of everything': [self, []],
    'ACK of what was never sent, with data': [self, [ack]],
    'ACK of long ago, with data': [self, [ack]],
    'data beyond the window': [self, [ack]],
  };
}

/** Data, FIN and their repetition before the peer's FIN … */
function open(self: TcpState, n: Numbers, afterFin: TcpState): Record<string, Cell> {
  const ended = afterFin === S.TimeWait ? EV_FIN | EV_CLOSED : EV_FIN;
  return {
    ...common(self, n),
    data: [self, [`. ${n.nxt}:${n.nxt} ack ${n.rcv + 10}`]],
    FIN: [afterFin, [`. ${n.nxt}:${n.nxt} ack ${n.rcv + 1}`], ended],
  };
}

/** … and after it. */
function halfClosed(self: TcpState, n: Numbers): Record<string, Cell> {
  const ack = `. ${n.nxt}:${n.nxt} ack ${n.rcv}`;
  return {
    ...common(self, n),
    data: [self, []],
    FIN: [self, []],
    'FIN again': [self, [ack]],
    'empty segment before the window': [self, [ack]],
  };
}

const table: [TcpState, (n: Numbers) => Record<string, Cell>][] = [
  [
    S.SynReceived,
    () => ({
      'RST at RCV.NXT': [S.Closed, [], EV_RESET | EV_CLOSED],
      'RST in the window': [S.SynReceived, ['. 1:1 ack 1']],
      'RST outside': [S.SynReceived, []],
      'SYN in the window': [S.SynReceived, ['. 1:1 ack 1']],
      'the same SYN again': [S.SynReceived, ['SA 0:0 ack 1']],
      'no flags': [S.SynReceived, []],
      'data beyond the window': [S.SynReceived, ['. 1:1 ack 1']],
      'FIN again': [S.SynReceived, ['. 1:1 ack 1']],
      'empty segment before the window': [S.SynReceived, ['. 1:1 ack 1']],
      'ACK of everything': [S.Established, [], EV_ESTABLISHED],
      'ACK of what was never sent, with data': [S.SynReceived, [], EV_BAD_ACK],
      'ACK of long ago, with data': [S.SynReceived, [], EV_BAD_ACK],
      data: [S.Established, ['. 1:1 ack 11'], EV_ESTABLISHED],
      FIN: [S.CloseWait, ['. 1:1 ack 2'], EV_ESTABLISHED | EV_FIN],
    }),
  ],
  [S.Established, (n) => open(S.Established, n, S.CloseWait)],
  [S.FinWait1, (n) => ({ ...open(S.FinWait1, n, S.Closing), 'ACK of everything': [S.FinWait2, []] })],
  [S.FinWait2, (n) => open(S.FinWait2, n, S.TimeWait)],
  [S.CloseWait, (n) => halfClosed(S.CloseWait, n)],
  [
    S.Closing,
    (n) => ({
      ...halfClosed(S.Closing, n),
      'ACK of everything': [S.TimeWait, [], EV_CLOSED],
      // One before the window it still acknowledges our FIN.
      'empty segment before the window': [S.TimeWait, [`. 2:2 ack 2`], EV_CLOSED],
    }),
  ],
  [
    S.LastAck,
    (n) => ({
      ...halfClosed(S.LastAck, n),
      'ACK of everything': [S.Closed, [], EV_CLOSED],
      'empty segment before the window': [S.Closed, [], EV_CLOSED],
    }),
  ],
  [
    S.TimeWait,
    (n) => ({
      ...halfClosed(S.TimeWait, n),
      // RFC 1337: the answer of a guest that has forgotten the connection.
      'RST at RCV.NXT': [S.TimeWait, []],
      'RST at RCV.NXT with data': [S.TimeWait, []],
      'RST in the window': [S.TimeWait, []],
      FIN: [S.TimeWait, [`. ${n.nxt}:${n.nxt} ack ${n.rcv}`]],
      // What says nothing new, whatever it acknowledges (T-12).
      'ACK of what was never sent, with data': [S.TimeWait, []],
      'ACK of long ago, with data': [S.TimeWait, []],
    }),
  ],
];

function numbers(host: TcpHost): Numbers {
  const c = host.tcb;
  return {
    rcv: seqDiff(c.rcv.nxt, host.irs),
    nxt: seqDiff(c.snd.nxt, host.iss),
    una: seqDiff(c.snd.una, host.iss),
  };
}

/** Events that a cell may name; the others (delivery, room) are other tests' business. */
const NAMED = EV_RESET | EV_CLOSED | EV_FIN | EV_ESTABLISHED | EV_BAD_ACK;

for (const [state, row] of table) {
  describe(tcpStateNames[state] as string, () => {
    const cells = row(numbers(hostIn(state)));
    for (const [name, [next, answer, expected]] of Object.entries(cells)) {
      test(`${name} → ${tcpStateNames[next]}`, () => {
        const host = hostIn(state);
        assert.equal(host.state, state);
        const make = events[name] as (n: Numbers) => Segment;
        const out = host.segment(make(numbers(host)));
        assert.deepEqual(out, answer);
        assert.equal(tcpStateNames[host.state], tcpStateNames[next]);
        assert.equal(host.events & NAMED, expected ?? 0);
        assert.deepEqual(host.flush(), [], 'then nothing more');
      });
    }
  });
}

describe('CLOSED and SYN-PENDING', () => {
  for (const state of [S.Closed, S.SynPending]) {
    test(`${tcpStateNames[state]}: every segment is ignored (its owner answers, T-06)`, () => {
      for (const make of Object.values(events)) {
        const host = hostIn(state);
        assert.deepEqual(host.segment(make({ rcv: 1, nxt: 0, una: 0 })), []);
        assert.equal(host.state, state);
        assert.equal(host.events, 0);
      }
    });
  }
});

describe('SYN-SENT (RFC 9293 §3.10.7.3)', () => {
  test('SYN-ACK → ESTABLISHED, acknowledged at once', () => {
    const host = hostIn(S.SynSent);
    assert.deepEqual(host.syn(1), ['. 1:1 ack 1']);
    assert.equal(host.state, S.Established);
    assert.equal(host.events, EV_ESTABLISHED);
  });

  test('SYN → SYN-RECEIVED with a SYN-ACK, and its ACK → ESTABLISHED (simultaneous open, RQ-06)', () => {
    const host = hostIn(S.SynSent);
    assert.deepEqual(host.syn(), ['SA 0:0 ack 1']);
    assert.equal(host.state, S.SynReceived);
    assert.deepEqual(host.segment({ flags: 'A', seq: 1, ack: 1 }), []);
    assert.equal(host.state, S.Established);
  });

  test('RST with our SYN acknowledged → CLOSED', () => {
    const host = hostIn(S.SynSent);
    assert.deepEqual(host.segment({ flags: 'RA', seq: 0, ack: 1 }), []);
    assert.equal(host.state, S.Closed);
    assert.equal(host.events, EV_RESET | EV_CLOSED);
  });

  for (const [name, segment] of Object.entries<Segment>({
    'RST with another number acknowledged': { flags: 'RA', seq: 0, ack: 2 },
    'RST without ACK': { flags: 'R', seq: 0 },
    'ACK without SYN': { flags: 'A', seq: 0, ack: 1 },
    'no flags': { flags: '', seq: 0 },
    'FIN without ACK': { flags: 'F', seq: 0 },
  })) {
    test(`${name}: ignored (T-08)`, () => {
      const host = hostIn(S.SynSent);
      assert.deepEqual(host.segment(segment), []);
      assert.equal(host.state, S.SynSent);
      assert.equal(host.events, 0);
    });
  }

  test('an ACK of anything else is for its owner to reset', () => {
    const host = hostIn(S.SynSent);
    assert.deepEqual(host.segment({ flags: 'A', seq: 0, ack: 77 }), []);
    assert.equal(host.events, EV_BAD_ACK);
    assert.deepEqual(host.syn(5), []);
    assert.equal(host.events, EV_BAD_ACK);
    assert.equal(host.state, S.SynSent);
  });
});
