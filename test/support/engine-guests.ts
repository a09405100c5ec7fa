/**
 * A real data plane with as many guests as a test wants, each on one end of a unix socket pair whose other end is the
 * test's. Their gateway is the machine's loopback.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { type GuestConfig, type ProcessLimits, processLimits } from '../../src/config.ts';
import type { EngineClient, Snapshot } from '../../src/control/engine-client.ts';
import type { LogFields, LogLevel } from '../../src/control/log.ts';
import { Server } from '../../src/control/server.ts';
import type { Session } from '../../src/control/session.ts';
import { Supervisor } from '../../src/control/supervisor.ts';
import type { FlowReport } from '../../src/engine/messages.ts';
import { Memory } from '../../src/sys/memory.ts';
import { AF_UNIX, SOCK_DGRAM, socketpair } from '../../src/sys/socket.ts';
import { type Decoded, decode, frame } from './lab/packets.ts';
import { plainGuest } from './plain-guest.ts';
import { until } from './wait.ts';

const memory = new Memory(new ArrayBuffer(64));
/** Where frames are read to: one for all, so that what is measured is not the test's own memory. */
const buffer = Buffer.alloc(65536);
/** A data plane that shares its CPU may take this long to answer. */
const PATIENCE_MS = 30_000;

function pair(): [number, number] {
  const result = socketpair(memory, AF_UNIX, SOCK_DGRAM, 0);
  if (result < 0) throw new Error(`socketpair: errno ${-result}`);
  return [memory.view.getInt32(0, true), memory.view.getInt32(4, true)];
}

export class EngineGuest {
  readonly session: Session;
  /** Why its link is gone. */
  gone = '';
  readonly reports: FlowReport[] = [];
  readonly #fd: number;
  /** What came and nobody has taken yet. */
  readonly #received: Decoded[] = [];

  constructor(server: Server, config: GuestConfig, fd: number) {
    this.session = server.add(config, {
      linkGone: (reason) => {
        this.gone = reason;
      },
      flows: (report) => this.reports.push(report),
    });
    this.#fd = fd;
  }

  get client(): EngineClient {
    return this.session.client;
  }

  send(packet: Buffer): void {
    writeSync(this.#fd, frame(packet));
  }

  /** The first packet that `fits`, waited for; what came before it is dropped. */
  async next(fits: (d: Decoded) => boolean, what: string): Promise<Decoded> {
    let found: Decoded | undefined;
    await until(
      () => {
        this.#read();
        for (let d = this.#received.shift(); d !== undefined; d = this.#received.shift()) {
          if (!fits(d)) continue;
          found = d;
          return true;
        }
        return false;
      },
      what,
      PATIENCE_MS,
    );
    return found as Decoded;
  }

  /** The test's end of the link closes. */
  close(): void {
    closeSync(this.#fd);
  }

  #read(): void {
    for (;;) {
      try {
        const length = readSync(this.#fd, buffer);
        this.#received.push(decode(Buffer.from(buffer.subarray(0, length))));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return;
        throw error;
      }
    }
  }
}

export class GuestEngine {
  readonly supervisor: Supervisor;
  readonly server: Server;
  readonly guests: Set<EngineGuest> = new Set();
  /** Lines of the log. */
  readonly lines: [message: string, fields: LogFields | undefined][] = [];
  #made = 0;

  constructor(limits: ProcessLimits = processLimits) {
    this.supervisor = new Supervisor({ limits, debug: false, broker: null });
    const log = {
      enabled: () => true,
      log: (_level: LogLevel, message: string, fields?: LogFields) => this.lines.push([message, fields]),
    };
    this.server = new Server(this.supervisor, log, {
      fdEvent: () => undefined,
      broker: () => undefined,
      confined: () => undefined,
      failed: () => undefined,
    });
  }

  /** A guest, as soon as its packets flow. */
  async add(config: Partial<GuestConfig> = {}): Promise<EngineGuest> {
    const [theirs, ours] = pair();
    const name = `g${this.#made++}`;
    const guest = new EngineGuest(this.server, { ...plainGuest, name, ...config }, ours);
    this.guests.add(guest);
    await guest.session.attach({ kind: 'descriptor', fd: theirs, mtu: 1500 });
    return guest;
  }

  /** End it. */
  async remove(guest: EngineGuest): Promise<void> {
    await this.server.remove(guest.session);
    this.guests.delete(guest);
  }

  /** What all guests have in common. */
  async gauges(): Promise<Snapshot['gauges']> {
    const [guest] = this.guests;
    const { gauges } = await (guest as EngineGuest).client.snapshot();
    return gauges;
  }

  stop(): Promise<void> {
    return this.supervisor.stop();
  }
}
