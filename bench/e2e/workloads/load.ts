/** Round trip of one byte over TCP beside 8 bulk flows each way, and in the same session before them. */
import { SERVER_ADDRESS } from '../namespaces.ts';
import { delay } from '../processes.ts';
import { type Session, withSession } from '../session.ts';
import type { Cell, Figures, Timing } from '../workload.ts';
import { receivedBitsPerSecond, withLoad } from './bulk.ts';

const PORT = 7002;
const FLOWS = 8;

/** Cells of the load workload. */
export const loadCells: readonly Cell[] = [1500, 65520].map((mtu) => ({
  id: `load/ping/${mtu}`,
  table: 'Round trip of one byte beside bulk traffic',
  title: `${FLOWS} flows each way, MTU ${mtu}`,
  metrics: [
    { id: 'loaded', title: 'p50', unit: 'µs', better: 'lower', digits: 0 },
    { id: 'loaded99', title: 'p99', unit: 'µs', better: 'lower', digits: 0 },
    { id: 'idle', title: 'p50 before', unit: 'µs', better: 'lower', digits: 0 },
    { id: 'load', title: 'bulk traffic, both ways', unit: 'Gbit/s', better: 'higher', digits: 2 },
  ],
  measure: (contender, timing) => withSession({ contender, mtu }, (session) => roundTrips(session, timing)),
}));

async function roundTrips(session: Session, timing: Timing): Promise<Figures> {
  const { warmUpMs, durationMs } = timing;
  await session.agent('host').ask('serve-stream', { port: PORT });
  const client = session.agent('guest');
  const request = { transport: 'tcp', address: SERVER_ADDRESS, port: PORT, warmUpMs, durationMs } as const;
  const trips = (): Promise<{ p50: number; p99: number }> =>
    client.ask('round-trips', request, warmUpMs + durationMs + 12_000);
  const idle = await trips();
  let loaded = { p50: Number.NaN, p99: Number.NaN };
  // The load begins before the round trips and goes on after them.
  const load = { warmUpMs, durationMs: warmUpMs + durationMs + 2000 };
  const text = await withLoad(session, { direction: 'both', streams: FLOWS }, load, async (isOver) => {
    await delay(warmUpMs);
    loaded = await trips();
    if (isOver()) throw new Error('the load ended before the round trips');
  });
  return {
    loaded: loaded.p50,
    loaded99: loaded.p99,
    idle: idle.p50,
    load: receivedBitsPerSecond(text) / 1e9,
  };
}
