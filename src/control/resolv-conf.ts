/**
 * The host's DNS servers: reading resolv.conf(5) and following its changes.
 *
 * The file is whatever the host's network manager makes of it: missing, empty, a dangling symlink, replaced by rename,
 * full of garbage. None of that is an error here: without a server in it, libc asks the host itself, and so do we. A file
 * that is there and cannot be read changes nothing, and is told.
 * Following: a watch on the directory notices a rename at once; a look at the file each second catches what no watch
 * sees (a symlink's target elsewhere, a bind mount, a network file system), and an interface that was made anew and has
 * another number. Once the file system is closed, somebody outside looks at the file (sandbox/confinement.ts).
 *
 * Left out on purpose: `sortlist` and the options that are for whoever reads the answers; we only pass queries on.
 */
import { closeSync, type FSWatcher, openSync, readSync, statSync, watch } from 'node:fs';
import { isIP } from 'node:net';
import { basename, dirname } from 'node:path';
import { defaultResolverOptions, type ResolverOptions } from '../config.ts';
import { errnoTextOf } from './errno-text.ts';

/** resolv.conf(5) allows three; some resolvers read more, and more does no harm. */
export const MAX_SERVERS = 10;
/** Bytes of the file that are looked at. */
export const MAX_BYTES: number = 64 * 1024;
const POLL_MS = 1000;

/** Where libc asks when the file names no server. */
const NO_SERVERS: readonly string[] = ['127.0.0.1', '::1'];
/** libc's own bounds (RES_MAXRETRANS, RES_MAXRETRY). */
const MAX_TIMEOUT = 30;
const MAX_ATTEMPTS = 5;

export interface ResolvConf {
  /** In order, without repeats; an IPv6 zone (`fe80::1%eth0`) is kept. For who asks them: never empty. */
  servers: string[];
  options: ResolverOptions;
  /** Of the last `search` or `domain` line. */
  search: string[];
}

export function parseResolvConf(text: string): ResolvConf {
  const conf = readConf(text);
  return conf.servers.length === 0 ? { ...conf, servers: [...NO_SERVERS] } : conf;
}

/** What the file has now; servers: none, if it names none. */
export function readResolvConf(path: string): ResolvConf {
  return readConf(readText(path));
}

function readConf(text: string): ResolvConf {
  const servers: string[] = [];
  const options = { ...defaultResolverOptions };
  let search: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line
      .replace(/[#;].*/, '')
      .trim()
      .split(/\s+/);
    const [first = ''] = words;
    if (keyword === 'options') readOptions(words, options);
    if (keyword === 'search') search = words;
    if (keyword === 'domain') search = words.slice(0, 1);
    if (keyword !== 'nameserver' || servers.length === MAX_SERVERS) continue;
    if (isIP(first) !== 0 && !servers.includes(first)) servers.push(first);
  }
  return { servers, options, search };
}

function readOptions(words: readonly string[], options: ResolverOptions): void {
  for (const word of words) {
    const [name, text = ''] = word.split(':');
    const value = /^\d+$/.test(text) ? Math.max(1, Number(text)) : undefined;
    if (name === 'timeout' && value !== undefined) options.timeoutMs = Math.min(value, MAX_TIMEOUT) * 1000;
    else if (name === 'attempts' && value !== undefined) options.attempts = Math.min(value, MAX_ATTEMPTS);
    else if (name === 'rotate') options.rotate = true;
    else if (name === 'use-vc') options.useTcp = true;
  }
}

/**
 * The data plane takes zones as interface numbers: `fe80::1%eth0` becomes `fe80::1%2`. A zone that names no interface
 * is left as it is; such a server then fails like one that is unreachable.
 */
export function withZoneIndex(server: string): string {
  if (!hasZoneName(server)) return server;
  const [address, zone] = server.split('%');
  // Not /sys: it is out of sight in the sandbox. Fields: address, number of the interface, …, its name.
  for (const line of readText('/proc/self/net/if_inet6').split('\n')) {
    const [, index = '', , , , name] = line.trim().split(/ +/);
    if (name === zone) return `${address}%${Number.parseInt(index, 16)}`;
  }
  return server;
}

function hasZoneName(server: string): boolean {
  const [, zone] = server.split('%');
  return zone !== undefined && !/^\d+$/.test(zone) && !zone.includes('/');
}

/** At most `MAX_BYTES` of the file; empty when it is missing. Throws when it cannot be read. */
function readStart(path: string): string {
  let fd = -1;
  try {
    // A FIFO in this place must not block us.
    if (!statSync(path).isFile()) throw new Error('not a file');
    fd = openSync(path, 'r');
    const buffer = Buffer.allocUnsafe(MAX_BYTES);
    const length = readSync(fd, buffer, 0, MAX_BYTES, 0);
    let text = buffer.toString('latin1', 0, length);
    // A line cut in two could read as another address.
    if (length === MAX_BYTES) text = text.slice(0, text.lastIndexOf('\n') + 1);
    return text;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return '';
    throw error;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

function readText(path: string): string {
  try {
    return readStart(path);
  } catch {
    return '';
  }
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

export interface FollowerEvents {
  /** Once at the start, synchronously, and then whenever something is different. Zones are interface numbers. */
  changed: (conf: ResolvConf) => void;
  /** The file cannot be read; what was known of it stays. Told once for the same reason. */
  unreadable?: (reason: string) => void;
}

export class ResolvConfFollower {
  private readonly path: string;
  private readonly fixed: readonly string[];
  private readonly events: FollowerEvents;
  private timer: NodeJS.Timeout | undefined;
  private watcher: FSWatcher | undefined;
  private lastStamp = '';
  private conf: ResolvConf = parseResolvConf('');
  private told = '';
  private reason = '';
  private readByOthers = false;

  /** `fixed`: servers that count instead of the file's. */
  constructor(path: string, events: FollowerEvents, fixed: readonly string[] = []) {
    this.path = path;
    this.fixed = fixed;
    this.events = events;
    this.look(true);
    try {
      this.watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
        if (name === null || name === basename(path)) this.look(true);
      });
      this.watcher.on('error', () => this.watcher?.close());
    } catch {
      // No watch to be had (limit reached, directory missing): the poll alone does it.
    }
    this.keepLooking();
  }

  close(): void {
    clearInterval(this.timer);
    this.watcher?.close();
  }

  /** Domains that short names are completed with. */
  get search(): readonly string[] {
    return this.conf.search;
  }

  /** Whatever was noticed until now: look. */
  lookAgain(): void {
    this.look(true);
  }

  /** From here on others read the file, and call `take` and `miss`. */
  leaveToOthers(): void {
    this.readByOthers = true;
    this.watcher?.close();
    this.keepLooking();
  }

  /** What is in the file now; nothing if it is missing. */
  take(text: string): void {
    this.reason = '';
    this.conf = parseResolvConf(text);
    this.tell();
    this.keepLooking();
  }

  /** The file cannot be read now. */
  miss(reason: string): void {
    if (reason === this.reason) return;
    this.reason = reason;
    this.events.unreadable?.(reason);
  }

  private look(force: boolean): void {
    if (!this.readByOthers) {
      const now = stamp(this.path);
      if (force || now !== this.lastStamp) {
        this.lastStamp = now;
        this.read();
      }
    }
    // An interface may have got another number although the file is the same.
    this.tell();
  }

  /** Who has nothing to look for sleeps. */
  private keepLooking(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    if (this.readByOthers && !this.named.some(hasZoneName)) return;
    this.timer = setInterval(() => this.look(false), POLL_MS);
    this.timer.unref();
  }

  private get named(): readonly string[] {
    return this.fixed.length > 0 ? this.fixed : this.conf.servers;
  }

  private tell(): void {
    const { options, search } = this.conf;
    const conf = { servers: this.named.map(withZoneIndex), options, search };
    const text = JSON.stringify(conf);
    if (text === this.told) return;
    this.told = text;
    this.events.changed(conf);
  }

  private read(): void {
    let text: string;
    try {
      text = readStart(this.path);
    } catch (error) {
      this.miss(errnoTextOf(error));
      return;
    }
    this.take(text);
  }
}
