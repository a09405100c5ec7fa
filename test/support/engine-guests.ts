/**
 * A real data plane with as many guests as a test wants, each on one end of a unix socket pair whose other end is the
 * test's. Their gateway is the machine's loopback.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { defaultAddresses, type GuestSpec, processLimits, sharedLimits } from '../../src/config.ts';
import { EngineClient, type Snapshot } from '../../src/control/engine-client.ts';
import { Supervisor } from '../../src/control/supervisor.ts';
import type { Event } from '../../src/engine/messages.ts';
import { profiles } from '../../src/profiles.ts';
import { Memory } from '../../src/sys/memory.ts';
import { AF_UNIX, SOCK_DGRAM, socketpair } from '../../src/sys/socket.ts';
import { type Decoded, decode, frame } from './lab/packets.ts';
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

export const plainSpec: Omit<GuestSpec, 'device'> = {
  limits: sharedLimits,
  addresses: defaultAddresses,
  policy: {
    enableRouting: true,
    enableHost: true,
    allow: [],
    deny: [],
    guestNetworks: [{ address: '10.0.2.0', bits: 120 }],
  },
  behavior: { ...profiles.tslirp, gatewayIsLoopback: true },
  congestion: 'none',
  source4: '',
  source6: '',
  outboundInterface: '',
  dns: true,
  autoconfiguration: true,
  pcapPath: '',
  pcapFormat: 'pcap',
};

export class EngineGuest {
  readonly client: EngineClient;
  /** Events about this guest. */
  readonly events: Event[] = [];
  readonly #fd: number;
  /** What came and nobody has taken yet. */
  readonly #received: Decoded[] = [];

  constructor(client: EngineClient, fd: number) {
    this.client = client;
    this.#fd = fd;
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
  readonly guests: Map<number, EngineGuest> = new Map();
  /** Events about no guest. */
  readonly events: Event[] = [];

  constructor() {
    this.supervisor = new Supervisor({ limits: processLimits, debug: false, broker: null });
    this.supervisor.listen({
      event: (event) => {
        const guest = 'guest' in event ? this.guests.get(event.guest) : undefined;
        (guest ?? this).events.push(event);
        guest?.client.receive(event);
      },
      ended: () => undefined,
    });
  }

  /** A guest, as soon as its packets flow. */
  async add(spec: Partial<GuestSpec> = {}): Promise<EngineGuest> {
    const [theirs, ours] = pair();
    const client = new EngineClient((command) => this.supervisor.send(command), this.supervisor.numbers);
    const guest = new EngineGuest(client, ours);
    this.guests.set(client.guest, guest);
    const device = { kind: 'descriptor' as const, fd: theirs, mtu: 1500 };
    this.supervisor.send({ type: 'addGuest', guest: client.guest, spec: { ...plainSpec, device, ...spec } });
    await until(
      () => {
        const failed = guest.events.find((event) => event.type === 'guestFailed');
        if (failed?.type === 'guestFailed') throw new Error(failed.message);
        return guest.events.some((event) => event.type === 'guestReady');
      },
      'a guest',
      PATIENCE_MS,
    );
    return guest;
  }

  /** What all guests have in common. */
  async gauges(): Promise<Snapshot['gauges']> {
    const [guest] = this.guests.values();
    const { gauges } = await (guest as EngineGuest).client.snapshot();
    return gauges;
  }

  stop(): Promise<void> {
    return this.supervisor.stop();
  }
}
