/** What is said to segments for a connection in TIME-WAIT (RFC 9293 §3.10.7.4, RFC 6191, RFC 1337). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TcpState } from '../../../src/stack/tcp/tcb.ts';
import type { TimeWait } from '../../../src/stack/tcp/time-wait.ts';
import { TcpHeader } from '../../../src/stack/wire/tcp.ts';
import { hostIn, PEER_TS, type Segment, type TcpHost } from '../../support/tcp-host.ts';

/** RCV.NXT is 2, the timestamp that was seen last `heard`. */
const cells: [
  what: string,
  segment: (heard: number) => Segment,
  timestamps: 'both' | 'with',
  answered: boolean,
][] = [
  ['a reset', () => ({ flags: 'R', seq: 2 }), 'both', false],
  ['a reset in the window', () => ({ flags: 'R', seq: 12 }), 'both', false],
  ['an acknowledgment', () => ({ flags: 'A', seq: 2 }), 'both', false],
  ['an acknowledgment from before', (heard) => ({ flags: 'A', seq: 2, tsVal: heard - 1 }), 'with', true],
  ['old data', () => ({ flags: 'A', seq: 1, data: 'x' }), 'both', true],
  ['its FIN again', () => ({ flags: 'FA', seq: 1 }), 'both', true],
  ['an old SYN', (heard) => ({ flags: 'S', seq: 1, tsVal: heard }), 'both', true],
  ['a SYN from before', (heard) => ({ flags: 'S', seq: 5000, tsVal: heard - 1 }), 'with', true],
];

function inTimeWait(timestamps: boolean): TcpHost {
  return hostIn(TcpState.TimeWait, { timestamps });
}

function heardLast(host: TcpHost): number {
  return host.options.timestamps === true ? (host.tcb.tsRecent - PEER_TS) | 0 : 0;
}

describe('review H-7: TIME-WAIT answers alike whether the owner still reads or only the entry is left:', () => {
  for (const timestamps of [false, true]) {
    for (const [what, segment, when, answered] of cells) {
      if (when === 'with' && !timestamps) continue;
      test(`${what}${timestamps ? ', timestamps' : ''}: ${answered ? 'acknowledged' : 'silence'}`, () => {
        const host = inTimeWait(timestamps);
        const lines = host.segment(segment(heardLast(host)));
        assert.deepEqual(lines, answered ? ['. 2:2 ack 2'] : []);
        assert.equal(host.state, TcpState.TimeWait);
        if (!answered) return;
        const shown = host.sent[host.sent.length - 1]?.header as TcpHeader;
        const h = new TcpHeader();
        (host.tcb.timeWait as TimeWait).fillAck(h, host.now);
        for (const field of ['seq', 'ack', 'flags', 'hasTimestamps', 'tsVal', 'tsEcr'] as const) {
          if (field.startsWith('ts') && !timestamps) continue;
          assert.equal(h[field], shown[field], field);
        }
      });
    }
  }
});
