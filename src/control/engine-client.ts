/**
 * Commands about one guest that the data plane answers, as promises: forwards, the list of flows, and cutting one. Answers
 * find their question by number; numbers are never used again (numbers.ts).
 */
import type { ForwardSpec, HostEnd, Limits } from '../config.ts';
import type { Command, Event, FlowInfo } from '../engine/messages.ts';
import type { PolicySpec } from '../firewall/verdict.ts';
import type { Numbers } from './numbers.ts';

/** Why a forward could not be opened. */
export class ForwardRefused extends Error {
  /** Positive errno. */
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** A forward that is open. */
export interface OpenForward {
  readonly id: number;
  readonly spec: ForwardSpec;
  /** What was really bound. */
  readonly listen: HostEnd;
}

/** What has happened since the start, and what is held now. */
export interface Snapshot {
  counters: Record<string, number>;
  gauges: Record<string, number>;
}

interface Settle<T> {
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

export class EngineClient {
  private readonly send: (command: Command) => void;
  /** Its number. */
  readonly guest: number;
  private readonly numbers: Numbers;
  /** In the order of their numbers. */
  private readonly forwards = new Map<number, OpenForward>();
  private readonly adding = new Map<number, Settle<OpenForward> & { spec: ForwardSpec }>();
  private readonly removing = new Map<number, Settle<boolean>[]>();
  /** With what was told of the flows so far. */
  private readonly listing = new Map<number, Settle<FlowInfo[]> & { flows: FlowInfo[] }>();
  /** In order, as the answers come. */
  private readonly updating: Settle<void>[] = [];
  private readonly leaving: Settle<boolean>[] = [];
  /** Of `closeFlow`. */
  private readonly asking = new Map<number, Settle<boolean>>();
  private readonly counting = new Map<number, Settle<Snapshot>>();

  constructor(send: (command: Command) => void, numbers: Numbers) {
    this.send = send;
    this.numbers = numbers;
    this.guest = numbers.nextGuest();
  }

  /**
   * Have the guest judged by another policy, and held to other limits, from now on; flows go on. Rejects with one line, and
   * nothing has changed then.
   */
  update(change: { policy?: PolicySpec; limits?: Partial<Limits> }): Promise<void> {
    return new Promise((resolve, reject) => {
      this.updating.push({ resolve, reject });
      this.send({ type: 'updateGuest', guest: this.guest, ...change });
    });
  }

  /** End the guest: its flows are reset to both sides. False: there is none. */
  remove(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.leaving.push({ resolve, reject });
      this.send({ type: 'removeGuest', guest: this.guest });
    });
  }

  /** Rejects with `ForwardRefused`. */
  addForward(spec: ForwardSpec): Promise<OpenForward> {
    const forward = this.numbers.nextForward();
    return new Promise((resolve, reject) => {
      this.adding.set(forward, { resolve, reject, spec });
      this.send({ type: 'addForward', guest: this.guest, forward, spec });
    });
  }

  /** False: there was no such forward. */
  removeForward(forward: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const waiting = this.removing.get(forward);
      if (waiting === undefined) this.removing.set(forward, [{ resolve, reject }]);
      else waiting.push({ resolve, reject });
      this.send({ type: 'removeForward', guest: this.guest, forward });
    });
  }

  /** Those that are open, oldest first. */
  listForwards(): OpenForward[] {
    return [...this.forwards.values()];
  }

  listFlows(): Promise<FlowInfo[]> {
    const request = this.numbers.nextRequest();
    return new Promise((resolve, reject) => {
      this.listing.set(request, { resolve, reject, flows: [] });
      this.send({ type: 'listFlows', guest: this.guest, request });
    });
  }

  /** False: there is no such flow. */
  closeFlow(flow: number): Promise<boolean> {
    const request = this.numbers.nextRequest();
    return new Promise((resolve, reject) => {
      this.asking.set(request, { resolve, reject });
      this.send({ type: 'closeFlow', guest: this.guest, request, flow });
    });
  }

  snapshot(): Promise<Snapshot> {
    const request = this.numbers.nextRequest();
    return new Promise((resolve, reject) => {
      this.counting.set(request, { resolve, reject });
      this.send({ type: 'snapshot', guest: this.guest, request });
    });
  }

  /** An event of the data plane; those that answer nothing are ignored. */
  receive(event: Event): void {
    switch (event.type) {
      case 'forwardAdded': {
        const waiting = take(this.adding, event.forward);
        if (waiting === undefined) return;
        const open = { id: event.forward, spec: waiting.spec, listen: event.listen };
        this.forwards.set(open.id, open);
        waiting.resolve(open);
        return;
      }
      case 'forwardFailed':
        take(this.adding, event.forward)?.reject(new ForwardRefused(event.error, event.message));
        return;
      case 'forwardRemoved': {
        this.forwards.delete(event.forward);
        // One answer for each question, in order.
        const waiting = this.removing.get(event.forward);
        const first = waiting?.shift();
        if (waiting?.length === 0) this.removing.delete(event.forward);
        first?.resolve(event.existed);
        return;
      }
      case 'guestUpdated': {
        const waiting = this.updating.shift();
        if (event.reason === '') waiting?.resolve();
        else waiting?.reject(new Error(event.reason));
        return;
      }
      case 'guestRemoved':
        this.forwards.clear();
        this.leaving.shift()?.resolve(event.existed);
        return;
      case 'flows':
        this.takeFlows(event);
        return;
      case 'flowClosed':
        take(this.asking, event.request)?.resolve(event.existed);
        return;
      case 'snapshot': {
        const { counters, gauges } = event;
        take(this.counting, event.request)?.resolve({ counters, gauges });
        return;
      }
      default:
        return;
    }
  }

  private takeFlows({ request, flows, more }: Extract<Event, { type: 'flows' }>): void {
    const waiting = this.listing.get(request);
    waiting?.flows.push(...flows);
    if (!more) take(this.listing, request)?.resolve(waiting?.flows ?? []);
  }

  /** The data plane is gone: nothing will be answered any more. */
  fail(error: Error): void {
    const maps = [this.adding, this.listing, this.asking, this.counting];
    for (const map of maps) for (const waiting of map.values()) waiting.reject(error);
    for (const waiting of [...this.updating.splice(0), ...this.leaving.splice(0)]) waiting.reject(error);
    for (const list of this.removing.values()) for (const waiting of list) waiting.reject(error);
    for (const map of [...maps, this.removing]) map.clear();
  }
}

function take<T>(map: Map<number, T>, key: number): T | undefined {
  const value = map.get(key);
  map.delete(key);
  return value;
}
