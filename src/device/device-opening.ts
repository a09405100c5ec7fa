/**
 * Opening an interface of a namespace that we cannot enter, without waiting for anything: a child of the broker is inside,
 * opens the device, and does what needs rights (sys/netns/exchange). What it answers comes as the loop's events do, so that
 * guests that are there already lose nothing by one that comes.
 */
import { getSystemErrorName } from 'node:util';
import type { AddressPlan } from '../config.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import type { InterfaceDevice } from '../device-spec.ts';
import { type Clock, type IoHandler, type Poller, TimerNode, type Timers } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { EAGAIN, EINTR, ETIMEDOUT } from '../sys/errno.ts';
import { setNonBlocking } from '../sys/io.ts';
import type { Exchange } from '../sys/netns/exchange.ts';
import { MessageSocket } from '../sys/pass-descriptor.ts';
import { SHUT_WR, shutdown } from '../sys/socket.ts';
import { type OpenedInterface, openInterface } from './open-interface.ts';

/** Of a netlink answer, or a line with a path. */
const MESSAGE_BYTES = 32768;
/** For all of it. */
const LIMIT_MS = 5_000;

export interface OpeningContext {
  readonly poller: Poller;
  readonly timers: Timers;
  readonly clock: Clock;
}

/** What an interface comes to; both descriptors are the receiver's. */
export interface OpenInterface extends OpenedInterface {
  tun: number;
  /** A NETLINK_ROUTE socket of its namespace. */
  netlink: number;
}

export class DeviceOpening extends TimerNode implements IoHandler {
  waiting = false;
  readonly #context: OpeningContext;
  readonly #spec: InterfaceDevice;
  readonly #plan: AddressPlan;
  readonly #done: (result: OpenInterface | Error) => void;
  readonly #channel: Descriptor;
  readonly #socket: MessageSocket;
  readonly #token: number;
  #tun = new Descriptor(-1);
  #netlink = new Descriptor(-1);
  #steps: Exchange<OpenedInterface> | undefined;
  #result: OpenedInterface | Error | undefined;

  /** `channel`, which it closes, leads to the child. `done` is called once. @throws DeviceError */
  constructor(
    context: OpeningContext,
    spec: InterfaceDevice,
    plan: AddressPlan,
    channel: number,
    done: (result: OpenInterface | Error) => void,
  ) {
    super();
    this.#context = context;
    this.#spec = spec;
    this.#plan = plan;
    this.#done = done;
    this.#channel = new Descriptor(channel);
    this.#socket = new MessageSocket(channel, MESSAGE_BYTES);
    this.#token = context.poller.add(channel, EPOLLIN, this);
    if (this.#token < 0) {
      this.#channel.close();
      throw new DeviceError('namespace', -this.#token, getSystemErrorName(this.#token));
    }
    this.deadline = context.clock.nowMs + LIMIT_MS;
    context.timers.update(this);
  }

  onIo(): void {
    while (this.#channel.fd >= 0) {
      const length = this.#socket.receive();
      if (length === -EAGAIN) return;
      if (length === -EINTR) continue;
      if (length <= 0) this.#end();
      // Whatever it still says is no answer to anything any more.
      else if (this.#result === undefined) this.#take();
    }
  }

  onTimer(): void {
    this.#result = new DeviceError(
      'namespace',
      ETIMEDOUT,
      `opening the device took longer than ${LIMIT_MS / 1000} s`,
    );
    this.#end();
  }

  /** Given up. */
  close(): void {
    this.#context.timers.cancel(this);
    if (this.#channel.fd < 0) return;
    this.#context.poller.remove(this.#token);
    this.#channel.close();
    this.#tun.close();
    this.#netlink.close();
  }

  #take(): void {
    const socket = this.#socket;
    try {
      if (this.#tun.fd < 0) this.#tun = new Descriptor(this.#descriptor());
      else if (this.#netlink.fd < 0) {
        this.#netlink = new Descriptor(this.#descriptor());
        setNonBlocking(this.#tun.fd);
        this.#steps = openInterface(this.#spec, this.#plan, this.#tun.fd);
        this.#step(this.#steps.next());
      } else if (this.#steps !== undefined) this.#step(this.#steps.next(socket.content));
    } catch (error) {
      this.#finish(error as Error);
    }
  }

  /** The one that has come, or the reason why none has. */
  #descriptor(): number {
    const { text } = this.#socket;
    const fd = this.#socket.take();
    if (fd >= 0) return fd;
    const [, step = 'namespace', errno = '0', what = text] = /^(\w+) (\d+) (.*)$/s.exec(text) ?? [];
    const message = what.replace(/%m$/, () => getSystemErrorName(-Number(errno)));
    throw new DeviceError(step as DeviceStep, Number(errno), message);
  }

  #step({ done, value }: IteratorResult<Uint8Array | null, OpenedInterface>): void {
    if (done === true) this.#finish(value);
    else if (value !== null) {
      const result = this.#socket.send(value);
      if (result < 0) throw new DeviceError('namespace', -result, getSystemErrorName(result));
    }
  }

  /** The child lets go when we do: an interface lives as long as the last descriptor attached to it. */
  #finish(result: OpenedInterface | Error): void {
    this.#result = result;
    shutdown(this.#channel.fd, SHUT_WR);
  }

  #end(): void {
    const result =
      this.#result ?? new DeviceError('namespace', 0, 'the process that opens the device has ended');
    const [tun, netlink] = [this.#tun.fd, this.#netlink.fd];
    if (!(result instanceof Error)) {
      this.#tun = new Descriptor(-1);
      this.#netlink = new Descriptor(-1);
    }
    this.close();
    this.#done(result instanceof Error ? result : { ...result, tun, netlink });
  }
}
