/** Connections per second: connect, one byte there and back, close; in sequence and 64 at a time, pinned and free. */
import { SERVER_ADDRESSES } from '../namespaces.ts';
import { CONNECTIONS_PORT, withSession } from '../session.ts';
import type { Cell, Metric } from '../workload.ts';
import { placement } from './latency.ts';

const METRICS: readonly Metric[] = [
  { id: 'rate', title: 'connections', unit: '/s', better: 'higher', digits: 0 },
];

/** Cells of the connection-rate workload. */
export const connectCells: readonly Cell[] = [true, false].flatMap((pinned) =>
  [1, 64].map((parallel) => connectCell(parallel, pinned)),
);

function connectCell(parallel: number, pinned: boolean): Cell {
  return {
    id: `connects/${parallel}/${pinned ? 'pinned' : 'free'}`,
    table: 'Connect, one byte each way, close',
    title: `${parallel === 1 ? 'in sequence' : `${parallel} at a time`}, ${pinned ? 'pinned' : 'free'}`,
    metrics: METRICS,
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500, ...placement(pinned) }, async (session) => {
        const { warmUpMs, durationMs } = timing;
        const result = await session
          .agent('guest')
          .ask(
            'connects',
            { addresses: SERVER_ADDRESSES, port: CONNECTIONS_PORT, parallel, warmUpMs, durationMs },
            warmUpMs + durationMs + 8000,
          );
        return { rate: result.perSecond, failed: result.failed };
      }),
  };
}
