/**
 * The files that Penguin's VPN plugin leaves for whoever looks after a run, made of the events of one guest. Each is written
 * whole and put in its place by rename, so that nobody ever reads half of one, however we end.
 *
 *   vpn_bridges.csv       a row for each port of the host that was opened
 *   netbinds.csv          a row for each listening socket, with what has become of it; seconds since the start
 *   endpoints.txt         the ports that are open now
 *   ipaddr.txt, guest_ip  the address where they are reached
 *
 * Limits: `ROWS_MAX` rows in each, of which the oldest go, and a write each `WRITE_MS`: the guest decides how many there are.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { formatEndpoint } from '../stack/wire/address.ts';
import { csvLine } from './csv.ts';
import type { End, Listener, Protocol, Published } from './event.ts';
import type { EventHub, StampedEvent } from './event-hub.ts';

const ROWS_MAX = 4096;
const WRITE_MS = 100;

const BRIDGES_HEAD = csvLine(['procname', 'ipvn', 'domain', 'guest_ip', 'guest_port', 'host_port']);
const BINDS_HEAD = csvLine([
  ...['procname', 'ipvn', 'domain', 'guest_ip', 'guest_port'],
  ...['pid', 'time', 'state', 'closed_time'],
]);

export interface OutFilesOptions {
  directory: string;
  /** Where the ports are reached. */
  address: string;
  /** ms since the epoch. */
  startedAt: number;
  now: () => number;
  /** Told why they cannot be written, once. */
  failed: (error: unknown) => void;
}

interface Bind {
  listener: Listener;
  closedAt: number | null;
}

export class OutFiles {
  readonly #options: OutFilesOptions;
  readonly #bridges: string[] = [];
  readonly #binds: Bind[] = [];
  /** Open ports, by host end. */
  readonly #open = new Map<string, Published>();
  readonly #changed = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #hasFailed = false;

  /** Writes all of them, empty. @throws the system's error */
  constructor(hub: EventHub, options: OutFilesOptions) {
    this.#options = options;
    for (const name of Object.keys(this.#texts)) this.#write(name);
    hub.listen((event) => this.#receive(event));
  }

  /** Writes what has changed, now. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const names = [...this.#changed];
    this.#changed.clear();
    try {
      for (const name of names) this.#write(name);
    } catch (error) {
      if (!this.#hasFailed) this.#options.failed(error);
      this.#hasFailed = true;
    }
  }

  readonly #texts: Record<string, () => string> = {
    'vpn_bridges.csv': () => BRIDGES_HEAD + this.#bridges.join(''),
    'netbinds.csv': () => BINDS_HEAD + this.#binds.map((bind) => this.#bindLine(bind)).join(''),
    'endpoints.txt': () => this.#endpoints(),
    'ipaddr.txt': () => `${this.#options.address}\n`,
    guest_ip: () => `${this.#options.address}\n`,
  };

  #receive(event: StampedEvent): void {
    switch (event.type) {
      case 'forward.added': {
        const { proto, guestEnd, hostEnd, process } = event;
        push(
          this.#bridges,
          csvLine([process ?? '', ipvn(guestEnd.ip), proto, guestEnd.ip, guestEnd.port, hostEnd.port]),
        );
        this.#open.set(key(proto, hostEnd), event);
        this.#change('vpn_bridges.csv', 'endpoints.txt');
        return;
      }
      case 'forward.removed':
        this.#open.delete(key(event.proto, event.hostEnd));
        this.#change('endpoints.txt');
        return;
      case 'listener.added':
        push(this.#binds, { listener: event, closedAt: null });
        this.#change('netbinds.csv');
        return;
      case 'listener.removed': {
        const { proto, ip, port } = event;
        const bind = this.#binds.findLast(
          ({ listener, closedAt }) =>
            closedAt === null && listener.proto === proto && listener.ip === ip && listener.port === port,
        );
        if (bind !== undefined) bind.closedAt = this.#options.now();
        this.#change('netbinds.csv');
        return;
      }
      default:
    }
  }

  #bindLine({ listener, closedAt }: Bind): string {
    const { process, proto, ip, port, pid, firstSeen } = listener;
    return csvLine([
      ...[process ?? '', ipvn(ip), proto, ip, port],
      ...[pid ?? '', this.#seconds(firstSeen)],
      ...(closedAt === null ? ['listening', ''] : ['closed', this.#seconds(closedAt)]),
    ]);
  }

  #seconds(ms: number): string {
    return ((ms - this.#options.startedAt) / 1000).toFixed(3);
  }

  #endpoints(): string {
    const sorted = [...this.#open.values()].sort(
      (a, b) => (a.proto < b.proto ? -1 : a.proto > b.proto ? 1 : 0) || a.guestEnd.port - b.guestEnd.port,
    );
    return sorted.map((one) => this.#endpointLine(one)).join('');
  }

  #endpointLine({ proto, hostEnd, guestEnd, process }: Published): string {
    const address = isWildcard(hostEnd.ip) ? this.#options.address : hostEnd.ip;
    const name = (process ?? 'unknown').replace(/[^ -~]/g, '?');
    const [host, guest] = [bracketed(address, hostEnd.port), bracketed(guestEnd.ip, guestEnd.port)];
    return `${proto} ${host} -> ${guest} (${name})\n`;
  }

  #change(...names: string[]): void {
    for (const name of names) this.#changed.add(name);
    this.#timer ??= setTimeout(() => this.flush(), WRITE_MS).unref();
  }

  #write(name: string): void {
    const path = join(this.#options.directory, name);
    const other = join(this.#options.directory, `.${name}.new`);
    writeFileSync(other, this.#texts[name]?.() ?? '', { mode: 0o600 });
    renameSync(other, path);
  }
}

/** Where ports are reached, for one who listens at `bind`; `named` is what the user says about it. */
export function reachedAt(bind: string, named: string): string {
  if (named !== '') return named;
  return isWildcard(bind) ? '127.0.0.1' : bind;
}

function isWildcard(ip: string): boolean {
  return ip === '0.0.0.0' || ip === '::';
}

function bracketed(address: string, port: number): string {
  return formatEndpoint({ address, port });
}

function ipvn(ip: string): string {
  return isIP(ip) === 6 ? 'ipv6' : 'ipv4';
}

function key(proto: Protocol, { ip, port }: End): string {
  return `${proto} ${ip} ${port}`;
}

function push<T>(rows: T[], row: T): void {
  rows.push(row);
  if (rows.length > ROWS_MAX) rows.shift();
}
