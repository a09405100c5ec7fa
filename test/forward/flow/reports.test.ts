/** How many flows the control plane is told of, when a guest opens more than anybody wants to read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { profiles } from '../../../src/profiles.ts';
import { Lab } from '../../support/lab/lab.ts';
import { ALLOWED4, udp } from '../../support/lab/packets.ts';

/** What is told at once, and in a second. */
const AT_ONCE = 5000;
const PER_SECOND = 1000;

function newLab(): Lab {
  return new Lab({ guest: { behavior: { ...profiles.tslirp, flowEvents: true } } });
}

/** A mapping for each of `count` ports from `first` on. */
function open(lab: Lab, first: number, count: number): void {
  for (let i = 0; i < count; i += 50) {
    lab.send(
      ...Array.from({ length: 50 }, (_, k) => udp({ dst: ALLOWED4, srcPort: first + i + k, dstPort: 9 })),
    );
  }
}

test('R-04: a flood of flows is told of up to a limit, wholly or not at all, and how many were left out', () => {
  const lab = newLab();
  open(lab, 10_000, AT_ONCE + 200);
  const opened = (): Set<number> => {
    const told = lab.flowEvents.filter(({ event }) => event === 'open');
    return new Set(told.map(({ flow }) => flow));
  };
  assert.equal(opened().size, AT_ONCE);
  assert.equal(lab.counter('flows.left_out'), 200);
  assert.deepEqual(lab.flowsLeftOut, []);
  lab.advance(1000);
  assert.deepEqual(lab.flowsLeftOut, [200]);

  open(lab, 20_000, PER_SECOND + 50);
  assert.equal(opened().size, AT_ONCE + PER_SECOND, 'a second later there is room for more');
  lab.advance(200_000);
  assert.deepEqual(lab.flowsLeftOut, [200, 50]);
  assert.equal(lab.gauge('udp.flows'), 0);
  const closed = lab.flowEvents.filter(({ event }) => event === 'close').map(({ flow }) => flow);
  assert.deepEqual(new Set(closed), opened(), 'whose opening was told, its end is, and no other');
  assert.equal(closed.length, AT_ONCE + PER_SECOND);
  lab.check({ heapMiB: 32 });
});

test('R-04: flows that fail to open are told of up to the same limit', () => {
  const lab = new Lab({
    guest: { behavior: { ...profiles.tslirp, flowEvents: true, udpMapping: 'connected' } },
  });
  lab.kernel.fault = (name) => (name === 'connect' ? -111 : undefined);
  open(lab, 10_000, AT_ONCE + 100);
  assert.equal(lab.flowEvents.length, AT_ONCE);
  assert.ok(lab.flowEvents.every(({ event }) => event === 'error'));
  lab.advance(1000);
  assert.deepEqual(lab.flowsLeftOut, [100]);
  lab.kernel.fault = null;
  lab.check({ heapMiB: 32 });
});
