/**
 * One request now and then, pinned, of a stack that has carried nothing before: the first answer, then one request every 100 ms,
 * then one every 10 ms.
 */

import type { SparseKind } from '../agent/protocol.ts';
import type { Agent } from '../agent-client.ts';
import { DNS_ADDRESS, SERVER_ADDRESS } from '../namespaces.ts';
import { cpuMilliseconds } from '../proc-stats.ts';
import { withColdSession } from '../session.ts';
import type { Cell, Figures, Metric } from '../workload.ts';
import { idle, orDeath, rehearse } from './cold.ts';
import { placement } from './latency.ts';

/** Requests at each pace, ms. */
const PACES = [
  [100, 20],
  [10, 200],
] as const;
const REHEARSED = 200;
const PORT = 7007;
const DNS_PORT = 53;

const TITLES: Record<SparseKind, string> = {
  tcp: 'TCP, a byte there and back',
  connect: 'connect, a byte there and back, close',
  udp: 'UDP, a byte there and back',
  ping: 'ping',
  dns: 'DNS query',
};

const METRICS: readonly Metric[] = [
  microseconds('first', 'the first'),
  ...PACES.flatMap(([everyMs]) => [
    microseconds(`p50at${everyMs}`, `every ${everyMs} ms: p50`),
    microseconds(`p99at${everyMs}`, `every ${everyMs} ms: p99`),
    microseconds(`cpuAt${everyMs}`, `every ${everyMs} ms: stack CPU each`),
  ]),
];

/** Cells of the sparse workload. */
export const sparseCells: readonly Cell[] = (['tcp', 'connect', 'udp', 'ping', 'dns'] as const).map(
  sparseCell,
);

function microseconds(id: string, title: string): Metric {
  return { id, title, unit: 'µs', better: 'lower', digits: 0 };
}

function sparseCell(kind: SparseKind): Cell {
  return {
    id: `sparse/${kind}`,
    table: 'Sparse traffic',
    title: TITLES[kind],
    metrics: METRICS,
    without: ['veth'],
    measure: (contender) =>
      withColdSession({ contender, mtu: 1500, awaitReady: false, ...placement(true) }, async (session) => {
        const port = kind === 'dns' ? DNS_PORT : PORT;
        const ask = (agent: Agent, address: string, everyMs: number, count: number): Promise<Asked> =>
          agent.ask('sparse', { kind, address, port, everyMs, count }, everyMs * count + 10_000);
        const client = await rehearse(
          session,
          (agent, address) => serve(agent, kind, address),
          (agent, address) => ask(agent, address, 0, REHEARSED),
        );
        const stack = await session.start();
        await idle(session, stack);
        const address = kind === 'dns' ? DNS_ADDRESS : SERVER_ADDRESS;
        const figures: Figures = { lost: 0 };
        for (const [everyMs, count] of PACES) {
          const before = cpuMilliseconds(stack.pid as number);
          const asked = await orDeath(stack, ask(client, address, everyMs, count));
          figures['first'] ??= asked.first;
          figures[`p50at${everyMs}`] = asked.p50;
          figures[`p99at${everyMs}`] = asked.p99;
          figures[`cpuAt${everyMs}`] = ((cpuMilliseconds(stack.pid as number) - before) * 1e3) / count;
          figures['lost'] = (figures['lost'] ?? 0) + asked.lost;
        }
        return figures;
      }),
  };
}

interface Asked {
  readonly first: number;
  readonly p50: number;
  readonly p99: number;
  readonly lost: number;
}

async function serve(agent: Agent, kind: SparseKind, address: string): Promise<void> {
  if (kind === 'tcp') await agent.ask('serve-stream', { port: PORT });
  else if (kind === 'connect') await agent.ask('serve-connections', { port: PORT });
  else if (kind === 'udp') await agent.ask('serve-datagrams', { address, port: PORT });
  else if (kind === 'dns') await agent.ask('serve-names', { address });
}
