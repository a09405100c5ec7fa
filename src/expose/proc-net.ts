/** Reading /proc/net/tcp, tcp6, udp and udp6 (proc_net(5)): those sockets that wait for clients. */
import { IpAddress } from '../stack/wire/address.ts';
import type { Protocol } from './event.ts';
import type { OpenSocket } from './open-socket.ts';

/** `sl local remote st tx:rx tr:when retrnsmt uid timeout inode`; of an address, each word as it is in memory. */
const LINE = /^ *\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) \S+ (0A|07) \S+ \S+ \S+ +(\d+) +\d+ (\d+)/gm;
const STATE = { tcp: '0A', udp: '07' } as const;

/** A 32-bit word in host order, which is little-endian, from its hexadecimal text. */
function wordOf(text: string): number {
  const word = Number.parseInt(text, 16);
  return ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** The sockets in the text of a file, `most` of them. */
export function readProcNet(text: string, proto: Protocol, most: number): OpenSocket[] {
  const sockets: OpenSocket[] = [];
  const address = new IpAddress();
  for (const [, local = '', port = '', state, uid, inode] of text.matchAll(LINE)) {
    if (state !== STATE[proto]) continue;
    if (sockets.length === most) break;
    const words = [0, 8, 16, 24].map((at) => wordOf(local.slice(at, at + 8)));
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
    if (local.length === 8) address.setV4(w0);
    else address.set(w0, w1, w2, w3);
    sockets.push({
      proto,
      family: address.isV4 ? 4 : 6,
      ip: address.toString(),
      port: Number.parseInt(port, 16),
      v6only: false,
      device: 0,
      uid: Number(uid),
      inode: Number(inode),
    });
  }
  return sockets;
}
