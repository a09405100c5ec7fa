/**
 * A guest on a link that is no interface, as small as can be, so that what is measured is the stack at the other end: one TCP
 * connection to a server outside, whose bytes are all zero. It knows of loss only that it ends in silence, and then begins
 * again at what was acknowledged.
 *
 *     guest.js stream|dgram PATH up|down MTU SECONDS
 *
 * `stream`: connects to PATH. `dgram`: binds PATH.guest, and sends to PATH. Prints the bytes that went through and the ms that
 * took, after half a second that does not count; and a line "go" when it begins to count.
 */
import { putLength } from '../../src/device/framing.ts';
import { sumBytes } from '../../src/stack/wire/checksum.ts';
import { EPOLLIN, EPOLLOUT, Epoll } from '../../src/sys/epoll.ts';
import { read, write } from '../../src/sys/io.ts';
import { IOVEC_SIZE, Memory } from '../../src/sys/memory.ts';
import {
  AF_UNIX,
  bind,
  connect,
  MMSGHDR_SIZE,
  MSGHDR_SIZE,
  putMsghdr,
  putSockaddrUnix,
  recvmmsg,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  sendmmsg,
  setsockoptInt,
  socket,
} from '../../src/sys/socket.ts';

const [form = '', path = '', way = '', mtuText = '', secondsText = ''] = process.argv.slice(2);
const isStream = form === 'stream';
const isUp = way === 'up';
const mtu = Number(mtuText);
const durationMs = Number(secondsText) * 1000;
const WARM_UP_MS = 500;
const RETRY_MS = 200;

const GUEST = 0x0a000264;
const GATEWAY = 0x0a000202;
const SERVER = 0xc6336401;
const PORT = isUp ? 5301 : 5302;
const OUR_PORT = 40_000;
const SHIFT = 8;
const WINDOW = 4 * 1024 * 1024;

/** In front of a frame on a stream. */
const PREFIX = isStream ? 4 : 0;
const IP_AT = 14;
const TCP_AT = 34;
const HEADERS = 54;
const FRAMES = 64;
const mss = mtu - 40;
const SLOT = Math.ceil((PREFIX + HEADERS + mss) / 64) * 64;

const NAME_AT = 0;
const OUT_AT = 4096;
const IN_AT: number = OUT_AT + (FRAMES + 4) * SLOT;
const IN_BYTES = 1024 * 1024;
const ROOM = 69_632;
const memory = new Memory(new ArrayBuffer(IN_AT + Math.max(IN_BYTES, FRAMES * ROOM) + 65_536), 65_536);
const { view, structures } = memory;
const bytes = new Uint8Array(view.buffer);

function fail(what: string, result: number): never {
  throw new Error(`${what}: errno ${-result}`);
}

function unixSocket(): number {
  const fd = socket(AF_UNIX, isStream ? SOCK_STREAM : SOCK_DGRAM, 0);
  for (const option of [SO_SNDBUF, SO_RCVBUF])
    setsockoptInt(memory, fd, SOL_SOCKET, option, 4 * 1024 * 1024, NAME_AT);
  if (!isStream) {
    const bound = bind(memory, fd, NAME_AT, putSockaddrUnix(memory, NAME_AT, Buffer.from(`${path}.guest`)));
    if (bound < 0) fail('bind', bound);
  }
  const result = connect(memory, fd, NAME_AT, putSockaddrUnix(memory, NAME_AT, Buffer.from(path)));
  if (result < 0) fail('connect', result);
  return fd;
}

const fd = unixSocket();
const epoll = new Epoll(structures, 4);
epoll.add(fd, EPOLLIN, 0, 0);

const outHeaders = structures.region(FRAMES * MMSGHDR_SIZE);
const outIovecs = structures.region(FRAMES * IOVEC_SIZE);
const inHeaders = structures.region(FRAMES * MMSGHDR_SIZE);
const inIovecs = structures.region(FRAMES * IOVEC_SIZE);
for (let i = 0; i < FRAMES; i++) {
  memory.putIovec(inIovecs + i * IOVEC_SIZE, 0, IN_AT + i * ROOM, ROOM);
  putMsghdr(memory, inHeaders + i * MMSGHDR_SIZE, 0, 0, inIovecs + i * IOVEC_SIZE, 1, 0, 0);
  putMsghdr(memory, outHeaders + i * MMSGHDR_SIZE, 0, 0, outIovecs + i * IOVEC_SIZE, 1, 0, 0);
}

/** Frames of a batch: packed one behind the other on a stream, else one a slot. */
let outBytes = 0;
let outFrames = 0;
let outDone = 0;
let waitsForRoom = false;
/** Something else than data was among them, and where payload goes is not zero any more. */
let isDirty = false;

/** Whether there was room for all. */
function flush(): boolean {
  while (isStream ? outDone < outBytes : outDone < outFrames) {
    const n = isStream
      ? write(memory, fd, OUT_AT + outDone, outBytes - outDone)
      : sendmmsg(memory, fd, outHeaders + outDone * MMSGHDR_SIZE, outFrames - outDone);
    if (n <= 0) {
      if (!waitsForRoom) epoll.modify(fd, EPOLLIN | EPOLLOUT, 0, 0);
      waitsForRoom = true;
      return false;
    }
    outDone += n;
  }
  if (isUp && isDirty) bytes.fill(0, OUT_AT, IN_AT);
  isDirty = false;
  outBytes = 0;
  outFrames = 0;
  outDone = 0;
  if (waitsForRoom) epoll.modify(fd, EPOLLIN, 0, 0);
  waitsForRoom = false;
  return true;
}

/** Where the next frame goes; its payload is zero already. */
function frameAt(): number {
  return isStream ? OUT_AT + outBytes + PREFIX : OUT_AT + outFrames * SLOT;
}

function push(at: number, length: number): void {
  if (isStream) putLength(bytes, at - PREFIX, length, 'be32');
  else memory.putIovec(outIovecs + outFrames * IOVEC_SIZE, 0, at, length);
  outBytes += PREFIX + length;
  outFrames++;
}

const gatewayMac = new Uint8Array(6).fill(0xff);

function ethernet(at: number, type: number): void {
  bytes.set(gatewayMac, at);
  bytes.set([0x52, 0x54, 0, 0x12, 0x34, 0x56], at + 6);
  view.setUint16(at + 12, type);
}

function arp(operation: number, target: Uint8Array, targetIp: number): void {
  const at = frameAt();
  ethernet(at, 0x0806);
  view.setUint32(at + 14, 0x00010800);
  view.setUint32(at + 18, 0x06040000 | operation);
  bytes.set([0x52, 0x54, 0, 0x12, 0x34, 0x56], at + 22);
  view.setUint32(at + 28, GUEST);
  bytes.set(target, at + 32);
  view.setUint32(at + 38, targetIp);
  push(at, 42);
  isDirty = true;
}

const SYN = 2;
const RST = 4;
const ACK = 16;
let sndUna = 1000;
let sndNxt = 1000;
let sndWnd = 0;
let peerShift = 0;
let rcvNxt = 0;
let isEstablished = false;

function fold(sum: number): number {
  const once = (sum & 0xffff) + Math.floor(sum / 65_536);
  return (once & 0xffff) + (once >>> 16);
}

function sum32(word: number): number {
  return (word >>> 16) + (word & 0xffff);
}

function segment(flags: number, seq: number, payload: number): void {
  const at = frameAt();
  const isSyn = (flags & SYN) !== 0;
  if (payload === 0) isDirty = true;
  const tcpLength = (isSyn ? 28 : 20) + payload;
  ethernet(at, 0x0800);
  view.setUint16(at + IP_AT, 0x4500);
  view.setUint16(at + IP_AT + 2, 20 + tcpLength);
  view.setUint32(at + IP_AT + 4, 0x00004000);
  view.setUint32(at + IP_AT + 8, 0x40060000);
  view.setUint32(at + IP_AT + 12, GUEST);
  view.setUint32(at + IP_AT + 16, SERVER);
  const ends = sum32(GUEST) + sum32(SERVER);
  view.setUint16(at + IP_AT + 10, ~fold(0x4500 + 20 + tcpLength + 0x4000 + 0x4006 + ends));
  view.setUint16(at + TCP_AT, OUR_PORT);
  view.setUint16(at + TCP_AT + 2, PORT);
  view.setUint32(at + TCP_AT + 4, seq);
  view.setUint32(at + TCP_AT + 8, rcvNxt);
  const offset = isSyn ? 0x7000 : 0x5000;
  const window = isSyn ? 0xffff : WINDOW >>> SHIFT;
  view.setUint16(at + TCP_AT + 12, offset | flags);
  view.setUint16(at + TCP_AT + 14, window);
  view.setUint32(at + TCP_AT + 16, 0);
  let sum = ends + 6 + tcpLength + OUR_PORT + PORT + sum32(seq) + sum32(rcvNxt) + (offset | flags) + window;
  if (isSyn) {
    view.setUint32(at + TCP_AT + 20, 0x02040000 | mss);
    view.setUint32(at + TCP_AT + 24, 0x01030300 | SHIFT);
    sum += sumBytes(view, at + TCP_AT + 20, 8, 0);
  }
  view.setUint16(at + TCP_AT + 16, ~fold(sum));
  push(at, TCP_AT + tcpLength);
}

function isAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

/** Something that is to be acknowledged has come since. */
let owesAck = false;
let moved = 0;
let progressAt = performance.now();

function onTcp(at: number, length: number): void {
  const flags = view.getUint8(at + TCP_AT + 13);
  if ((flags & RST) !== 0) throw new Error('reset by the stack');
  const header = (view.getUint8(at + TCP_AT + 12) >> 4) * 4;
  const seq = view.getUint32(at + TCP_AT + 4);
  const ack = view.getUint32(at + TCP_AT + 8);
  if ((flags & SYN) !== 0) {
    for (
      let i = at + TCP_AT + 20;
      i < at + TCP_AT + header;
      i += view.getUint8(i) < 2 ? 1 : view.getUint8(i + 1)
    )
      if (view.getUint8(i) === 3) peerShift = view.getUint8(i + 2);
    rcvNxt = (seq + 1) >>> 0;
    isEstablished = true;
    owesAck = true;
  }
  sndWnd = view.getUint16(at + TCP_AT + 14) << ((flags & SYN) !== 0 ? 0 : peerShift);
  if (isAfter(ack, sndUna)) {
    if (isUp) moved += (ack - sndUna) >>> 0;
    sndUna = ack;
    if (isAfter(sndUna, sndNxt)) sndNxt = sndUna;
    progressAt = performance.now();
  }
  // The total length, as the frame may be padded.
  const payload = Math.min(view.getUint16(at + IP_AT + 2) - 20, length - TCP_AT) - header;
  if (payload <= 0) return;
  owesAck = true;
  if (seq !== rcvNxt) return;
  rcvNxt = (rcvNxt + payload) >>> 0;
  if (!isUp) moved += payload;
  progressAt = performance.now();
}

let knowsGateway = false;

function onFrame(at: number, length: number): void {
  const type = view.getUint16(at + 12);
  if (type === 0x0806) {
    const sender = bytes.slice(at + 22, at + 28);
    const senderIp = view.getUint32(at + 28);
    if (view.getUint16(at + 20) === 1) {
      if (view.getUint32(at + 38) === GUEST) arp(2, sender, senderIp);
    } else if (senderIp === GATEWAY) {
      gatewayMac.set(sender);
      knowsGateway = true;
    }
  } else if (type === 0x0800 && view.getUint8(at + IP_AT + 9) === 6) onTcp(at, length);
}

let kept = 0;

function receive(): void {
  if (!isStream) {
    const count = recvmmsg(memory, fd, inHeaders, FRAMES);
    for (let i = 0; i < count; i++) {
      const length = structures.view.getUint32(inHeaders + i * MMSGHDR_SIZE + MSGHDR_SIZE, true);
      onFrame(IN_AT + i * ROOM, length);
    }
    return;
  }
  const n = read(memory, fd, IN_AT + kept, IN_BYTES - kept);
  if (n === 0) throw new Error('the stack has closed the link');
  if (n < 0) return;
  const end = IN_AT + kept + n;
  let at = IN_AT;
  while (end - at >= PREFIX) {
    const length = view.getUint32(at);
    if (end - at < PREFIX + length) break;
    onFrame(at + PREFIX, length);
    at += PREFIX + length;
  }
  kept = end - at;
  bytes.copyWithin(IN_AT, at, end);
}

function sendData(): void {
  while (isUp && flush()) {
    let room = sndWnd - ((sndNxt - sndUna) >>> 0);
    while (room >= mss && outFrames < FRAMES) {
      segment(ACK, sndNxt, mss);
      sndNxt = (sndNxt + mss) >>> 0;
      room -= mss;
    }
    if (outFrames === 0) return;
  }
}

function start(): void {
  for (let i = 0; !isEstablished; i++) {
    if (i > 200) throw new Error('no connection');
    if (!knowsGateway) arp(1, new Uint8Array(6), GATEWAY);
    else if (sndNxt === sndUna) {
      segment(SYN, sndUna, 0);
      sndNxt++;
    }
    flush();
    if (epoll.wait(50) > 0) receive();
  }
}

start();
const beganAt = performance.now();
let fromAt = 0;
let fromBytes = 0;
for (;;) {
  if (owesAck && flush()) {
    segment(ACK, sndNxt, 0);
    owesAck = false;
  }
  sendData();
  flush();
  epoll.wait(RETRY_MS);
  receive();
  const now = performance.now();
  if (now - progressAt > RETRY_MS) {
    sndNxt = sndUna;
    progressAt = now;
    owesAck = true;
  }
  if (fromAt === 0 && now - beganAt >= WARM_UP_MS) {
    fromAt = now;
    fromBytes = moved;
    process.stdout.write('go\n');
  }
  if (fromAt > 0 && now - fromAt >= durationMs) {
    process.stdout.write(`${moved - fromBytes} ${now - fromAt}\n`);
    break;
  }
}
