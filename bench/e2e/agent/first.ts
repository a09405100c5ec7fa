/**
 * What a guest does first: each operation begins before there is a network, tries until there is one, and goes on at once
 * with the rest. The calls of these loops are made once before on the loopback device (bench/e2e/workloads/cold.ts), so that
 * what is cold is the stack.
 */
import { connectOnce, connectsAtOnce, prepareAddresses } from './clients.ts';
import type { Reply, Request } from './protocol.ts';
import * as net from './sockets.ts';

const RETRY_MICROSECONDS = 500;
/** A datagram not answered within this time is lost, and all those that are on their way with it. */
const LOST_AFTER_MS = 200;
const DATAGRAM = 64;

const at: number = net.blockAt;

/** Call `attempt` until it is true. */
function retry(attempt: () => boolean, timeoutMs: number): void {
  const deadline = net.monotonicMs() + timeoutMs;
  net.sharpTimers();
  while (!attempt()) {
    if (net.monotonicMs() > deadline) throw new Error(`no network within ${timeoutMs} ms`);
    net.sleepMicroseconds(RETRY_MICROSECONDS);
  }
}

/** The first connections. */
export function firstConnects(request: Request<'first-connects'>): Reply<'first-connects'> {
  const { addresses, port, parallel, count, timeoutMs } = request;
  prepareAddresses(addresses, port);
  retry(() => connectOnce(0), timeoutMs);
  const firstAtMs = net.monotonicMs();
  let failed = 0;
  if (parallel === 1) {
    for (let i = 1; i < count; i++) if (!connectOnce(i % addresses.length)) failed++;
  } else {
    failed = connectsAtOnce(addresses.length, parallel, 0, timeoutMs, count - 1).failed;
  }
  return { firstAtMs, lastAtMs: net.monotonicMs(), failed };
}

/** The first bytes of bulk traffic. */
export function firstBytes(request: Request<'first-bytes'>): Reply<'first-bytes'> {
  const { way, address, port, bytes, timeoutMs } = request;
  let fd = -1;
  retry(() => {
    fd = net.open(net.STREAM);
    if (net.connect(fd, address, port) === 0) return true;
    net.close(fd);
    return false;
  }, timeoutMs);
  const firstAtMs = net.monotonicMs();
  const deadline = firstAtMs + timeoutMs;
  net.receiveTimeout(fd, timeoutMs);
  net.sendTimeout(fd, timeoutMs);
  const length = net.putText(`${way === 'up' ? 'u' : 'd'}${String(bytes).padStart(10, '0')}`);
  net.send(fd, net.base + net.AT_TEXT, length, 0);
  let moved = 0;
  while (moved < bytes && net.monotonicMs() < deadline) {
    const most = Math.min(net.BLOCK, bytes - moved);
    const count = way === 'up' ? net.send(fd, at, most, 0) : net.receive(fd, at, most, 0);
    if (count <= 0) break;
    moved += count;
  }
  if (moved === 0) throw net.failure('no byte moved');
  // The server says when it has the last one.
  if (moved === bytes) net.receive(fd, at, 1, 0);
  net.close(fd);
  return { firstAtMs, lastAtMs: net.monotonicMs(), moved };
}

/** The first datagrams. */
export function firstDatagrams(request: Request<'first-datagrams'>): Reply<'first-datagrams'> {
  const { address, port, count, window, timeoutMs } = request;
  const fd = net.open(net.DATAGRAM);
  retry(() => net.connect(fd, address, port) === 0, timeoutMs);
  net.receiveTimeout(fd, LOST_AFTER_MS);
  const deadline = net.monotonicMs() + timeoutMs;
  let firstAtMs = 0;
  let answered = 0;
  let lost = 0;
  let sent = 0;
  while (answered + lost < count && net.monotonicMs() < deadline) {
    while (sent < count && sent - answered - lost < window) {
      net.send(fd, at, DATAGRAM, 0);
      sent++;
    }
    if (net.receive(fd, at, DATAGRAM, 0) > 0) {
      if (answered++ === 0) firstAtMs = net.monotonicMs();
    } else {
      lost = sent - answered;
    }
  }
  net.close(fd);
  if (answered === 0) throw new Error('no datagram was answered');
  return { firstAtMs, lastAtMs: net.monotonicMs(), lost };
}
