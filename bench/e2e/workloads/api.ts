/**
 * What a busy API client costs the guest's traffic: bulk down at MTU 1500 over one connection, in slots with and without
 * 1,000 API calls per second in turns (without, with, with, without, …).
 */
import { GUEST_INTERFACE } from '../contenders.ts';
import { SERVER_ADDRESS } from '../namespaces.ts';
import { interfaceCounters } from '../proc-stats.ts';
import { delay } from '../processes.ts';
import { type Session, withSession } from '../session.ts';
import { median } from '../statistics.ts';
import type { Cell, Figures, Timing } from '../workload.ts';
import { withLoad } from './bulk.ts';

const CALLS_PER_SECOND = 1000;
const SLOT_MS = 500;
const FORWARD_PORT = 7006;

/** Cells of the API workload. */
export const apiCells: readonly Cell[] = [
  {
    id: `api/${CALLS_PER_SECOND}`,
    table: 'Bulk download beside API calls',
    title: `${CALLS_PER_SECOND} calls per second`,
    metrics: [
      { id: 'loss', title: 'throughput lost', unit: '%', better: 'lower', digits: 1 },
      { id: 'calls', title: 'calls answered', unit: '/s', better: 'higher', digits: 0 },
      { id: 'throughput', title: 'throughput without calls', unit: 'Gbit/s', better: 'higher', digits: 2 },
    ],
    without: ['pasta', 'veth'],
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500, inPlace: true, api: true }, (session) =>
        besideCalls(session, timing),
      ),
  },
];

async function besideCalls(session: Session, timing: Timing): Promise<Figures> {
  const { lab, stack } = session;
  const client = session.agent('host');
  const request = {
    path: stack.api ?? '',
    address: SERVER_ADDRESS,
    port: FORWARD_PORT,
    perSecond: CALLS_PER_SECOND,
    durationMs: SLOT_MS,
  };
  const received = (): number => interfaceCounters(lab.guestPid, GUEST_INTERFACE)?.rxBytes ?? 0;
  // Each slot is short: six times as many as a sample of other cells would hold.
  const pairs = timing.quick ? 2 : Math.ceil((timing.durationMs * 6) / (2 * SLOT_MS));
  const without: number[] = [];
  const beside: number[] = [];
  let calls = 0;
  let failed = 0;
  const slot = async (busy: boolean): Promise<void> => {
    const from = performance.now();
    const before = received();
    if (busy) {
      const answer = await client.ask('api-calls', request);
      calls += answer.answered;
      failed += answer.failed;
    } else {
      await delay(SLOT_MS);
    }
    const rate = ((received() - before) * 8) / (performance.now() - from) / 1e6;
    (busy ? beside : without).push(rate);
  };
  // Both programs have seen the calls before they are measured.
  await client.ask('api-calls', request);
  // A slot with calls that take long is longer.
  const durationMs = pairs * 2 * SLOT_MS * 1.25 + 1000;
  await withLoad(session, { direction: 'down', streams: 1 }, { ...timing, durationMs }, async (isOver) => {
    await delay(timing.warmUpMs + 500);
    for (let i = 0; i < pairs; i++) {
      await slot(i % 2 === 1);
      await slot(i % 2 === 0);
    }
    if (isOver()) throw new Error('the transfer ended before the calls');
  });
  return {
    loss: (1 - median(beside) / median(without)) * 100,
    calls: calls / ((pairs * SLOT_MS) / 1000),
    throughput: median(without),
    failed,
  };
}
