/** Who has a port of the host, for a message; looked for once something has failed because of it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Protocol } from './event.ts';
import { readProcNet } from './proc-net.ts';

/** Descriptors looked at, so that a machine full of processes does not hold up an error. */
const LOOKS_MAX = 100_000;
const SOCKETS_MAX = 65_536;

/** Links of the sockets bound to the port, whatever their address. */
function linksOf(proto: Protocol, port: number): Set<string> {
  const links = new Set<string>();
  for (const table of [proto, `${proto}6`]) {
    try {
      const sockets = readProcNet(readFileSync(`/proc/net/${table}`, 'latin1'), proto, SOCKETS_MAX);
      for (const socket of sockets) if (socket.port === port) links.add(`socket:[${socket.inode}]`);
    } catch {
      // A family that the host does not have.
    }
  }
  return links;
}

/** ` by pid 4711 (nginx)`, or nothing: it cannot be seen from here. */
export function byOwner(proto: Protocol, port: number): string {
  const links = linksOf(proto, port);
  if (links.size === 0) return '';
  let looks = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (++looks > LOOKS_MAX) return '';
        if (!links.has(readlinkSync(`/proc/${pid}/fd/${fd}`))) continue;
        const name = readFileSync(`/proc/${pid}/comm`, 'latin1').trimEnd();
        return ` by pid ${pid} (${name.replace(/[^ -~]/g, '?')})`;
      }
    } catch {
      // It has ended, or is not ours to see.
    }
  }
  return '';
}
