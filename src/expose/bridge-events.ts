/**
 * An events file (bridge-line.ts) as it grows: each service it names is published once, until it is withdrawn. A service has
 * one port of the host, the first that is named. A line may
 * come in pieces. One that cannot be read is told of by its number, and the next is read.
 */

import { BRIDGE_LINE_MAX, type Bridge, readBridge } from './bridge-line.ts';
import type { End, Protocol } from './event.ts';
import type { Service, ServiceSink } from './service.ts';

/** Faults that are told of one by one. */
const FAULTS_TOLD = 20;
/** Services at a time: more than a publisher takes, and yet a bound. */
const SERVICES_MAX = 65_536;
const NEWLINE = 0x0a;

export class BridgeEvents {
  readonly #sink: ServiceSink;
  readonly #guest: string;
  readonly #warn: (message: string) => void;
  readonly #services = new Map<string, Service>();
  #begun: Buffer = Buffer.alloc(0);
  #line = 1;
  #faults = 0;

  /** `guest` is its name. */
  constructor(sink: ServiceSink, guest: string, warn: (message: string) => void) {
    this.#sink = sink;
    this.#guest = guest;
    this.#warn = warn;
  }

  push(piece: Buffer): void {
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, from)) {
      this.#take(Buffer.concat([this.#begun, piece.subarray(from, end)]));
      this.#begun = Buffer.alloc(0);
      this.#line++;
      from = end + 1;
    }
    // Of a line that is too long anyway, no more than it takes to see that.
    const room = BRIDGE_LINE_MAX + 1 - this.#begun.length;
    if (room > 0) this.#begun = Buffer.concat([this.#begun, piece.subarray(from, from + room)]);
  }

  /** What comes next is the beginning of a file. */
  restart(): void {
    this.#begun = Buffer.alloc(0);
    this.#line = 1;
  }

  #take(bytes: Buffer): void {
    const bridge = readBridge(bytes.toString('latin1'), this.#guest);
    if (bridge === null) return;
    if (typeof bridge === 'string') this.#fault(bridge);
    else if (bridge.withdrawn) this.#withdraw(bridge);
    else this.#publish(bridge);
  }

  #publish(bridge: Bridge): void {
    const key = keyOf(bridge);
    const known = this.#services.get(key);
    if (known !== undefined) {
      if (known.hostPort !== bridge.hostEnd.port || known.hostAddress !== bridge.hostEnd.ip)
        this.#fault(`names another port for a service that has ${known.hostPort} already`);
      return;
    }
    if (this.#services.size >= SERVICES_MAX) {
      this.#fault(`is beyond the ${SERVICES_MAX} services that are kept`);
      return;
    }
    const { proto, guestEnd, hostEnd, source } = bridge;
    const service: Service = {
      ...{ proto, guestEnd, dualStack: false, process: null, source },
      ...{ hostPort: hostEnd.port, hostAddress: hostEnd.ip },
    };
    this.#services.set(key, service);
    this.#sink.appear(service);
  }

  #withdraw(bridge: Bridge): void {
    const key = keyOf(bridge);
    const service = this.#services.get(key);
    if (service === undefined) return;
    this.#services.delete(key);
    this.#sink.vanish(service, 'policy');
  }

  #fault(what: string): void {
    this.#faults++;
    if (this.#faults <= FAULTS_TOLD) this.#warn(`line ${this.#line} ${what}`);
    if (this.#faults === FAULTS_TOLD) this.#warn('further lines that cannot be used are not told of');
  }
}

function keyOf({ proto, guestEnd }: { proto: Protocol; guestEnd: End }): string {
  return `${proto} ${guestEnd.ip} ${guestEnd.port}`;
}
