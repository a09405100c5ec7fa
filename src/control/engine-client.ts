/**
 * Commands about one guest that the data plane answers, as promises: forwards, the list of flows, and cutting one. Answers
 * find their question by number; numbers are never used again (numbers.ts).
 */
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { Endpoint, ForwardSpec, HostEnd, LocalForwardSpec } from '../config.ts';
import type { InterfaceNetwork } from '../device-spec.ts';
import type { Command, Event, FlowInfo, GuestChange } from '../engine/messages.ts';
import type { Numbers } from './numbers.ts';

/** Why a forward could not be opened. */
export class ForwardRefused extends Error {
  /** Positive errno. */
  readonly errno: number;
  /** Of several ports, the one that it is about; 0: there is but one. */
  readonly port: number;

  constructor(errno: number, message: string, port = 0) {
    super(message);
    this.errno = errno;
    this.port = port;
  }
}

/** A forward that is open. */
export interface OpenForward {
  readonly id: number;
  readonly spec: ForwardSpec;
  /** What was really bound. */
  readonly listen: HostEnd;
  /** Ports that could not be had. */
  readonly missing?: number;
}

/** What has happened since the start, and what is held now. */
export interface Snapshot {
  counters: Record<string, number>;
  gauges: Record<string, number>;
}

/** Somebody who waits for the answer to a command. */
interface Waiting {
  readonly command: Command;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class EngineClient {
  private readonly send: (command: Command) => void;
  /** Its number. */
  readonly guest: number;
  private readonly numbers: Numbers;
  /** In the order of their numbers. */
  private readonly forwards = new Map<number, OpenForward>();
  /** By command and number; where several wait for the same, as many answers come, in order. */
  private readonly waiting = new Map<string, Waiting[]>();
  /** What was told of the flows so far, by request. */
  private readonly listed = new Map<number, FlowInfo[]>();

  constructor(send: (command: Command) => void, numbers: Numbers) {
    this.send = send;
    this.numbers = numbers;
    this.guest = numbers.nextGuest();
  }

  /**
   * Have the guest judged by another policy, and held to other limits, from now on; flows go on. Rejects with one line, and
   * nothing has changed then.
   */
  update(change: GuestChange): Promise<void> {
    return this.ask(this.guest, { type: 'updateGuest', guest: this.guest, ...change });
  }

  /** Change the guest's interface, for who has somebody inside that does. What could not be done is told in the log. */
  changeInterface(name: string, before: InterfaceNetwork, after: InterfaceNetwork): void {
    this.send({ type: 'changeInterface', guest: this.guest, name, before, after });
  }

  /** End the guest: its flows are reset to both sides. False: there is none. */
  remove(): Promise<boolean> {
    return this.ask(this.guest, { type: 'removeGuest', guest: this.guest });
  }

  /** Rejects with `ForwardRefused`. */
  addForward(spec: ForwardSpec): Promise<OpenForward> {
    const forward = this.numbers.nextForward();
    return this.ask(forward, { type: 'addForward', guest: this.guest, forward, spec });
  }

  /** Have a local forward that is open lead elsewhere. Rejects with `ForwardRefused`, and nothing has changed. */
  aimForward(
    { id: forward, spec }: OpenForward,
    aim: Pick<LocalForwardSpec, 'target' | 'source' | 'isIdle'>,
  ): Promise<OpenForward> {
    if (spec.direction !== 'local') throw new Error('a remote forward is not aimed');
    return this.ask(forward, { type: 'addForward', guest: this.guest, forward, spec: { ...spec, ...aim } });
  }

  /** False: there was no such forward. */
  removeForward(forward: number): Promise<boolean> {
    return this.ask(forward, { type: 'removeForward', guest: this.guest, forward });
  }

  /**
   * Connect to the guest: a descriptor that is the caller's from then on, of a connected stream socket. Rejects with
   * `ForwardRefused`.
   */
  dial(target: Endpoint): Promise<number> {
    const forward = this.numbers.nextForward();
    return this.ask(forward, { type: 'dialGuest', guest: this.guest, forward, target });
  }

  /** Those that are open, oldest first. */
  listForwards(): OpenForward[] {
    return [...this.forwards.values()];
  }

  listFlows(): Promise<FlowInfo[]> {
    const request = this.numbers.nextRequest();
    return this.ask(request, { type: 'listFlows', guest: this.guest, request });
  }

  /** False: there is no such flow. */
  closeFlow(flow: number): Promise<boolean> {
    const request = this.numbers.nextRequest();
    return this.ask(request, { type: 'closeFlow', guest: this.guest, request, flow });
  }

  /** Whether a client of a unix socket of ours is in our network namespace; for inode 0, whether that can be told. */
  isNear(inode: number): Promise<boolean> {
    const request = this.numbers.nextRequest();
    return this.ask(request, { type: 'judgePeer', request, inode });
  }

  /** A NETLINK_SOCK_DIAG socket of the host's network, or `-errno`. */
  openSockets(): Promise<number> {
    const request = this.numbers.nextRequest();
    return this.ask(request, { type: 'openSockets', guest: this.guest, request });
  }

  snapshot(): Promise<Snapshot> {
    const request = this.numbers.nextRequest();
    return this.ask(request, { type: 'snapshot', guest: this.guest, request });
  }

  /** An event of the data plane; those that answer nothing are ignored. */
  receive(event: Event): void {
    switch (event.type) {
      case 'forwardAdded': {
        const { forward: id, listen, missing = 0 } = event;
        const waiting = this.take('addForward', id);
        if (waiting?.command.type !== 'addForward') return;
        const open = { id, spec: waiting.command.spec, listen, missing };
        this.forwards.set(id, open);
        waiting.resolve(open);
        return;
      }
      case 'forwardFailed':
        this.take('addForward', event.forward)?.reject(
          new ForwardRefused(event.error, event.message, event.port),
        );
        return;
      case 'forwardRemoved':
        this.forwards.delete(event.forward);
        this.take('removeForward', event.forward)?.resolve(event.existed);
        return;
      case 'guestDialed': {
        const { fd, error } = event;
        const waiting = this.take('dialGuest', event.forward);
        if (fd < 0) waiting?.reject(new ForwardRefused(error, getSystemErrorName(-error)));
        else if (waiting === undefined) closeSync(fd);
        else waiting.resolve(fd);
        return;
      }
      case 'guestUpdated': {
        const waiting = this.take('updateGuest', event.guest);
        if (event.reason === '') waiting?.resolve(undefined);
        else waiting?.reject(new Error(event.reason));
        return;
      }
      case 'guestRemoved':
        this.forwards.clear();
        this.take('removeGuest', event.guest)?.resolve(event.existed);
        return;
      case 'flows': {
        const { request } = event;
        const flows = this.listed.get(request) ?? [];
        flows.push(...event.flows);
        this.listed.set(request, flows);
        if (event.more) return;
        this.listed.delete(request);
        this.take('listFlows', request)?.resolve(flows);
        return;
      }
      case 'flowClosed':
        this.take('closeFlow', event.request)?.resolve(event.existed);
        return;
      case 'peerJudged':
        this.take('judgePeer', event.request)?.resolve(event.near);
        return;
      case 'socketsOpened':
        this.take('openSockets', event.request)?.resolve(event.fd);
        return;
      case 'snapshot': {
        const { request, counters, gauges } = event;
        this.take('snapshot', request)?.resolve({ counters, gauges });
        return;
      }
      default:
        return;
    }
  }

  /** The data plane is gone: nothing will be answered any more. */
  fail(error: Error): void {
    for (const waiting of [...this.waiting.values()].flat()) waiting.reject(error);
    this.waiting.clear();
    this.listed.clear();
  }

  private ask<T>(number: number, command: Command): Promise<T> {
    return new Promise((resolve, reject) => {
      const key = `${command.type} ${number}`;
      const waiting = this.waiting.get(key) ?? [];
      waiting.push({ command, resolve: resolve as Waiting['resolve'], reject });
      this.waiting.set(key, waiting);
      this.send(command);
    });
  }

  /** Whoever has waited longest for the answer that has come. */
  private take(type: Command['type'], number: number): Waiting | undefined {
    const key = `${type} ${number}`;
    const waiting = this.waiting.get(key);
    const first = waiting?.shift();
    if (waiting?.length === 0) this.waiting.delete(key);
    return first;
  }
}
