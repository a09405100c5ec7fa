/** Devices that are being opened: an order to the broker and the guest that it is for come together in either sequence. */
import type { AddressPlan } from '../config.ts';
import { DeviceError } from '../device-error.ts';
import type { InterfaceDevice } from '../device-spec.ts';
import { close } from '../sys/io.ts';
import { DeviceOpening, type OpenInterface, type OpeningContext } from './device-opening.ts';
import type { PendingLink } from './open-link.ts';

class Wanted implements PendingLink {
  readonly spec: InterfaceDevice;
  readonly plan: AddressPlan;
  readonly #done: (result: OpenInterface | Error) => void;
  opening: DeviceOpening | undefined;
  closed = false;

  constructor(spec: InterfaceDevice, plan: AddressPlan, done: (result: OpenInterface | Error) => void) {
    this.spec = spec;
    this.plan = plan;
    this.#done = done;
  }

  done(result: OpenInterface | Error): void {
    if (!this.closed) this.#done(result);
  }

  close(): void {
    this.closed = true;
    this.opening?.close();
  }
}

export class DeviceOpenings {
  readonly #context: OpeningContext;
  /** By number of the order. */
  readonly #wanted = new Map<number, Wanted>();
  readonly #channels = new Map<number, number>();
  /** Nobody answers orders. */
  #none = false;

  constructor(context: OpeningContext) {
    this.#context = context;
  }

  /** `done` is called once, unless what waits for it is closed. */
  open(spec: InterfaceDevice, plan: AddressPlan, done: (result: OpenInterface | Error) => void): PendingLink {
    const wanted = new Wanted(spec, plan, done);
    this.#wanted.set(spec.order, wanted);
    this.#begin(spec.order);
    return wanted;
  }

  /** The answer to an order: a channel to a child of the broker. */
  channel(order: number, fd: number): void {
    this.#channels.set(order, fd);
    this.#begin(order);
  }

  /** The broker has ended. */
  none(): void {
    this.#none = true;
    for (const order of this.#wanted.keys()) this.#begin(order);
  }

  close(): void {
    for (const fd of this.#channels.values()) close(fd);
    this.#channels.clear();
  }

  #begin(order: number): void {
    const wanted = this.#wanted.get(order);
    const channel = this.#channels.get(order);
    if (wanted === undefined || (channel === undefined && !this.#none)) return;
    this.#wanted.delete(order);
    this.#channels.delete(order);
    const { spec, plan } = wanted;
    if (wanted.closed) {
      if (channel !== undefined) close(channel);
      return;
    }
    if (channel === undefined) {
      wanted.done(new DeviceError('namespace', 0, 'the process that opens devices has ended'));
      return;
    }
    try {
      wanted.opening = new DeviceOpening(this.#context, spec, plan, channel, (result) => wanted.done(result));
    } catch (error) {
      wanted.done(error as Error);
    }
  }
}
