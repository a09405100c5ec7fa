/**
 * Through a published port: a client outside connects to a port of the host that leads to a server in the guest. `in` is
 * host to guest, `out` the other way. The client does not come from loopback, and the port is not on it: pasta would
 * carry such a connection past its TAP. With veth, which publishes nothing, the client connects to the guest itself.
 */
import type { ContenderName } from '../contenders.ts';
import { GUEST_ADDRESS, SERVER_ADDRESS } from '../namespaces.ts';
import { withSession } from '../session.ts';
import type { Cell } from '../workload.ts';
import { BULK_METRICS, BULK_PORT, transfer } from './bulk.ts';
import { placement } from './latency.ts';

const CONNECTS_PORT = 7005;
const AT_ONCE = 64;
/** Short whatever the options say: all connections are to one address and port, and each takes a port of the client. */
const WARM_UP_MS = 500;
const DURATION_MS = 1000;

/** Cells of the forward workload. */
export const forwardCells: readonly Cell[] = [
  ...[1500, 65520].flatMap((mtu) => (['in', 'out'] as const).map((way) => bulkCell(way, mtu))),
  {
    id: 'forward/connects',
    table: 'Through a published port',
    title: 'connect, one byte each way, close',
    metrics: [
      { id: 'sequence', title: 'in sequence', unit: '/s', better: 'higher', digits: 0 },
      { id: 'parallel', title: `${AT_ONCE} at a time`, unit: '/s', better: 'higher', digits: 0 },
    ],
    // Its limit is that of the other connection rates.
    without: ['veth'],
    measure: (contender) =>
      withSession({ contender, mtu: 1500, forward: CONNECTS_PORT, ...placement(true) }, async (session) => {
        await session.agent('guest').ask('serve-connections', { port: CONNECTS_PORT });
        const client = session.agent('host');
        const rate = (parallel: number): Promise<{ perSecond: number; failed: number }> =>
          client.ask(
            'connects',
            {
              addresses: [SERVER_ADDRESS],
              port: CONNECTS_PORT,
              parallel,
              warmUpMs: WARM_UP_MS,
              durationMs: DURATION_MS,
            },
            WARM_UP_MS + DURATION_MS + 8000,
          );
        const one = await rate(1);
        const many = await rate(AT_ONCE);
        return { sequence: one.perSecond, parallel: many.perSecond, failed: one.failed + many.failed };
      }),
  },
];

function publishedAt(contender: ContenderName): string {
  return contender === 'veth' ? GUEST_ADDRESS : SERVER_ADDRESS;
}

function bulkCell(way: 'in' | 'out', mtu: number): Cell {
  return {
    id: `forward/${way}/${mtu}`,
    table: 'Through a published port',
    title: `${way}, MTU ${mtu}, 1 stream`,
    metrics: BULK_METRICS,
    measure: (contender, timing) =>
      withSession({ contender, mtu, forward: BULK_PORT }, (session) =>
        transfer(session, way === 'in' ? 'down' : 'up', 1, timing, publishedAt(contender)),
      ),
  };
}
