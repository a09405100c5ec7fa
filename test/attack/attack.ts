/** One flood from a real guest, while neighbours of the same guest and a client of the API are measured. */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { apiRequest } from '../support/api-request.ts';
import { directory, HOST4, OPEN, startGuest } from '../support/namespaces.ts';
import { ownTime } from '../support/own-time.ts';
import { processorWait } from '../support/stack-size.ts';
import type { Flood, Ports } from './floods.ts';
import { type Measured, measure, type Waits, waits } from './neighbour.ts';

export interface Attack extends Measured {
  /** Requests of the API, every 100 ms. */
  api: Waits;
  sent: number;
  /** Frames that the program has read, all of the guest's. */
  received: number;
  /** The data plane's longest turn in milliseconds, and the most that one has taken of the CPU. */
  turn: number;
  turnCpu: number;
  /** For how long the machine let that thread of the program wait for a processor that waited most, in milliseconds. */
  withheld: number;
  exceptions: number;
  /** Resident memory of the program, in MiB, before and after. */
  before: number;
  after: number;
}

/** Servers for the neighbours: one that sends for ever, one that takes everything, one that echoes, one for datagrams. */
export class NeighbourServers {
  readonly ports: Ports & { sink: number } = { source: 0, sink: 0, echo: 0, udpEcho: 0 };
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  #datagrams: DatagramSocket | null = null;

  async open(): Promise<void> {
    const block = Buffer.alloc(65_536, 7);
    this.ports.source = await this.#listen((socket) => {
      const pour = (): void => {
        while (!socket.destroyed && socket.write(block));
      };
      socket.on('drain', pour);
      pour();
    });
    this.ports.sink = await this.#listen((socket) => socket.resume());
    this.ports.echo = await this.#listen((socket) => socket.setNoDelay(true).pipe(socket));
    const datagrams = createSocket('udp4', (data, from) => datagrams.send(data, from.port, from.address));
    datagrams.on('error', () => undefined);
    this.#datagrams = datagrams;
    await new Promise<void>((resolve) => datagrams.bind(0, HOST4, resolve));
    this.ports.udpEcho = datagrams.address().port;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    this.#datagrams?.close();
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

/** A `list` or `info` of the API every 100 ms until `until` is over. Late is late; after ten seconds there is none. */
async function askApi(path: string, until: Promise<unknown>): Promise<Waits> {
  const time = ownTime();
  const times: number[] = [];
  let failed = 0;
  let over = false;
  void until.finally(() => {
    over = true;
  });
  for (let i = 0; !over; i++) {
    const from = time.now();
    const answer = await new Promise<Record<string, unknown> | null>((resolve) => {
      const cancel = time.after(10_000, () => resolve(null));
      void apiRequest(path, i % 2 === 0 ? 'list_hostfwd' : 'info')
        .catch(() => null)
        .then(resolve)
        .finally(cancel);
    });
    if (answer !== null && 'return' in answer) times.push(time.now() - from);
    else failed++;
    await sleep(Math.max(0, 100 - (time.now() - from)));
  }
  time.stop();
  return waits(times, failed);
}

interface Stats {
  counters: Record<string, number>;
  gauges: Record<string, number>;
}

/**
 * Frames that the guest's kernel keeps for the device: more than come while the program waits for a processor. What it has
 * no room for it drops, frames of neighbours too, who then wait for their retransmission timers: nothing of ours.
 */
export const DEVICE_QUEUE = 4096;

/** A fresh guest, and the flood on it for `seconds`; null = none. */
export async function attack(
  servers: NeighbourServers,
  flood: Flood | null,
  rate: number,
  seconds: number,
): Promise<Attack> {
  const apiPath = join(directory, 'attack.api');
  await using guest = await startGuest(...OPEN, '--api-socket', apiPath);
  await guest.namespace.ip(`link set dev tap0 txqueuelen ${DEVICE_QUEUE}`);
  const before = residentMiB(guest.stack.pid);
  const withheld = processorWait(guest.stack.pid);
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
          JSON.stringify(servers.ports),
        ]);
  const measuring = measure(guest.namespace, HOST4, servers.ports, seconds);
  const [measured, api] = await Promise.all([measuring, askApi(apiPath, measuring)]);
  const ended = await running?.end((seconds + 30) * 1000);
  if (ended !== undefined && ended.status !== 0) throw new Error(`the sender failed: ${ended.stderr}`);
  const sent = ended === undefined ? 0 : (JSON.parse(ended.stdout) as { sent: number }).sent;
  const { counters, gauges } = (await apiRequest(apiPath, 'stats'))['return'] as Stats;
  return {
    ...measured,
    api,
    sent,
    received: counters['rx.packets'] ?? 0,
    turn: gauges['loop.turn_max_ms'] ?? Number.NaN,
    turnCpu: gauges['loop.turn_cpu_max_ms'] ?? Number.NaN,
    withheld: withheld(),
    exceptions: counters['drop.bug.exception'] ?? 0,
    before,
    after: residentMiB(guest.stack.pid),
  };
}
