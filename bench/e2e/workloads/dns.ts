/**
 * DNS by way of the stack, as a guest uses it: 1, 16 and 256 queries outstanding from one socket, and one after the other
 * from new sockets. The resolver is a responder of ours on the host.
 */
import { DNS_ADDRESS, SERVER_ADDRESS } from '../namespaces.ts';
import { withSession } from '../session.ts';
import type { Cell, Metric } from '../workload.ts';
import { placement } from './latency.ts';

const PORT = 53;

const METRICS: readonly Metric[] = [
  { id: 'rate', title: 'answers', unit: '/s', better: 'higher', digits: 0 },
  { id: 'unanswered', title: 'unanswered', unit: '', better: 'lower', digits: 0 },
];

/** Cells of the DNS workload. Where one waits for the other, pinned shows what the stack costs and free mostly wake-ups. */
export const dnsCells: readonly Cell[] = [
  ...[true, false].map((pinned) => dnsCell('1', '1 outstanding', 1, false, pinned)),
  ...[16, 256].map((outstanding) =>
    dnsCell(String(outstanding), `${outstanding} outstanding`, outstanding, false),
  ),
  ...[true, false].map((pinned) => dnsCell('fresh', 'one by one from new sockets', 1, true, pinned)),
];

function dnsCell(name: string, title: string, outstanding: number, fresh: boolean, pinned?: boolean): Cell {
  const place = pinned ? 'pinned' : 'free';
  return {
    id: pinned === undefined ? `dns/${name}` : `dns/${name}/${place}`,
    table: 'DNS queries',
    title: pinned === undefined ? title : `${title}, ${place}`,
    metrics: METRICS,
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500, ...placement(pinned === true) }, async (session) => {
        await session.agent('host').ask('serve-dns', { address: SERVER_ADDRESS, port: PORT });
        const { warmUpMs, durationMs } = timing;
        const address = contender === 'veth' ? SERVER_ADDRESS : DNS_ADDRESS;
        const request = { address, port: PORT, outstanding, fresh, warmUpMs, durationMs };
        const result = await session.agent('guest').ask('dns-ask', request, warmUpMs + durationMs + 8000);
        return { rate: result.perSecond, unanswered: result.unanswered };
      }),
  };
}
