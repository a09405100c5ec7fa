/**
 * Paced datagrams in batches of `sendmmsg`/`recvmmsg`, for either end.
 *
 * Pacing: between batches the sender sleeps some tens of microseconds and then sends what has become due, so that it
 * leaves the processor to the stack. What it could not send in time is forgone, never made up for in a long burst; the
 * answer says how many were really sent.
 */
import { addressOf } from '../../../src/sys/libc.ts';
import type { Reply, Request } from './protocol.ts';
import * as net from './sockets.ts';

/** Datagrams in one system call. */
const BATCH = 64;
const SLOT = 2048;
/** Socket buffers of the measuring ends: large enough that a loss is the stack's. */
const BUFFER_BYTES = 16 * 1024 * 1024;
/** More than this is not caught up with: it would be a burst that fits in no queue. */
const MAX_OWED = 4 * BATCH;
const PAUSE_MICROSECONDS = 30;
/** First word of a datagram that only opens a flow. */
const GREETING = 0xffffffff;

// struct mmsghdr on 64-bit Linux: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48, msg_len 56.
const HEADER = 64;
const AT_IOVECS = BATCH * HEADER;
const AT_SLOTS = AT_IOVECS + BATCH * 16;
const memory = new ArrayBuffer(AT_SLOTS + BATCH * SLOT);
const words = new DataView(memory);
const base: number = addressOf(memory);

let socket = -1;

function layOut(length: number): void {
  for (let i = 0; i < BATCH; i++) {
    words.setBigUint64(i * HEADER + 16, BigInt(base + AT_IOVECS + i * 16), true);
    words.setBigUint64(i * HEADER + 24, 1n, true);
    words.setBigUint64(AT_IOVECS + i * 16, BigInt(base + AT_SLOTS + i * SLOT), true);
    words.setBigUint64(AT_IOVECS + i * 16 + 8, BigInt(length), true);
  }
}

function mark(trial: number): void {
  for (let i = 0; i < BATCH; i++) words.setUint32(AT_SLOTS + i * SLOT, trial);
}

/** Make the socket. */
export function openSocket(request: Request<'datagram-open'>): Reply<'datagram-open'> {
  net.sharpTimers();
  socket = net.serve(net.DATAGRAM, request.port, request.address);
  net.largeBuffers(socket, BUFFER_BYTES);
  if (request.peer !== undefined && net.connect(socket, request.peer.address, request.peer.port) < 0) {
    throw net.failure('connect');
  }
  return {};
}

/** Say hello. */
export function greet(): Reply<'datagram-greet'> {
  mark(GREETING);
  if (net.send(socket, base + AT_SLOTS, 64, 0) !== 64) throw net.failure('send');
  return {};
}

/** Hear it, and connect to whom it came from. */
export function meet(request: Request<'datagram-meet'>): Reply<'datagram-meet'> {
  net.receiveTimeout(socket, request.timeoutMs);
  if (net.receiveFrom(socket, base + AT_SLOTS, SLOT) < 0) throw net.failure('no greeting');
  const sender = net.lastSender();
  if (net.connect(socket, sender.address, sender.port) < 0) throw net.failure('connect');
  return sender;
}

/** Send at a rate. */
export function sendPaced(request: Request<'datagram-send'>): Reply<'datagram-send'> {
  layOut(request.size);
  mark(request.trial);
  const begin = performance.now();
  let sent = 0;
  let forgone = 0;
  let elapsed = 0;
  for (; elapsed < request.durationMs; elapsed = performance.now() - begin) {
    let due = BATCH;
    if (request.perSecond > 0) {
      const owed = Math.floor((elapsed * request.perSecond) / 1e3) - sent - forgone;
      due = Math.min(BATCH, owed);
      forgone += Math.max(0, owed - MAX_OWED);
      if (due < 1) {
        net.sleepMicroseconds(PAUSE_MICROSECONDS);
        continue;
      }
    }
    const count = net.sendMany(socket, base, due, 0);
    if (count > 0) sent += count;
  }
  return { sent, elapsedMs: elapsed };
}

/** Count what arrives. */
export function receiveCounted(request: Request<'datagram-receive'>): Reply<'datagram-receive'> {
  layOut(SLOT);
  net.receiveTimeout(socket, request.quietMs);
  const deadline = performance.now() + request.limitMs;
  let received = 0;
  let first = 0;
  let last = 0;
  for (let now = performance.now(); now < deadline; ) {
    // MSG_WAITFORONE: wait for the first datagram only.
    const count = net.receiveMany(socket, base, BATCH, 0x10000, 0);
    now = performance.now();
    if (count <= 0) {
      if (received > 0) break;
      continue;
    }
    for (let i = 0; i < count; i++) {
      if (words.getUint32(AT_SLOTS + i * SLOT) !== request.trial) continue;
      if (received++ === 0) first = now;
      last = now;
    }
  }
  return { received, spanMs: last - first };
}
