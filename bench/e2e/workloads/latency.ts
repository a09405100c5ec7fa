/**
 * Round trips of one byte over TCP and UDP. Pinned: client, stack and server share one CPU that never sleeps, which
 * shows what the stack costs. Free: as the scheduler likes it, which on a small virtual machine mostly shows wake-ups.
 */
import { cpus } from 'node:os';
import { SERVER_ADDRESS } from '../namespaces.ts';
import { withSession } from '../session.ts';
import type { Cell, Metric } from '../workload.ts';

const PORT = 7002;
const METRICS: readonly Metric[] = [
  { id: 'p50', title: 'p50', unit: 'µs', better: 'lower', digits: 1 },
  { id: 'p99', title: 'p99', unit: 'µs', better: 'lower', digits: 1 },
];

/** Where pinned samples run: the last CPU, as the first serves most interrupts. */
export const PINNED_CPU: number = cpus().length - 1;
/** The options of a pinned or free session. */
export function placement(pinned: boolean): { cpu?: number } {
  return pinned ? { cpu: PINNED_CPU } : {};
}

/** Cells of the latency workload. */
export const latencyCells: readonly Cell[] = [true, false].flatMap((pinned) =>
  (['tcp', 'udp'] as const).map((transport) => latencyCell(transport, pinned)),
);

function latencyCell(transport: 'tcp' | 'udp', pinned: boolean): Cell {
  return {
    id: `latency/${transport}/${pinned ? 'pinned' : 'free'}`,
    table: 'Round trip of one byte',
    title: `${transport.toUpperCase()}, ${pinned ? 'pinned' : 'free'}`,
    metrics: METRICS,
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500, ...placement(pinned) }, async (session) => {
        const server = session.agent('host');
        if (transport === 'tcp') await server.ask('serve-stream', { port: PORT });
        else await server.ask('serve-datagrams', { address: SERVER_ADDRESS, port: PORT });
        const { warmUpMs, durationMs } = timing;
        const trips = await session
          .agent('guest')
          .ask(
            'round-trips',
            { transport, address: SERVER_ADDRESS, port: PORT, warmUpMs, durationMs },
            warmUpMs + durationMs + 8000,
          );
        return { p50: trips.p50, p99: trips.p99, count: trips.count, lost: trips.lost };
      }),
  };
}
