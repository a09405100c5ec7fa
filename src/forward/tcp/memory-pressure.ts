/**
 * What to give up when packet memory runs short (RFC 6429, RQ-47): connections whose guest has kept its window shut.
 * Their bytes wait for a reader that may never come, and answered window probes would keep them for ever, while
 * connections that do read get nothing.
 */
import { Timer } from '../../stack/tcp/timers.ts';
import type { TcpFlow } from './flow.ts';

/** Time between window probes from which on a shut window is no short pause: it has been shut for twice as long. */
const STALLED_PROBE_MS = 1000;

/** Whether the flow holds bytes for a guest that has not taken any for a while. */
function isStalled(flow: TcpFlow): boolean {
  const c = flow.connection;
  return (
    c.sndWnd === 0 &&
    c.sndQueue.length > 0 &&
    c.persistMs >= STALLED_PROBE_MS &&
    c.timers[Timer.Persist] !== Number.POSITIVE_INFINITY
  );
}

/** Cut stalled flows, longest shut first, until `enough` holds; how many were cut. */
export function cutStalled(flows: TcpFlow[], enough: () => boolean): number {
  const stalled = flows.filter(isStalled);
  stalled.sort((a, b) => b.connection.persistMs - a.connection.persistMs);
  return cutInOrder(stalled, enough);
}

/** Cut stalled flows, then those that hold most, until `enough` holds; how many were cut. */
export function cutLargest(flows: TcpFlow[], enough: () => boolean): number {
  const cut = cutStalled(flows, enough);
  const left = flows.filter((flow) => !flow.over && bytesHeld(flow) > 0);
  left.sort((a, b) => bytesHeld(b) - bytesHeld(a));
  return cut + cutInOrder(left, enough);
}

function bytesHeld({ connection: { sndQueue, rcvQueue } }: TcpFlow): number {
  return sndQueue.length + rcvQueue.readable + rcvQueue.outOfOrder;
}

function cutInOrder(flows: readonly TcpFlow[], enough: () => boolean): number {
  let cut = 0;
  for (const flow of flows) {
    if (enough()) break;
    flow.abort();
    cut++;
  }
  return cut;
}
