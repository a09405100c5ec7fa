/** DNS: a responder that is faster than any stack, and clients with a number of queries outstanding. */
import { addressOf } from '../../../src/sys/libc.ts';
import type { Reply, Request } from './protocol.ts';
import * as net from './sockets.ts';

/** Messages in one system call. */
const BATCH = 64;
const SLOT = 512;
const NAME = 28;
const BUFFER_BYTES = 16 * 1024 * 1024;
/** With no answer for this long, those that are out count as unanswered. */
const LOST_AFTER_MS = 500;
const WAIT_FOR_ONE = 0x10000;
/** `www.example.com`, A, IN, with recursion desired. */
const QUERY = Buffer.from('00000100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
/** The record of an answer: the name asked for, A, IN, an hour, 192.0.2.1. */
const RECORD = Buffer.from('c00c0001000100000e100004c0000201', 'hex');

// struct mmsghdr on 64-bit Linux: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48, msg_len 56.
const HEADER = 64;
const AT_IOVECS = BATCH * HEADER;
const AT_NAMES = AT_IOVECS + BATCH * 16;
const AT_SLOTS = AT_NAMES + BATCH * 32;
const SIZE = AT_SLOTS + BATCH * SLOT;

/** Room for a batch of messages. */
class Messages {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly base: number;

  constructor(withNames: boolean) {
    const memory = new ArrayBuffer(SIZE);
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
    this.base = addressOf(memory);
    for (let i = 0; i < BATCH; i++) {
      if (withNames) this.view.setBigUint64(i * HEADER, BigInt(this.base + AT_NAMES + i * 32), true);
      this.view.setBigUint64(i * HEADER + 16, BigInt(this.base + AT_IOVECS + i * 16), true);
      this.view.setBigUint64(i * HEADER + 24, 1n, true);
      this.view.setBigUint64(AT_IOVECS + i * 16, BigInt(this.base + AT_SLOTS + i * SLOT), true);
      this.setLength(i, SLOT);
    }
  }

  setLength(i: number, length: number): void {
    this.view.setUint32(AT_IOVECS + i * 16 + 8, length, true);
  }

  setNameLength(i: number): void {
    this.view.setUint32(i * HEADER + 8, NAME, true);
  }

  received(i: number): number {
    return this.view.getUint32(i * HEADER + 56, true);
  }
}

/** A name server for one name. */
export function serveDns(address: string, port: number, ready: () => void): never {
  const fd = net.serve(net.DATAGRAM, port, address);
  net.largeBuffers(fd, BUFFER_BYTES);
  const messages = new Messages(true);
  ready();
  for (;;) {
    for (let i = 0; i < BATCH; i++) {
      messages.setNameLength(i);
      messages.setLength(i, SLOT);
    }
    const count = net.receiveMany(fd, messages.base, BATCH, WAIT_FOR_ONE, 0);
    for (let i = 0; i < count; i++) {
      const at = AT_SLOTS + i * SLOT;
      const length = messages.received(i);
      messages.view.setUint16(at + 2, 0x8180);
      messages.view.setUint16(at + 6, 1);
      messages.bytes.set(RECORD, at + length);
      messages.setLength(i, length + RECORD.length);
    }
    if (count > 0) net.sendMany(fd, messages.base, count, 0);
  }
}

/** Ask with `outstanding` queries at a time. */
export function askDns(request: Request<'dns-ask'>): Reply<'dns-ask'> {
  const run = request.fresh ? askFresh : askMany;
  run(request, request.warmUpMs);
  return run(request, request.durationMs);
}

function connected({ address, port }: Request<'dns-ask'>): number {
  const fd = net.open(net.DATAGRAM);
  if (net.connect(fd, address, port) < 0) throw net.failure('connect');
  net.receiveTimeout(fd, LOST_AFTER_MS);
  return fd;
}

function askMany(request: Request<'dns-ask'>, durationMs: number): Reply<'dns-ask'> {
  const fd = connected(request);
  net.largeBuffers(fd, BUFFER_BYTES);
  const out = new Messages(false);
  const back = new Messages(false);
  for (let i = 0; i < BATCH; i++) {
    out.bytes.set(QUERY, AT_SLOTS + i * SLOT);
    out.setLength(i, QUERY.length);
  }
  /** By id. */
  const isOut = new Uint8Array(65536);
  const begin = performance.now();
  let id = 0;
  let waiting = 0;
  let answered = 0;
  let unanswered = 0;
  for (let isOver = false; !isOver || waiting > 0; ) {
    isOver ||= performance.now() - begin >= durationMs;
    while (!isOver && waiting < request.outstanding) {
      const count = Math.min(BATCH, request.outstanding - waiting);
      for (let i = 0; i < count; i++) out.view.setUint16(AT_SLOTS + i * SLOT, (id + i) & 0xffff);
      const sent = net.sendMany(fd, out.base, count, 0);
      if (sent <= 0) throw net.failure('sendmmsg');
      for (let i = 0; i < sent; i++) isOut[(id + i) & 0xffff] = 1;
      id += sent;
      waiting += sent;
    }
    const count = net.receiveMany(fd, back.base, BATCH, WAIT_FOR_ONE, 0);
    if (count <= 0) {
      unanswered += waiting;
      waiting = 0;
      isOut.fill(0);
    }
    for (let i = 0; i < count; i++) {
      const at = AT_SLOTS + i * SLOT;
      const got = back.view.getUint16(at);
      if (isOut[got] === 0) continue;
      isOut[got] = 0;
      waiting--;
      if (back.view.getUint16(at + 2) === 0x8180 && back.view.getUint16(at + 6) === 1) answered++;
      else unanswered++;
    }
  }
  const seconds = (performance.now() - begin) / 1e3;
  net.close(fd);
  return { perSecond: answered / seconds, unanswered };
}

/** One query after the other, each from a new socket. */
function askFresh(request: Request<'dns-ask'>, durationMs: number): Reply<'dns-ask'> {
  const query = new Messages(false);
  query.bytes.set(QUERY, AT_SLOTS);
  const at = query.base + AT_SLOTS;
  const begin = performance.now();
  let id = 0;
  let answered = 0;
  let unanswered = 0;
  while (performance.now() - begin < durationMs) {
    query.view.setUint16(AT_SLOTS, ++id & 0xffff);
    query.view.setUint16(AT_SLOTS + 2, 0x0100);
    query.view.setUint16(AT_SLOTS + 6, 0);
    const fd = connected(request);
    if (net.send(fd, at, QUERY.length, 0) !== QUERY.length) throw net.failure('send');
    const length = net.receive(fd, at, SLOT, 0);
    const isAnswer = length > QUERY.length && query.view.getUint16(AT_SLOTS + 2) === 0x8180;
    if (isAnswer && query.view.getUint16(AT_SLOTS) === (id & 0xffff)) answered++;
    else unanswered++;
    net.close(fd);
  }
  return { perSecond: (answered * 1e3) / (performance.now() - begin), unanswered };
}
