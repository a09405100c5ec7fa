/** The TCP clients in the guest namespace, and the one-byte round trips of both transports. */
import type { Reply, Request } from './protocol.ts';
import * as net from './sockets.ts';

/** More round trips than this are not kept one by one (a run of 10 s at 100,000/s). */
const MAX_SAMPLES = 1_000_000;
/** A datagram not answered within this time counts as lost. */
const LOST_AFTER_MS = 200;
/** Where the prepared addresses of rotating clients begin in the scratch block, 16 bytes each. */
const AT_ADDRESSES = 8192;

const at: number = net.base + net.AT_BYTE;

/** Connect until it works. */
export function reach(request: Request<'reach'>): Reply<'reach'> {
  const deadline = net.monotonicMs() + request.timeoutMs;
  net.sharpTimers();
  const epoll = net.epollOpen();
  while (net.monotonicMs() < deadline) {
    const fd = net.open(net.STREAM | net.NONBLOCK);
    const result = net.connect(fd, request.address, request.port);
    if (result === 0 || net.wouldWait()) {
      net.epollAdd(epoll, fd, net.EPOLLOUT);
      const events = net.epollWait(epoll, 1000);
      const connected = events === 1 && (net.eventMask(0) & net.EPOLL_BROKEN) === 0;
      const atMs = net.monotonicMs();
      net.close(fd);
      if (connected) {
        net.close(epoll);
        return { atMs };
      }
    } else {
      net.close(fd);
    }
    net.sleepMicroseconds(300);
  }
  throw new Error(`no connection to ${request.address} within ${request.timeoutMs} ms`);
}

/** One byte there and back until the time is over; the warm-up is the same without keeping the figures. */
export function roundTrips(request: Request<'round-trips'>): Reply<'round-trips'> {
  const fd = net.open(request.transport === 'tcp' ? net.STREAM : net.DATAGRAM);
  if (net.connect(fd, request.address, request.port) < 0) throw net.failure('connect');
  if (request.transport === 'tcp') net.noDelay(fd);
  net.receiveTimeout(fd, request.transport === 'tcp' ? 5000 : LOST_AFTER_MS);
  const samples = new Float64Array(MAX_SAMPLES);
  exchange(fd, request.warmUpMs, samples, request.transport);
  const { count, lost } = exchange(fd, request.durationMs, samples, request.transport);
  net.close(fd);
  if (count === 0) throw new Error('no round trip succeeded');
  const sorted = samples.subarray(0, count).sort();
  return { count, lost, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
}

function exchange(
  fd: number,
  durationMs: number,
  samples: Float64Array,
  transport: 'tcp' | 'udp',
): { count: number; lost: number } {
  const end = performance.now() + durationMs;
  let count = 0;
  let lost = 0;
  for (let before = performance.now(); before < end; ) {
    if (net.send(fd, at, 1, 0) !== 1) throw net.failure('send');
    const length = net.receive(fd, at, 64, 0);
    const after = performance.now();
    if (length === 1) {
      if (count < MAX_SAMPLES) samples[count++] = (after - before) * 1e3;
    } else if (transport === 'udp' && net.wouldWait()) {
      lost++;
    } else {
      throw net.failure('receive');
    }
    before = after;
  }
  return { count, lost };
}

/** Of `sorted`, what this share is not above. */
export function quantile(sorted: Float64Array, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

/** Lay out `addresses` for {@link connectOnce} and {@link connectsAtOnce}. */
export function prepareAddresses(addresses: readonly string[], port: number): void {
  addresses.forEach((address, index) => {
    net.prepareAddress(address, port, AT_ADDRESSES + index * 16);
  });
}

/** Connect, byte, close: `parallel` 1 with blocking calls, otherwise edge-triggered. */
export function connects(request: Request<'connects'>): Reply<'connects'> {
  prepareAddresses(request.addresses, request.port);
  const count = request.addresses.length;
  if (request.parallel === 1) {
    connectsInTurn(count, request.warmUpMs);
    return connectsInTurn(count, request.durationMs);
  }
  return connectsAtOnce(count, request.parallel, request.warmUpMs, request.durationMs);
}

function connectsInTurn(addresses: number, durationMs: number): { perSecond: number; failed: number } {
  const begin = performance.now();
  let done = 0;
  let failed = 0;
  let now = begin;
  while (now - begin < durationMs) {
    if (connectOnce((done + failed) % addresses)) done++;
    else failed++;
    now = performance.now();
  }
  return { perSecond: (done * 1e3) / (now - begin), failed };
}

/** Connect to the prepared address `index`, one byte there and back, close; false: it failed. */
export function connectOnce(index: number): boolean {
  const fd = net.open(net.STREAM);
  const offset = AT_ADDRESSES + index * 16;
  const ok =
    net.connectAt(fd, offset) === 0 && net.send(fd, at, 1, 0) === 1 && net.receive(fd, at, 64, 0) === 1;
  net.close(fd);
  return ok;
}

/** `parallel` connections at a time, until the time is over or `most` have ended. */
export function connectsAtOnce(
  addresses: number,
  parallel: number,
  warmUpMs: number,
  durationMs: number,
  most: number = Number.POSITIVE_INFINITY,
): { perSecond: number; failed: number } {
  const epoll = net.epollOpen();
  const asked = new Set<number>(); // descriptors whose byte is on its way
  let started = 0;
  let done = 0;
  let failed = 0;
  const begin = (): void => {
    const fd = net.open(net.STREAM | net.NONBLOCK);
    if (fd < 0) throw net.failure('socket');
    const result = net.connectAt(fd, AT_ADDRESSES + (started++ % addresses) * 16);
    if (result < 0 && !net.wouldWait()) throw net.failure('connect');
    net.epollAdd(epoll, fd, net.EPOLLIN | net.EPOLLOUT | net.EPOLLET);
  };
  for (let i = 0; i < parallel; i++) begin();
  const warm = performance.now() + warmUpMs;
  const end = warm + durationMs;
  let from = 0;
  let now = 0;
  for (now = performance.now(); now < end && done + failed < most; now = performance.now()) {
    if (from === 0 && now >= warm) {
      from = now;
      done = 0;
      failed = 0;
    }
    const count = net.epollWait(epoll, Math.ceil(end - now));
    for (let i = 0; i < count; i++) {
      const fd = net.eventFd(i);
      const mask = net.eventMask(i);
      let over = (mask & net.EPOLL_BROKEN) !== 0;
      if (!over && !asked.has(fd)) {
        if ((mask & net.EPOLLOUT) === 0) continue;
        over = net.send(fd, at, 1, 0) !== 1;
        asked.add(fd);
      }
      if (!over && (mask & net.EPOLLIN) === 0) continue;
      if (!over && net.receive(fd, at, 64, 0) === 1) done++;
      else failed++;
      asked.delete(fd);
      net.close(fd);
      begin();
    }
  }
  return { perSecond: (done * 1e3) / (now - from), failed };
}

const held: number[] = [];

/** Open connections and keep them. */
export function hold(request: Request<'hold'>): Reply<'hold'> {
  prepareAddresses(request.addresses, request.port);
  const epoll = net.epollOpen();
  const deadline = performance.now() + request.timeoutMs;
  let started = 0;
  let opened = 0;
  let failed = 0;
  while (opened + failed < request.count && performance.now() < deadline) {
    while (started < request.count && started - opened - failed < request.atOnce) {
      const fd = net.open(net.STREAM | net.NONBLOCK);
      if (fd < 0) throw net.failure('socket');
      const address = AT_ADDRESSES + (started++ % request.addresses.length) * 16;
      if (net.connectAt(fd, address) < 0 && !net.wouldWait()) throw net.failure('connect');
      net.epollAdd(epoll, fd, net.EPOLLOUT | net.EPOLLET);
    }
    const count = net.epollWait(epoll, 100);
    for (let i = 0; i < count; i++) {
      const fd = net.eventFd(i);
      if ((net.eventMask(i) & net.EPOLL_BROKEN) !== 0) {
        failed++;
        net.close(fd);
      } else {
        opened++;
        held.push(fd);
      }
    }
  }
  net.close(epoll); // the held descriptors leave the set with it
  return { opened, failed: request.count - opened };
}

/** Close what {@link hold} opened. */
export function release(): Reply<'release'> {
  const closed = held.length;
  for (const fd of held) net.close(fd);
  held.length = 0;
  return { closed };
}
