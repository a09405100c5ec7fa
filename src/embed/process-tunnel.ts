/** A tunnel whose stack is a child: the same as one in a thread, by the control protocol (docs/daemon.md). */
import type { Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { connect, isIPv4 } from 'node:net';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { defaultAddresses, type ForwardSpec } from '../config.ts';
import type { OpenForward } from '../control/engine-client.ts';
import { Channel } from '../daemon/channel.ts';
import type { JsonObject } from '../daemon/strict-json.ts';
import type { GuestEvent, Listener, Published } from '../expose/event.ts';
import { packageRoot } from '../package-root.ts';
import { badConfig, TslirpError } from './errors.ts';
import { GuestSockets } from './guest-sockets.ts';
import { makeSnapshot, removeSnapshot } from './integrity/snapshot.ts';
import { type Verified, verifyContents } from './integrity/verify.ts';
import { EmbedLog } from './log.ts';
import { FIRST_INHERITED, StackProcess } from './stack-process.ts';
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
  LogLevel,
  NetworkSettings,
  OpenOptions,
  PolicyConfig,
  StopOptions,
  TunnelConfig,
  TunnelEvent,
  TunnelNews,
  TunnelState,
  TunnelStatus,
} from './types.ts';
import { usedDescriptors } from './used-descriptors.ts';

const START_TIMEOUT_MS = 10_000;
const APPLY_TIMEOUT_MS = 5000;
const GUEST = 'guest';
const FLOW_TYPES = ['flow.opened', 'flow.closed'];

let opened = 0;

/** What goes to the child instead of numbers that only we know. */
interface Handed {
  config: TunnelConfig;
  fds: number[];
}

export class ProcessTunnel implements Tunnel {
  readonly id: string = `p${++opened}`;
  readonly closed: Promise<CloseReason>;
  readonly #life: TunnelLife;
  readonly #options: OpenOptions;
  readonly #process: StackProcess;
  readonly #channel: Channel;
  readonly #log: EmbedLog;
  readonly #sockets: GuestSockets;
  readonly #usedFd: number;
  readonly #onAbort = (): void => void this.#end({ code: 'ABORTED' });
  #name = '';
  #ending: Promise<CloseReason> | undefined;
  /** What the embedder has thrown at last. */
  #rejection: unknown;
  #seen!: () => void;
  /** Resolves with the first snapshot. */
  readonly #firstSeen: Promise<void>;

  /** Rejects with a `TslirpError`, and then nothing is left of it. */
  static async open(config: TunnelConfig, options: OpenOptions): Promise<ProcessTunnel> {
    const { signal, executable } = options;
    if (signal?.aborted === true) throw abortError(signal);
    const { link } = config as Partial<TunnelConfig>;
    const used = typeof link === 'object' && link !== null && 'fd' in link ? link.fd : -1;
    if (usedDescriptors.has(used)) throw badConfig('link.fd', `descriptor ${used} is another tunnel's`);
    const handed = handOver(config);
    const installed = trusted(options);
    if (used >= 0) usedDescriptors.add(used);
    try {
      const level = options.log?.level ?? 'info';
      const { root } = installed;
      const process = await StackProcess.start({
        executable,
        root,
        args: ['--log-level', level],
        fds: handed.fds,
      });
      const tunnel = new ProcessTunnel(process, used, config, options);
      await tunnel.#start(handed.config, installed.verified);
      return tunnel;
    } catch (error) {
      usedDescriptors.delete(used);
      throw error;
    } finally {
      // It has loaded what it needs.
      installed.release();
    }
  }

  private constructor(process: StackProcess, usedFd: number, config: TunnelConfig, options: OpenOptions) {
    this.#process = process;
    this.#usedFd = usedFd;
    this.#options = options;
    this.#firstSeen = new Promise((resolve) => {
      this.#seen = resolve;
    });
    this.#life = new TunnelLife((areWanted) => this.#tellOfFlows(areWanted));
    this.closed = this.#life.closed;
    this.#log = new EmbedLog(options.log, (record) => {
      if (this.#life.feed.has('log')) this.#life.feed.tell({ type: 'log', record });
    });
    this.#channel = new Channel(
      'embedder',
      { input: process.socket, output: process.socket },
      {
        request: (type, fields) => this.#request(type, fields),
        notice: (type, fields) => this.#notice(type, fields),
        ended: () => void this.#lost(),
      },
    );
    if (options.unref === true) process.unref();
    const gateway4 = config.addresses?.gateway.map(withoutLength).find(isIPv4) ?? defaultAddresses.gateway4;
    this.#sockets = new GuestSockets(
      {
        dial: () => Promise.reject(new Error('a child has its own descriptors')),
        addForward: (spec) => this.#openForward(spec),
        removeForward: (id) => this.#removeForward(id),
      },
      { gateway4 },
    );
  }

  get state(): TunnelState {
    return this.#life.state;
  }

  get settings(): NetworkSettings {
    return structuredClone(this.#life.settings);
  }

  stop({ graceMs = 0, signal }: StopOptions = {}): Promise<CloseReason> {
    const hurry = (): void => void this.#hurry();
    if (signal?.aborted === true || graceMs === 0) hurry();
    else signal?.addEventListener('abort', hurry, { once: true });
    return this.#end({ code: 'STOPPED' }, signal?.aborted === true ? 0 : graceMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop().then(() => undefined);
  }

  events(options: EventOptions = {}): AsyncIterableIterator<TunnelEvent> {
    return this.#life.feed.read(options);
  }

  async status(): Promise<TunnelStatus> {
    return (await this.#ask('status'))['status'] as TunnelStatus;
  }

  async *flows(filter?: FlowFilter): AsyncIterableIterator<FlowInfo> {
    let next: number | undefined;
    do {
      const page = await this.#ask('flows', {
        ...(filter === undefined ? {} : { filter }),
        ...(next === undefined ? {} : { next }),
      });
      yield* page['flows'] as FlowInfo[];
      next = page['next'] as number | undefined;
    } while (next !== undefined);
  }

  async addForward(forward: ForwardConfig): Promise<ForwardHandle> {
    const answer = await this.#ask('forward.add', { forward });
    const id = answer['forward'] as number;
    const host = answer['host'] as ForwardHandle['host'];
    let removed: Promise<boolean> | undefined;
    const remove = async (): Promise<void> => {
      removed ??= this.#removeForward(id);
      await removed;
    };
    return { id, host, remove };
  }

  async setPolicy(policy: PolicyConfig, options: { revoke?: boolean } = {}): Promise<void> {
    await this.#ask('policy.set', { policy, ...options });
  }

  async updateSettings(diff: NetworkSettings): Promise<void> {
    this.#rejection = undefined;
    try {
      const { settings } = await this.#ask('settings.update', { diff });
      this.#life.settings = settings as NetworkSettings;
    } catch (error) {
      throw this.#withCause(error);
    }
  }

  wake(): void {
    void this.#ask('wake').catch(() => undefined);
  }

  async dial(to: GuestPlace): Promise<Duplex> {
    const { name, token } = await this.#ask('dial', { host: to.host, port: to.port });
    const socket = connect({ path: `\0${name as string}`, allowHalfOpen: true });
    await once(socket, 'connect');
    socket.write(token as string);
    return socket;
  }

  async listen(at: ListenPlace): Promise<GuestListener> {
    this.#life.mustRun();
    return this.#sockets.listen(at);
  }

  async dialDatagrams(to: GuestPlace): Promise<DatagramSocket> {
    this.#life.mustRun();
    return this.#sockets.dialDatagrams(to);
  }

  async listenDatagrams(at: ListenPlace): Promise<DatagramSocket> {
    this.#life.mustRun();
    return this.#sockets.listenDatagrams(at);
  }

  async #start(config: TunnelConfig, verified?: Verified): Promise<void> {
    const { signal, startTimeoutMs = START_TIMEOUT_MS } = this.#options;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), startTimeoutMs);
    const either = signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]);
    try {
      await orAbort(this.#bringUp(config, startTimeoutMs, verified), either);
    } catch (error) {
      await this.#end({ code: signal?.aborted === true ? 'ABORTED' : 'STOPPED' });
      if (signal?.aborted === true) throw abortError(signal);
      if (late.signal.aborted)
        throw new TslirpError('START_TIMEOUT', `not running after ${startTimeoutMs} ms`);
      throw (error as TslirpError).code === 'CHILD_EXITED'
        ? exited(await this.#process.gone)
        : this.#withCause(error);
    } finally {
      clearTimeout(timer);
    }
    signal?.addEventListener('abort', this.#onAbort);
    this.#life.turn('running');
  }

  async #bringUp(config: TunnelConfig, startTimeoutMs: number, verified?: Verified): Promise<void> {
    if (verified !== undefined) {
      const { version, manifest } = await this.#channel.call('ping', {});
      if (version !== verified.version || manifest !== verified.manifest)
        throw new TslirpError('INTEGRITY', 'the child is of another installation', {
          detail: { reason: 'changed' },
        });
    }
    await this.#channel.call('subscribe', {});
    const answer = await this.#channel.call('start', { config, startTimeoutMs });
    this.#name = answer['tunnel'] as string;
    this.#life.settings = answer['settings'] as NetworkSettings;
    await this.#firstSeen;
  }

  async #ask(type: string, fields: object = {}): Promise<JsonObject> {
    this.#life.mustRun();
    try {
      return await this.#channel.call(type, { tunnel: this.#name, ...fields });
    } catch (error) {
      throw this.#told(error as TslirpError);
    }
  }

  /** A socket's error is as node:net has it. */
  #told(error: TslirpError): Error {
    const { detail = {}, message } = error;
    if (detail['syscall'] !== undefined) return Object.assign(new Error(message), detail);
    return this.#life.state === 'running' || error.code === 'CHILD_EXITED'
      ? error
      : new TslirpError('NOT_RUNNING', 'the tunnel is over');
  }

  async #request(type: string, fields: JsonObject): Promise<object> {
    if (type !== 'settings') throw new TslirpError('PROTOCOL', `${type} is not asked of an embedder`);
    const { applySettings } = this.#options;
    const signal = AbortSignal.timeout(APPLY_TIMEOUT_MS);
    try {
      const { diff, full } = fields as { diff: NetworkSettings; full: NetworkSettings };
      await applySettings?.(diff, { full, signal });
    } catch (error) {
      this.#rejection = error;
      const message = error instanceof Error ? error.message : String(error);
      throw new TslirpError('SETTINGS_REJECTED', message);
    }
    return {};
  }

  #notice(type: string, fields: JsonObject): void {
    if (type === 'log') {
      const { level, message, fields: more } = fields;
      this.#log.log(level as LogLevel, message as string, more as Record<string, string>);
    } else if (type === 'event') this.#event(fields['event'] as TunnelEvent);
    else if (type === 'dropped' && fields['what'] === 'events') {
      this.#life.feed.tell({ type: 'dropped', count: fields['count'] as number, what: 'events' });
      void this.#ask('snapshot')
        .then(({ snapshot }) => this.#life.feed.tell(snapshot as TunnelNews))
        .catch(() => undefined);
    }
  }

  #event(event: TunnelEvent): void {
    switch (event.type) {
      case 'state':
        // What it is while it runs, the answer to `start` has said.
        if (event.reason !== undefined) void this.#end(event.reason);
        return;
      case 'snapshot':
        this.#firstSnapshot(event);
        return;
      case 'settings':
        this.#life.settings = event.settings;
        if (this.#life.state === 'running') this.#life.feed.tell(event);
        return;
      case 'settings.rejected':
      case 'flow.opened':
      case 'flow.closed':
      case 'dropped':
        this.#life.feed.tell(event);
        return;
      case 'log':
        return;
      default:
        this.#life.feed.hub.sink(GUEST).emit(event as GuestEvent);
    }
  }

  #firstSnapshot({
    listeners,
    forwards,
  }: {
    listeners: readonly Listener[];
    forwards: readonly Published[];
  }): void {
    const sink = this.#life.feed.hub.sink(GUEST);
    if (this.#life.state === 'starting') {
      for (const listener of listeners) sink.emit({ type: 'listener.added', ...listener });
      for (const forward of forwards) sink.emit({ type: 'forward.added', ...forward });
    }
    this.#seen();
  }

  #tellOfFlows(areWanted: boolean): void {
    void this.#ask('subscribe', { types: areWanted ? FLOW_TYPES : [] }).catch(() => undefined);
  }

  async #openForward(spec: ForwardSpec): Promise<OpenForward> {
    const { id, host } = await this.addForward(spec);
    return { id, spec, listen: { kind: 'ip', address: host.ip, port: host.port } };
  }

  async #removeForward(id: number): Promise<boolean> {
    if (this.#life.state !== 'running') return false;
    await this.#ask('forward.remove', { forward: id });
    return true;
  }

  async #hurry(): Promise<void> {
    if (this.#life.state !== 'stopping') return;
    await this.#channel.call('stop', { tunnel: this.#name, graceMs: 0 }).catch(() => undefined);
  }

  /** The first reason counts. */
  #end(reason: CloseReason, graceMs = 0): Promise<CloseReason> {
    this.#life.reason ??= reason;
    this.#ending ??= this.#finish(this.#life.reason, graceMs);
    return this.#ending;
  }

  async #finish(why: CloseReason, graceMs: number): Promise<CloseReason> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    const wasRunning = this.#life.state === 'running';
    if (wasRunning && why.code !== 'CRASHED') this.#life.turn('stopping');
    let reason = why;
    if (wasRunning && why.code === 'STOPPED') {
      try {
        await this.#channel.call('stop', { graceMs });
      } catch {
        // It has died of it.
        reason = await this.#process.gone;
        this.#life.reason = reason;
      }
    }
    this.#sockets.end();
    await this.#process.end();
    usedDescriptors.delete(this.#usedFd);
    this.#life.turn(reason.code === 'CRASHED' ? 'failed' : 'stopped', reason);
    this.#life.feed.end();
    this.#log.close();
    this.#life.resolveClosed(reason);
    return reason;
  }

  /** The child's end of the socket has closed. */
  async #lost(): Promise<void> {
    if (this.#ending !== undefined) return;
    const reason = await this.#process.end();
    if (this.#life.state !== 'starting') await this.#end(reason);
    else this.#life.reason ??= reason;
  }

  #withCause(error: unknown): unknown {
    const { code, message, detail } = error as TslirpError;
    if (code !== 'SETTINGS_REJECTED' || this.#rejection === undefined) return error;
    return new TslirpError(code, message, {
      cause: this.#rejection,
      ...(detail === undefined ? {} : { detail }),
    });
  }
}

/** Where the child's program is to be had. */
interface Installed {
  root: string;
  verified?: Verified;
  release: () => void;
}

/** @throws TslirpError */
function trusted({ integrity, executable, log }: OpenOptions): Installed {
  const root = fileURLToPath(packageRoot);
  if (integrity === undefined) return { root, release: () => undefined };
  const { publicKey, expectVersion, dangerouslySkipIntegrity = false } = integrity;
  if (dangerouslySkipIntegrity) {
    const warning = new EmbedLog(log, () => undefined);
    warning.log('warn', 'the installation is not verified: dangerouslySkipIntegrity');
    warning.close();
    return { root, release: () => undefined };
  }
  if (publicKey === undefined) throw badConfig('options.integrity.publicKey', 'is missing');
  if (executable !== undefined)
    throw badConfig('options.executable', 'cannot be verified; leave out one of executable and integrity');
  const { contents, verified } = verifyContents({
    ...{ root, publicKey },
    ...(expectVersion === undefined ? {} : { expectVersion }),
  });
  const directory = makeSnapshot(contents);
  return { root: directory, verified, release: () => removeSnapshot(directory) };
}

/** Descriptors get the numbers that they have in the child. @throws TslirpError */
function handOver(config: TunnelConfig): Handed {
  const fds: number[] = [];
  const hand = <Place>(place: Place, path: string): Place => {
    if (typeof place !== 'object' || place === null || !('fd' in place)) return place;
    const { fd } = place;
    if (typeof fd !== 'number' || !Number.isInteger(fd) || fd < 0) throw badConfig(path, 'is no descriptor');
    try {
      fstatSync(fd);
    } catch (cause) {
      throw new TslirpError('FD_INVALID', `${path}: descriptor ${fd} is not open`, {
        detail: { path },
        cause,
      });
    }
    fds.push(fd);
    return { ...place, fd: FIRST_INHERITED + fds.length - 1 };
  };
  const { link, capture, ...rest } = config;
  const handed = { ...rest, link: hand(link, 'link.fd') };
  return {
    config: capture === undefined ? handed : { ...handed, capture: hand(capture, 'capture.fd') },
    fds,
  };
}

function withoutLength(address: string): string {
  return address.replace(/\/.*$/, '');
}

function abortError(signal: AbortSignal): TslirpError {
  return new TslirpError('ABORTED', 'aborted', { cause: signal.reason });
}

function exited({ detail = '', exitCode, signal }: CloseReason): TslirpError {
  const how = signal === undefined ? `with status ${exitCode}` : `by ${signal}`;
  return new TslirpError('CHILD_EXITED', `the stack's process has ended ${how}: ${detail}`, {
    detail: { exitCode, signal },
  });
}

/** What comes first; `work` goes on, for nobody. */
async function orAbort<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
  work.catch(() => undefined);
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}
