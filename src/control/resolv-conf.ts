/**
 * The host's DNS servers: reading resolv.conf(5) and following its changes.
 *
 * The file is whatever the host's network manager makes of it: missing, empty, a dangling symlink, replaced by rename,
 * full of garbage. None of that is an error here; what cannot be read is an empty list, and the next change is picked up.
 * Following: a watch on the directory notices a rename at once; a look at the file each second catches what no watch
 * sees (a symlink's target elsewhere, a bind mount, a network file system).
 *
 * Left out on purpose: `search`, `options` and `sortlist`, which are for resolvers, and we only pass queries on.
 */
import { closeSync, type FSWatcher, openSync, readSync, statSync, watch } from 'node:fs';
import { isIP } from 'node:net';
import { basename, dirname } from 'node:path';

/** resolv.conf(5) allows three; some resolvers read more, and more does no harm. */
export const MAX_SERVERS = 10;
/** Bytes of the file that are looked at. */
export const MAX_BYTES: number = 64 * 1024;
const POLL_MS = 1000;

/** The addresses of `nameserver` lines, in order, without repeats; an IPv6 zone (`fe80::1%eth0`) is kept. */
export function parseResolvConf(text: string): string[] {
  const servers: string[] = [];
  for (const line of text.split('\n')) {
    if (servers.length === MAX_SERVERS) break;
    const match = /^[ \t]*nameserver[ \t]+([^ \t\r#;]+)/.exec(line);
    const address = match?.[1];
    if (address === undefined || isIP(address) === 0 || servers.includes(address)) continue;
    servers.push(address);
  }
  return servers;
}

/**
 * The data plane takes zones as interface numbers: `fe80::1%eth0` becomes `fe80::1%2`. A zone that names no interface
 * is left as it is; such a server then fails like one that is unreachable.
 */
export function withZoneIndex(server: string): string {
  const [address, zone] = server.split('%');
  if (zone === undefined || /^\d+$/.test(zone) || zone.includes('/')) return server;
  // Not /sys: it is out of sight in the sandbox. Fields: address, number of the interface, …, its name.
  for (const line of readStart('/proc/self/net/if_inet6').split('\n')) {
    const [, index = '', , , , name] = line.trim().split(/ +/);
    if (name === zone) return `${address}%${Number.parseInt(index, 16)}`;
  }
  return server;
}

/** At most `MAX_BYTES` of the file; empty when it cannot be read. */
function readStart(path: string): string {
  let fd = -1;
  try {
    // A FIFO in this place must not block us.
    if (!statSync(path).isFile()) return '';
    fd = openSync(path, 'r');
    const buffer = Buffer.allocUnsafe(MAX_BYTES);
    const length = readSync(fd, buffer, 0, MAX_BYTES, 0);
    let text = buffer.toString('latin1', 0, length);
    // A line cut in two could read as another address.
    if (length === MAX_BYTES) text = text.slice(0, text.lastIndexOf('\n') + 1);
    return text;
  } catch {
    return '';
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

export function readResolvConf(path: string): string[] {
  return parseResolvConf(readStart(path));
}

/** Identity of the file's present content: cheap to take, different after any change. */
function stamp(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch {
    return '';
  }
}

/** Tells of the servers once at the start (synchronously) and then whenever the list changes. */
export class ResolvConfFollower {
  private readonly path: string;
  private readonly changed: (servers: string[]) => void;
  private readonly timer: NodeJS.Timeout;
  private watcher: FSWatcher | undefined;
  private lastStamp = '';
  private last: string;

  constructor(path: string, changed: (servers: string[]) => void) {
    this.path = path;
    this.changed = changed;
    this.lastStamp = stamp(path);
    const servers = readResolvConf(path);
    this.last = servers.join(' ');
    changed(servers);
    try {
      this.watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
        if (name === null || name === basename(path)) this.look(true);
      });
      this.watcher.on('error', () => this.watcher?.close());
    } catch {
      // No watch to be had (limit reached, directory missing): the poll alone does it.
    }
    this.timer = setInterval(() => this.look(false), POLL_MS);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
    this.watcher?.close();
  }

  private look(force: boolean): void {
    const now = stamp(this.path);
    if (!force && now === this.lastStamp) return;
    this.lastStamp = now;
    const servers = readResolvConf(this.path);
    const list = servers.join(' ');
    if (list === this.last) return;
    this.last = list;
    this.changed(servers);
  }
}
