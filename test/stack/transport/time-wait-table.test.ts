/** What is kept of connections in TIME-WAIT. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { FlowContext } from '../../../src/forward/flow/context.ts';
import { Counters } from '../../../src/stack/counters.ts';
import { HalfSipHash } from '../../../src/stack/half-sip-hash.ts';
import { TcpState } from '../../../src/stack/tcp/tcb.ts';
import { TimeWait } from '../../../src/stack/tcp/time-wait.ts';
import { TimeWaitTable } from '../../../src/stack/transport/time-wait-table.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { TCP_SYN, TcpHeader } from '../../../src/stack/wire/tcp.ts';
import { hostIn } from '../../support/tcp-host.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const guest = parseIpAddress('10.0.2.100');
const remote = parseIpAddress('198.51.100.1');
const CLOSED = new TimeWait(hostIn(TcpState.TimeWait).tcb);

/** What the table uses of its guest. */
function context(counters: Counters): FlowContext {
  const used = {
    clock: { nowMs: 0 },
    counters,
    hash: new HalfSipHash(1, 2),
    timers: { update: () => undefined },
  };
  return used as unknown as FlowContext;
}

function add(table: TimeWaitTable, ports: number): void {
  table.add({ guest, remote, ports, keyHash: 0 }, CLOSED);
}

test('T-07: a port that is used again and again leaves nothing behind', () => {
  const table = new TimeWaitTable(context(new Counters()));
  const syn = new TcpHeader();
  syn.flags = TCP_SYN;
  syn.seq = 2000;
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 200_000; i++) {
    add(table, i % 50);
    assert.equal(table.onSegment(guest, remote, i % 50, syn), false);
  }
  collectGarbage();
  assert.ok(process.memoryUsage().heapUsed - before < 4 * 1024 * 1024);
  assert.equal(table.size, 0);
});

test('R-02: beyond 16,384 the oldest is forgotten, and each ends in its time', () => {
  const counters = new Counters();
  const table = new TimeWaitTable(context(counters));
  for (let ports = 0; ports < 16_390; ports++) add(table, ports);
  assert.equal(table.size, 16_384);
  assert.equal(counters.snapshot()['tcp.timewait_evicted'], 6);
  assert.equal(table.has(guest, remote, 5), false);
  assert.equal(table.has(guest, remote, 6), true);
  table.onTimer(59_999);
  assert.equal(table.size, 16_384);
  table.onTimer(60_000);
  assert.equal(table.size, 0);
  assert.equal(table.deadline, Number.POSITIVE_INFINITY);
});
