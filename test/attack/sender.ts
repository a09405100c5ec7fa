/**
 * Sends one flood from inside the guest: a raw packet(7) socket on the interface, so that nothing of the guest's kernel
 * stands between the frames and the device. Arguments: INTERFACE, name of the flood, frames per second, seconds.
 * Prints how many were sent.
 */
import { networkInterfaces } from 'node:os';
import koffi from 'koffi';
import { floods } from './floods.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const MSG_DONTWAIT = 0x40;
/** Frames between two looks at the clock. */
const BURST = 50;

const [interfaceName = '', name = '', rateText = '0', secondsText = '0'] = process.argv.slice(2);
const flood = floods.find((f) => f.name === name);
if (flood === undefined) throw new Error(`no flood ${name}`);
const rate = Number(rateText);
const seconds = Number(secondsText);

const library = koffi.load(null);
const socket = library.func('int socket(int, int, int)');
const nameToIndex = library.func('uint32_t if_nametoindex(const char *)');
const sendto = library.func('intptr_t sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)');

const fd = socket(AF_PACKET, SOCK_RAW, 0) as number;
if (fd < 0) throw new Error(`packet socket: errno ${koffi.errno()}`);
/** struct sockaddr_ll: family, protocol, index. */
const address = Buffer.alloc(20);
address.writeUInt16LE(AF_PACKET, 0);
address.writeInt32LE(nameToIndex(interfaceName) as number, 4);

// With a made-up sender the stack would take it for the guest's new address, and the guest would only harm itself.
const mac = Buffer.from((networkInterfaces()[interfaceName]?.[0]?.mac ?? '').replaceAll(':', ''), 'hex');
const frames = flood.frames();
for (const f of frames) mac.copy(f, 6);

let sent = 0;
let refused = 0;
const start = performance.now();
for (;;) {
  const elapsed = performance.now() - start;
  if (elapsed >= seconds * 1000) break;
  const due = (elapsed / 1000) * rate;
  if (sent + refused >= due) {
    // Less than a millisecond: nothing else happens in this process.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0.5);
    continue;
  }
  for (let i = 0; i < BURST; i++) {
    const f = frames[(sent + refused) % frames.length] as Buffer;
    // A full queue drops, as it does for every sender; the rate stays the rate.
    if ((sendto(fd, f, f.length, MSG_DONTWAIT, address, address.length) as number) < 0) refused++;
    else sent++;
  }
}
process.stdout.write(`${JSON.stringify({ sent, refused })}\n`);
