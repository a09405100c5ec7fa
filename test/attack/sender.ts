/**
 * Sends one flood from inside the guest: a raw packet(7) socket on the interface, so that nothing of the guest's kernel
 * stands between the frames and the device. It sends no more than the device's queue takes: what that drops is no matter of
 * ours, and not only the flood's. Arguments: INTERFACE, name of the flood, frames per second, seconds, the
 * host's ports as JSON. Prints how many were sent.
 */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import koffi from 'koffi';
import { ACK, ALLOWED4, arp, decode, frame, GUEST_MAC, SYN, TCP, tcp } from '../support/lab/packets.ts';
import { type Connection, floods, type Ports, STATION } from './floods.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_IP = 0x0800;
const MSG_DONTWAIT = 0x40;
/** Frames between two looks at the clock. */
const BURST = 50;
/** How long the device's queue, when it was full, is left to become emptier. */
const FULL_PAUSE_MS = 10;
const HANDSHAKE_MS = 5000;
const SYN_AGAIN_MS = 300;

const [interfaceName = '', name = '', rateText = '0', secondsText = '0', portsText = '{}'] =
  process.argv.slice(2);
const flood = floods.find((f) => f.name === name);
if (flood === undefined) throw new Error(`no flood ${name}`);
const rate = Number(rateText);
const seconds = Number(secondsText);
const ports = JSON.parse(portsText) as Ports;

const library = koffi.load(null);
const socket = library.func('int socket(int, int, int)');
const bind = library.func('int bind(int, const uint8_t *, uint32_t)');
const close = library.func('int close(int)');
const nameToIndex = library.func('uint32_t if_nametoindex(const char *)');
const sendto = library.func('intptr_t sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)');
const recv = library.func('intptr_t recv(int, _Out_ uint8_t *, size_t, int)');

/** struct sockaddr_ll: family, protocol (in network order), index. */
function linkAddress(protocol: number): Buffer {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(protocol, 2);
  address.writeInt32LE(nameToIndex(interfaceName) as number, 4);
  return address;
}

function packetSocket(): number {
  const fd = socket(AF_PACKET, SOCK_RAW, 0) as number;
  if (fd < 0) throw new Error(`packet socket: errno ${koffi.errno()}`);
  return fd;
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const fd = packetSocket();
const address = linkAddress(0);
// With a made-up sender the stack would take it for the guest's new address, and the guest would only harm itself.
const mac = Buffer.from((networkInterfaces()[interfaceName]?.[0]?.mac ?? '').replaceAll(':', ''), 'hex');

function put(f: Buffer): number {
  return sendto(fd, f, f.length, MSG_DONTWAIT, address, address.length) as number;
}

let nextPort = 30_000;
/** Heard while connections are opened; nobody needs it afterwards. */
let listener = -1;
const heard = Buffer.alloc(70_000);

function connect(dstPort: number, options: Buffer, window: number): Connection {
  if (listener < 0) {
    listener = packetSocket();
    const from = linkAddress(ETH_P_IP);
    if ((bind(listener, from, from.length) as number) < 0) throw new Error(`bind: errno ${koffi.errno()}`);
  }
  const srcPort = nextPort++;
  const ends = { src: STATION, dst: ALLOWED4, srcPort, dstPort };
  const packet = (...args: Parameters<typeof tcp>): Buffer => {
    const f = frame(tcp(...args));
    mac.copy(f, 6);
    return f;
  };
  const began = performance.now();
  let again = 0;
  while (performance.now() - began < HANDSHAKE_MS) {
    if (performance.now() - began >= again) {
      again += SYN_AGAIN_MS;
      const here = arp({ op: 2, senderIp: STATION });
      mac.copy(here, 6);
      mac.copy(here, 22);
      put(here);
      put(packet({ ...ends, seq: 1000, flags: SYN, window, options }));
    }
    const n = recv(listener, heard, heard.length, MSG_DONTWAIT) as number;
    if (n < 0) {
      pause(1);
      continue;
    }
    // Headers only: bulk data of others comes by as well, with checksums that nobody filled in.
    if (n < 54 || heard[23] !== TCP || heard.readUInt16BE(36) !== srcPort) continue;
    const reply = decode(heard.subarray(0, n), false);
    if (reply.flags !== (SYN | ACK)) continue;
    const ack = (reply.seq + 1) >>> 0;
    put(packet({ ...ends, seq: 1001, ack, flags: ACK, window }));
    return { srcPort, dstPort, seq: 1001, ack };
  }
  throw new Error(`no connection to port ${dstPort}`);
}

const frames = flood.frames({ ports, connect });
if (listener >= 0) close(listener);
const made = Buffer.from(GUEST_MAC.replaceAll(':', ''), 'hex');
for (const f of frames) {
  mac.copy(f, 6);
  // What it says of itself by ARP, too.
  if (f.length >= 28 && f.readUInt16BE(12) === 0x0806 && f.subarray(22, 28).equals(made)) mac.copy(f, 22);
}

/** Frames that found the device's queue full. */
function dropped(): number {
  const line = readFileSync('/proc/net/dev', 'latin1').split(`${interfaceName}:`)[1] ?? '';
  return Number(line.trim().split(/\s+/)[11]);
}

let sent = 0;
let refused = 0;
let lost = dropped();
const start = performance.now();
for (;;) {
  const elapsed = performance.now() - start;
  if (elapsed >= seconds * 1000) break;
  const due = (elapsed / 1000) * rate;
  if (sent + refused >= due) {
    // Less than a millisecond: nothing else happens in this process.
    pause(0.5);
    continue;
  }
  const now = dropped();
  if (now > lost) {
    lost = now;
    pause(FULL_PAUSE_MS);
    continue;
  }
  for (let i = 0; i < BURST; i++) {
    const f = frames[(sent + refused) % frames.length] as Buffer;
    if (put(f) < 0) refused++;
    else sent++;
  }
}
process.stdout.write(`${JSON.stringify({ sent, refused })}\n`);
