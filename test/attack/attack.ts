/** One flood from a real guest, while a neighbour flow of the same guest is measured. */
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { type Guest, HOST4 } from '../support/namespaces.ts';
import type { Flood } from './floods.ts';
import { type Measured, measure } from './neighbour.ts';

export interface Attack extends Measured {
  sent: number;
  /** Resident memory of the program, in MiB, before and after. */
  before: number;
  after: number;
}

/** Servers for the neighbour: one that sends for ever, one that echoes. */
export class NeighbourServers {
  readonly ports: { source: number; echo: number } = { source: 0, echo: 0 };
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();

  async open(): Promise<void> {
    const block = Buffer.alloc(65_536, 7);
    this.ports.source = await this.#listen((socket) => {
      const pour = (): void => {
        while (!socket.destroyed && socket.write(block));
      };
      socket.on('drain', pour);
      pour();
    });
    this.ports.echo = await this.#listen((socket) => socket.setNoDelay(true).pipe(socket));
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
  }

  #listen(serve: (socket: Socket) => void): Promise<number> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => undefined);
      serve(socket);
    });
    this.#servers.push(server);
    return new Promise((resolve) => {
      server.listen(0, HOST4, () => resolve((server.address() as { port: number }).port));
    });
  }
}

/** Resident memory in MiB. */
export function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;
}

export async function attack(
  guest: Guest,
  servers: NeighbourServers,
  flood: Flood | null,
  rate: number,
  seconds: number,
): Promise<Attack> {
  const before = residentMiB(guest.stack.pid);
  const sender = fileURLToPath(new URL('./sender.js', import.meta.url));
  const running =
    flood === null
      ? null
      : guest.namespace.start([
          process.execPath,
          sender,
          'tap0',
          flood.name,
          String(rate),
          String(seconds + 1),
        ]);
  const measured = await measure(guest.namespace, HOST4, servers.ports, seconds);
  const ended = await running?.end((seconds + 30) * 1000);
  if (ended !== undefined && ended.status !== 0) throw new Error(`the sender failed: ${ended.stderr}`);
  const sent = ended === undefined ? 0 : (JSON.parse(ended.stdout) as { sent: number }).sent;
  return { ...measured, sent, before, after: residentMiB(guest.stack.pid) };
}
