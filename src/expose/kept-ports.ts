/**
 * Which port of the host a service had, so that it has the same when it comes back; with a file, also when we do. A line of
 * it is `tcp 0.0.0.0:80 1080`; a later one for the same end holds. It grows at its end only, by whole lines, so that a reader
 * never meets half of what it was; it is written anew at the start, while there are other files than those that are open.
 *
 * Limits: `KEPT_MAX` ends, the oldest forgotten; `APPENDED_MAX` lines more than at the start, and no more are written then.
 */
import { openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { isIP } from 'node:net';
import { errnoTextOf } from '../control/errno-text.ts';
import type { End, Protocol } from './event.ts';

const KEPT_MAX = 4096;
const APPENDED_MAX = 65536;
const MODE = 0o600;
const LINE = /^(tcp|udp) (?:([0-9.]+)|\[([0-9a-f:.]+)\]):(\d{1,5}) (\d{1,5})$/;
const PORT_MAX = 65535;

function keyOf(proto: Protocol, { ip, port }: End): string {
  return `${proto} ${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
}

export class KeptPorts {
  /** By key, oldest first. */
  readonly #ports = new Map<string, number>();
  readonly #fd: number = -1;
  #appended = 0;

  /** `path`: the file, or empty. @throws Error with one line */
  constructor(path: string) {
    if (path === '') return;
    try {
      this.#read(path);
      const lines = [...this.#ports].map(([key, port]) => `${key} ${port}\n`);
      const fresh = `${path}.new`;
      writeFileSync(fresh, lines.join(''), { mode: MODE });
      renameSync(fresh, path);
      this.#fd = openSync(path, 'a');
    } catch (error) {
      throw new Error(`option --state: ${path}: ${errnoTextOf(error)}`, { cause: error });
    }
  }

  get(proto: Protocol, end: End): number | undefined {
    return this.#ports.get(keyOf(proto, end));
  }

  set(proto: Protocol, end: End, port: number): void {
    const key = keyOf(proto, end);
    const isNew = this.#ports.get(key) !== port;
    this.#put(key, port);
    if (!isNew || this.#fd < 0 || this.#appended >= APPENDED_MAX) return;
    this.#appended++;
    try {
      writeSync(this.#fd, `${key} ${port}\n`);
    } catch {
      // A full disk costs the memory of a port, not the port.
    }
  }

  #put(key: string, port: number): void {
    this.#ports.delete(key);
    this.#ports.set(key, port);
    if (this.#ports.size > KEPT_MAX) this.#ports.delete(this.#ports.keys().next().value as string);
  }

  /** What is no line of ours is passed over. */
  #read(path: string): void {
    let text = '';
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    // A last line without an end is not whole.
    for (const line of text.split('\n').slice(0, -1)) {
      const [, proto, ip4, ip6 = '', port, hostPort] = LINE.exec(line) ?? [];
      const ip = ip4 ?? ip6;
      const numbers = [Number(port), Number(hostPort)];
      if (isIP(ip) === 0 || !numbers.every((number) => number >= 1 && number <= PORT_MAX)) continue;
      this.#put(keyOf(proto as Protocol, { ip, port: Number(port) }), Number(hostPort));
    }
  }
}
