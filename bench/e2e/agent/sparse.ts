/** One request every now and then, and how long its answer takes. */
import { connectOnce, prepareAddresses, quantile } from './clients.ts';
import type { Reply, Request } from './protocol.ts';
import * as net from './sockets.ts';

/** An answer that takes longer is lost. */
const LOST_AFTER_MS = 1000;
const ECHO_REQUEST = 8;
const IDENTIFIER = 0x1234;
const ICMP_LENGTH = 16;
/** Of the IP packets that a raw socket gets. */
const IP_HEADER = 20;

const at: number = net.base + net.AT_TEXT;
const bytes: Uint8Array = new Uint8Array(net.scratch, net.AT_TEXT, 4096);
const view: DataView = new DataView(net.scratch, net.AT_TEXT, 4096);

/** One request; false: no answer. */
type Ask = (number: number) => boolean;

function connected(fd: number, { address, port }: Request<'sparse'>): number {
  if (fd < 0 || net.connect(fd, address, port) < 0) throw net.failure('connect');
  net.receiveTimeout(fd, LOST_AFTER_MS);
  return fd;
}

/** An echo request with a right checksum; its own answer is the one that counts. */
function ping(fd: number, number: number): boolean {
  bytes.fill(0, 0, ICMP_LENGTH);
  view.setUint8(0, ECHO_REQUEST);
  view.setUint16(4, IDENTIFIER);
  view.setUint16(6, number);
  const sum = ECHO_REQUEST * 256 + IDENTIFIER + number;
  view.setUint16(2, ~((sum & 0xffff) + (sum >>> 16)));
  if (net.send(fd, at, ICMP_LENGTH, 0) !== ICMP_LENGTH) return false;
  while (net.receive(fd, at, 256, 0) === IP_HEADER + ICMP_LENGTH) {
    if (view.getUint8(IP_HEADER) === 0 && view.getUint16(IP_HEADER + 6) === number) return true;
  }
  return false;
}

/** A query for an address, a new name each time. */
function query(fd: number, number: number): boolean {
  const label = `host${number}`;
  bytes.fill(0, 0, 64);
  view.setUint16(0, number);
  view.setUint16(2, 0x0100);
  view.setUint16(4, 1);
  let end = 12;
  for (const part of [label, 'example']) {
    bytes[end++] = part.length;
    for (let i = 0; i < part.length; i++) bytes[end++] = part.charCodeAt(i);
  }
  view.setUint16(end + 1, 1);
  view.setUint16(end + 3, 1);
  if (net.send(fd, at, end + 5, 0) !== end + 5) return false;
  return net.receive(fd, at, 512, 0) > end && view.getUint16(0) === number;
}

function asker(request: Request<'sparse'>): Ask {
  switch (request.kind) {
    case 'connect':
      prepareAddresses([request.address], request.port);
      return () => connectOnce(0);
    case 'tcp':
    case 'udp': {
      const fd = connected(net.open(request.kind === 'tcp' ? net.STREAM : net.DATAGRAM), request);
      if (request.kind === 'tcp') net.noDelay(fd);
      return () => net.send(fd, at, 1, 0) === 1 && net.receive(fd, at, 64, 0) === 1;
    }
    case 'ping': {
      const fd = connected(net.openIcmp(), request);
      return (number) => ping(fd, number);
    }
    case 'dns': {
      const fd = connected(net.open(net.DATAGRAM), request);
      return (number) => query(fd, number);
    }
  }
}

let ask: Ask | undefined;
let asked = '';
let number = 0;

/** What is asked stays open for the next time. The first answer is in no other figure. */
export function sparse(request: Request<'sparse'>): Reply<'sparse'> {
  net.sharpTimers();
  if (request.address !== asked) ask = asker(request);
  asked = request.address;
  const samples: number[] = [];
  let lost = 0;
  const begin = performance.now();
  for (let i = 0; i < request.count; i++) {
    const wait = begin + i * request.everyMs - performance.now();
    if (wait > 0) net.sleepMicroseconds(Math.ceil(wait * 1e3));
    const before = performance.now();
    if (ask?.(number++ & 0xffff)) samples.push((performance.now() - before) * 1e3);
    else lost++;
  }
  const [first = Number.NaN] = samples;
  const sorted = Float64Array.from(samples.slice(1)).sort();
  return { count: request.count, lost, first, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
}
