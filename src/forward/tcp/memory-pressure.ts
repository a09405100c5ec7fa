/**
 * What to give up when packet memory runs short (RFC 6429, RQ-47): connections whose guest has kept its window shut.
 * Their bytes wait for a reader that may never come, and answered window probes would keep them for ever, while
 * connections that do read get nothing.
 */
import type { TcpFlow } from './flow.ts';

/** Time between window probes from which on a shut window is no short pause: it has been shut for twice as long. */
const STALLED_PROBE_MS = 1000;

/** Cut stalled flows, longest shut first, until `enough` holds; how many were cut. */
export function cutStalled(flows: TcpFlow[], enough: () => boolean): number {
  const stalled = flows.filter((flow) => flow.connection.shutProbeMs >= STALLED_PROBE_MS);
  stalled.sort((a, b) => b.connection.shutProbeMs - a.connection.shutProbeMs);
  return cutInOrder(stalled, enough);
}

/** Cut stalled flows, then those that hold most, until `enough` holds; how many were cut. */
export function cutLargest(flows: TcpFlow[], enough: () => boolean): number {
  const cut = cutStalled(flows, enough);
  const left = flows.filter((flow) => !flow.over && flow.connection.bytesHeld > 0);
  left.sort((a, b) => b.connection.bytesHeld - a.connection.bytesHeld);
  return cut + cutInOrder(left, enough);
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
