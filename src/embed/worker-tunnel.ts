/**
 * A tunnel whose stack is a thread of this process.
 *
 *     configuration → thread → link → forwards → the embedder applies settings → running → stopping → over
 *
 * Whatever fails on the way, and whoever ends it: the thread is gone, with all that it had open, before anybody is told.
 */
import type { Socket as DatagramSocket } from 'node:dgram';
import type { Duplex } from 'node:stream';
import type { EngineClient, OpenForward } from '../control/engine-client.ts';
import { Server } from '../control/server.ts';
import type { Session } from '../control/session.ts';
import { Supervisor } from '../control/supervisor.ts';
import type { FlowReport, LinkInfo } from '../engine/messages.ts';
import { RuleForwards } from '../expose/rule-forwards.ts';
import type { PolicySpec } from '../firewall/verdict.ts';
import { PAGE_SIZE } from '../stack/buffer/slab.ts';
import { badConfig, TslirpError } from './errors.ts';
import { failureOf } from './failures.ts';
import { GuestSockets } from './guest-sockets.ts';
import { EmbedLog } from './log.ts';
import { type ReadConfig, readConfig, readPolicy } from './read-config.ts';
import { readForward } from './read-forwards.ts';
import { firstSettings, realDiff } from './settings.ts';
import type { ForwardHandle, GuestListener, Tunnel } from './tunnel.ts';
import { TunnelLife } from './tunnel-life.ts';
import type {
  CloseReason,
  EventOptions,
  FlowFilter,
  FlowInfo,
  ForwardConfig,
  GuestPlace,
  ListenPlace,
  NetworkSettings,
  OpenOptions,
  PolicyConfig,
  StopOptions,
  TunnelConfig,
  TunnelEvent,
  TunnelState,
  TunnelStatus,
} from './types.ts';
import { usedDescriptors } from './used-descriptors.ts';

const START_TIMEOUT_MS = 10_000;
const APPLY_TIMEOUT_MS = 5000;
/** How often it is seen whether the last connection is over. */
const LOOK_MS = 50;
/** Descriptors that are the embedder's business. */
const KEPT_DESCRIPTORS = 64;

let opened = 0;

export class WorkerTunnel implements Tunnel {
  readonly id: string = `t${++opened}`;
  readonly closed: Promise<CloseReason>;
  readonly #life: TunnelLife;
  readonly #config: ReadConfig;
  readonly #options: OpenOptions;
  readonly #log: EmbedLog;
  readonly #supervisor: Supervisor;
  readonly #session: Session;
  readonly #sockets: GuestSockets;
  readonly #forwards: RuleForwards;
  readonly #openedAt: number = Date.now();
  readonly #onAbort = (): void => void this.#end({ code: 'ABORTED' });
  #policy: PolicySpec;
  #link: LinkInfo | undefined;
  #ending: Promise<CloseReason> | undefined;
  /** Of what comes between: rejects the start. */
  #fail!: (error: Error) => void;
  readonly #failed: Promise<never>;
  /** Changes of settings, one after the other. */
  #changing: Promise<void> = Promise.resolve();
  /** No longer waited for: the grace of a stop. */
  readonly #hurry = new AbortController();

  /** Rejects with a `TslirpError`, and then nothing is left of it. `workerUrl` is for tests. */
  static async open(config: TunnelConfig, options: OpenOptions, workerUrl?: URL): Promise<WorkerTunnel> {
    const { signal } = options;
    if (signal?.aborted === true) throw abortError(signal);
    const read = await readConfig(config);
    for (const fd of read.fds)
      if (usedDescriptors.has(fd)) throw badConfig('link.fd', `descriptor ${fd} is another tunnel's`);
    for (const fd of read.fds) usedDescriptors.add(fd);
    const tunnel = new WorkerTunnel(read, options, workerUrl);
    await tunnel.#start();
    return tunnel;
  }

  private constructor(config: ReadConfig, options: OpenOptions, workerUrl: URL | undefined) {
    const { guest, limits } = config;
    this.#config = config;
    this.#options = options;
    this.#policy = guest.policy;
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => undefined);
    this.#life = new TunnelLife(
      (areWanted) => void this.#client.update({ areTold: areWanted }).catch(() => undefined),
    );
    this.closed = this.#life.closed;
    this.#log = new EmbedLog(options.log, (record) => {
      if (this.#life.feed.has('log')) this.#life.feed.tell({ type: 'log', record });
    });
    this.#supervisor = new Supervisor({
      ...{ limits, debug: this.#log.enabled('debug'), broker: null, isVisitor: true },
      wireguard: guest.target.kind === 'wireguard',
      tunnel: guest.target.kind === 'tunnel',
      ...(workerUrl === undefined ? {} : { workerUrl }),
    });
    if (options.unref === true) this.#supervisor.unref();
    const server = new Server(this.#supervisor, this.#log, {
      fdEvent: () => undefined,
      broker: () => undefined,
      confined: () => undefined,
      failed: (message) => this.#crashed(message),
    });
    const events = this.#life.feed.hub.sink(guest.name);
    this.#forwards = new RuleForwards(events);
    this.#session = server.add(guest, {
      flows: (report) => this.#tellFlow(report),
      forwardOpen: (forward) => this.#forwards.added(forward),
      linkGone: (detail) => {
        events.emit({ type: 'link.down', reason: detail });
        void this.#end({ code: 'LINK_CLOSED', detail });
      },
      linkDown: (reason) => events.emit({ type: 'link.down', reason }),
      linkUp: () => events.emit({ type: 'link.up' }),
    });
    this.#sockets = new GuestSockets(this.#session.client, guest.addresses);
  }

  get state(): TunnelState {
    return this.#life.state;
  }

  get settings(): NetworkSettings {
    return structuredClone(this.#life.settings);
  }

  get #client(): EngineClient {
    return this.#session.client;
  }

  stop({ graceMs = 0, signal }: StopOptions = {}): Promise<CloseReason> {
    if (signal?.aborted === true || graceMs === 0) this.#hurry.abort();
    else signal?.addEventListener('abort', () => this.#hurry.abort(), { once: true });
    return this.#end({ code: 'STOPPED' }, graceMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop().then(() => undefined);
  }

  events(options: EventOptions = {}): AsyncIterableIterator<TunnelEvent> {
    return this.#life.feed.read(options);
  }

  async status(): Promise<TunnelStatus> {
    this.#life.mustRun();
    const { counters, gauges } = await this.#asked(this.#client.snapshot());
    const { name = '', medium = 'ethernet', mtu = 0 } = this.#link ?? {};
    const of = (gauge: string): number => gauges[gauge] ?? 0;
    return {
      ...{ state: this.#life.state, uptimeMs: Date.now() - this.#openedAt, link: { name, medium, mtu } },
      flows: { tcp: of('tcp.flows'), udp: of('udp.flows'), icmp: of('ping.flows') },
      ...{ counters, gauges },
      memory: { used: of('memory.pages_used') * PAGE_SIZE, limit: this.#config.guest.limits.memoryMax },
    };
  }

  async *flows(filter: FlowFilter = {}): AsyncIterableIterator<FlowInfo> {
    this.#life.mustRun();
    for (const flow of await this.#asked(this.#client.listFlows())) {
      if (filter.protocol !== undefined && filter.protocol !== flow.protocol) continue;
      if (filter.kind !== undefined && filter.kind !== flow.kind) continue;
      if (filter.forward !== undefined && filter.forward !== flow.forward) continue;
      yield flow;
    }
  }

  async addForward(forward: ForwardConfig): Promise<ForwardHandle> {
    this.#life.mustRun();
    const [spec, ...more] = await readForward('forward', forward, this.#config.guest.addresses);
    if (spec === undefined || more.length > 0) throw badConfig('forward', 'is a range of ports; want one');
    const open = await this.#asked(this.#client.addForward(spec));
    this.#forwards.added(open);
    return this.#handle(open);
  }

  async setPolicy(policy: PolicyConfig, { revoke = false }: { revoke?: boolean } = {}): Promise<void> {
    this.#life.mustRun();
    const spec = await readPolicy(policy, this.#policy.guestNetworks, 'policy');
    await this.#asked(this.#client.update({ policy: spec, revoke }));
    this.#policy = spec;
  }

  updateSettings(diff: NetworkSettings): Promise<void> {
    const change = this.#changing.then(() => this.#change(diff));
    this.#changing = change.catch(() => undefined);
    return change;
  }

  wake(): void {
    this.#session.resolvConf?.lookAgain();
    this.#supervisor.send({ type: 'wake' });
  }

  async dial(to: GuestPlace): Promise<Duplex> {
    this.#life.mustRun();
    return this.#asked(this.#sockets.dial(to));
  }

  async listen(at: ListenPlace): Promise<GuestListener> {
    this.#life.mustRun();
    return this.#asked(this.#sockets.listen(at));
  }

  async dialDatagrams(to: GuestPlace): Promise<DatagramSocket> {
    this.#life.mustRun();
    return this.#asked(this.#sockets.dialDatagrams(to));
  }

  async listenDatagrams(at: ListenPlace): Promise<DatagramSocket> {
    this.#life.mustRun();
    return this.#asked(this.#sockets.listenDatagrams(at));
  }

  async #start(): Promise<void> {
    const { signal, startTimeoutMs = START_TIMEOUT_MS } = this.#options;
    const timer = setTimeout(() => {
      this.#fail(new TslirpError('START_TIMEOUT', `not running after ${startTimeoutMs} ms`));
    }, startTimeoutMs);
    const onAbort = (): void => this.#fail(abortError(signal));
    signal?.addEventListener('abort', onAbort);
    try {
      await this.#orFail(this.#bringUp());
      signal?.throwIfAborted();
    } catch (error) {
      await this.#end({ code: signal?.aborted === true ? 'ABORTED' : 'STOPPED' });
      throw signal?.aborted === true ? abortError(signal) : failureOf(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
    signal?.addEventListener('abort', this.#onAbort);
    this.#life.turn('running');
  }

  async #bringUp(): Promise<void> {
    const { guest, matchDomains } = this.#config;
    this.#link = await this.#orFail(this.#session.attach({ ...guest.target, mtu: guest.interface.mtu }));
    await this.#orFail(this.#session.openForwards(KEPT_DESCRIPTORS));
    const search = this.#session.resolvConf?.search ?? [];
    const { addresses, dns } = guest;
    const first = firstSettings({ addresses, dns, search, matchDomains }, this.#link.mtu);
    await this.#apply(first, first);
    this.#life.settings = first;
  }

  /** Whatever comes first. */
  #orFail<T>(step: Promise<T>): Promise<T> {
    return Promise.race([step, this.#failed]);
  }

  /** The embedder takes what is otherwise, or says why not. */
  async #apply(diff: NetworkSettings, full: NetworkSettings): Promise<void> {
    const { applySettings } = this.#options;
    if (applySettings === undefined) return;
    const late = new AbortController();
    const cancel = (): void => late.abort();
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new TslirpError('SETTINGS_REJECTED', `no answer within ${APPLY_TIMEOUT_MS} ms`)),
        APPLY_TIMEOUT_MS,
      );
    });
    this.#hurry.signal.addEventListener('abort', cancel);
    try {
      const info = { full: structuredClone(full), signal: late.signal };
      const applying = (async () => applySettings(structuredClone(diff), info))();
      await this.#orFail(Promise.race([applying.catch(rejected), tooLong]));
    } finally {
      clearTimeout(timer);
      this.#hurry.signal.removeEventListener('abort', cancel);
      late.abort();
    }
  }

  async #change(diff: NetworkSettings): Promise<void> {
    this.#life.mustRun();
    const real = realDiff(this.#life.settings, diff);
    if (Object.keys(real).length === 0) return;
    const full = { ...this.#life.settings, ...real };
    try {
      await this.#apply(real, full);
    } catch (error) {
      const failure = failureOf(error);
      this.#life.feed.tell({ type: 'settings.rejected', diff: real, message: failure.message });
      throw failure;
    }
    this.#life.settings = full;
    this.#life.feed.tell({ type: 'settings', settings: this.settings, diff: real });
  }

  #handle(open: OpenForward): ForwardHandle {
    const { id, listen } = open;
    return {
      id,
      host: listen.kind === 'ip' ? { ip: listen.address, port: listen.port } : { ip: listen.path, port: 0 },
      remove: async () => {
        if (this.#life.state !== 'running') return;
        await this.#client.removeForward(id);
        this.#forwards.removed(id);
      },
    };
  }

  /** The first reason counts. */
  #end(reason: CloseReason, graceMs = 0): Promise<CloseReason> {
    if (reason.code !== 'STOPPED') this.#hurry.abort();
    this.#life.reason ??= reason;
    this.#ending ??= this.#finish(this.#life.reason, graceMs);
    return this.#ending;
  }

  async #finish(reason: CloseReason, graceMs: number): Promise<CloseReason> {
    const { signal } = this.#options;
    const wasRunning = this.#life.state === 'running';
    signal?.removeEventListener('abort', this.#onAbort);
    const isCrash = reason.code === 'CRASHED';
    if (wasRunning && !isCrash) this.#life.turn('stopping');
    if (wasRunning && graceMs > 0) await this.#drain(graceMs);
    this.#forwards.end();
    this.#sockets.end();
    this.#session.fail(new TslirpError('NOT_RUNNING', 'the tunnel is over'));
    this.#fail(new TslirpError('NOT_RUNNING', 'the tunnel is over'));
    await this.#supervisor.stop();
    this.#session.close();
    for (const fd of this.#config.fds) usedDescriptors.delete(fd);
    this.#life.turn(isCrash ? 'failed' : 'stopped', reason);
    this.#life.feed.end();
    this.#log.close();
    this.#life.resolveClosed(reason);
    return reason;
  }

  /** Nothing new is opened, and what is there has so long. */
  async #drain(graceMs: number): Promise<void> {
    const until = performance.now() + graceMs;
    const { guestNetworks } = this.#policy;
    const nothing = { enableRouting: false, enableHost: false, allow: [], deny: [], guestNetworks };
    try {
      await this.#orHurry(this.#client.update({ policy: nothing }));
      for (const { id } of this.#client.listForwards()) await this.#orHurry(this.#client.removeForward(id));
      while (performance.now() < until) {
        const flows = (await this.#orHurry(this.#client.listFlows())) ?? [];
        if (this.#hurry.signal.aborted || !flows.some(({ protocol }) => protocol === 'tcp')) return;
        await this.#orHurry(new Promise((resolve) => setTimeout(resolve, LOOK_MS)));
      }
    } catch {
      // The data plane is gone: so is all that was waited for.
    }
  }

  /** Undefined: nobody waits any more. */
  #orHurry<T>(step: Promise<T>): Promise<T | undefined> {
    const { signal } = this.#hurry;
    step.catch(() => undefined);
    if (signal.aborted) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      const hurried = (): void => resolve(undefined);
      signal.addEventListener('abort', hurried, { once: true });
      step.then(resolve, reject).finally(() => signal.removeEventListener('abort', hurried));
    });
  }

  #crashed(message: string): void {
    // A stack may follow.
    const [detail = ''] = message.split('\n');
    if (this.#ending !== undefined) return;
    this.#fail(new TslirpError('INTERNAL', detail));
    if (this.#life.state !== 'starting') void this.#end({ code: 'CRASHED', detail });
  }

  /** An answer of the data plane, which may have gone meanwhile. */
  async #asked<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      // A socket's error is the guest's answer.
      if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
      throw this.#life.state === 'running'
        ? failureOf(error)
        : new TslirpError('NOT_RUNNING', 'the tunnel is over');
    }
  }

  #tellFlow(report: FlowReport): void {
    if (report.type === 'flowsLeftOut') {
      this.#life.feed.tell({ type: 'dropped', count: report.flows, what: 'flows' });
      return;
    }
    if (report.type !== 'flow') return;
    const { type: _, event, status: _s, failure: _f, repeated: _r, reason: _w, ...flow } = report;
    const isOpen = event === 'open';
    this.#life.feed.tell({
      type: isOpen ? 'flow.opened' : 'flow.closed',
      flow: { ...flow, state: isOpen ? 'ESTABLISHED' : 'CLOSED' },
    });
  }
}

function abortError(signal: AbortSignal | undefined): TslirpError {
  return new TslirpError('ABORTED', 'aborted', { cause: signal?.reason });
}

function rejected(cause: unknown): never {
  const message = cause instanceof Error ? cause.message : String(cause);
  throw new TslirpError('SETTINGS_REJECTED', message, { cause });
}
