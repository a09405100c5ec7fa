/**
 * The stack's end of the control protocol: what an embedder asks for, on tunnels that somebody else makes. It knows nothing
 * of the process it is in, and ends with the embedder.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { TslirpError } from '../embed/errors.ts';
import type { ForwardHandle, Tunnel } from '../embed/tunnel.ts';
import type {
  CloseReason,
  EventType,
  FlowFilter,
  FlowInfo,
  LogLevel,
  LogOptions,
  LogRecord,
  NetworkSettings,
  OpenOptions,
  TunnelConfig,
} from '../embed/types.ts';
import { Channel, type ChannelEnd, type ChannelStreams, type ChannelTimes } from './channel.ts';
import { handStream } from './handed-streams.ts';
import { ProtocolFault } from './protocol-fault.ts';
import { checkRequest, type Requests, type RequestType, type WireConfig } from './requests.ts';
import type { JsonObject } from './strict-json.ts';

/** Flows in one answer. */
const FLOWS_PER_PAGE = 500;
/** All tunnels have to end within this, when there is nobody any more who could wait for them. */
const END_MS = 900;

export type OpenTunnel = (config: TunnelConfig, options: OpenOptions) => Promise<Tunnel>;

/** Descriptors that come with messages. */
export interface Passing {
  /** Takes the one with this number in the order of arrival, which is the caller's then; -1 = there is none. */
  takePassed: (index: number) => number;
  /** Closes those that nobody has taken. */
  closeRest: () => void;
  /** Closes one that was taken. */
  closePassed: (fd: number) => void;
}

export interface ControlOptions {
  open: OpenTunnel;
  /** Of this installation, told to whoever pings. */
  installation: { version: string; manifest: string | null };
  /** Where the tunnels' log goes; not given: to the embedder, as notices. */
  log?: LogOptions;
  logLevel?: LogLevel;
  passing?: Passing;
  /** Descriptors that no tunnel may have for its link. */
  own?: readonly number[];
  /** Whether nobody reads what we write any more, once nothing more can be read. */
  isDeaf?: () => boolean;
  times?: ChannelTimes;
}

/** How it ended. */
export type ServingEnd = { kind: 'stopped' } | { kind: 'gone' } | { kind: 'fault'; fault: ProtocolFault };

interface Served {
  /** Of its link; -1 = it was passed, or there is none. */
  readonly fd: number;
  readonly abort: AbortController;
  readonly forwards: Map<number, ForwardHandle>;
  /** Not given: it is still starting. */
  tunnel?: Tunnel;
}

interface Subscription {
  readonly types: EventType[] | undefined;
  readonly abort: AbortController;
}

type Handlers = { [Type in RequestType]: (fields: Requests[Type]) => Promise<object> };

/** Between two looks whether anybody still reads. */
const DEAF_MS = 100;

export class ControlServer {
  /** Resolves when the connection is over, and all tunnels with it. */
  readonly ended: Promise<ServingEnd>;
  readonly #options: ControlOptions;
  readonly #channel: Channel;
  readonly #served = new Map<string, Served>();
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #handlers: Handlers;
  #resolve!: (end: ServingEnd) => void;
  #nextTunnel = 1;
  #isEnding = false;

  constructor(streams: ChannelStreams, options: ControlOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#handlers = this.#makeHandlers();
    this.#channel = new Channel(
      'stack',
      streams,
      {
        request: (type, fields) => this.#request(type, fields),
        notice: () => undefined,
        isLast: (type, { tunnel }) => type === 'stop' && tunnel === undefined,
        ended: (why) => void this.#embedderEnded(why),
        idle: () => options.passing?.closeRest(),
      },
      options.times,
    );
  }

  /** Ends everything; resolves when all is closed. */
  async end(end: ServingEnd, reason: CloseReason['code'] = 'STOPPED'): Promise<void> {
    if (this.#isEnding) return;
    this.#isEnding = true;
    await within(END_MS, this.#stopAll(0, reason));
    await within(END_MS, this.#channel.finish());
    this.#options.passing?.closeRest();
    this.#resolve(end);
  }

  async #embedderEnded(why: ChannelEnd): Promise<void> {
    if (why === 'eof') await this.#everybodyGone();
    await this.end(
      why instanceof ProtocolFault ? { kind: 'fault', fault: why } : { kind: 'gone' },
      'PARENT_GONE',
    );
  }

  /** An embedder may have said all that it has to say, and still listen. */
  async #everybodyGone(): Promise<void> {
    const { isDeaf = () => true } = this.#options;
    while (!this.#isEnding && this.#served.size > 0 && !isDeaf()) await wait(DEAF_MS);
  }

  async #request(type: string, fields: JsonObject): Promise<object> {
    checkRequest(type, fields);
    if (this.#isEnding) throw new TslirpError('NOT_RUNNING', 'everything is being stopped');
    return (this.#handlers[type] as (fields: unknown) => Promise<object>)(fields);
  }

  #makeHandlers(): Handlers {
    return {
      start: (fields) => this.#start(fields),
      stop: (fields) => this.#stop(fields),
      status: async ({ tunnel }) => ({ status: await this.#tunnel(tunnel).status() }),
      snapshot: async ({ tunnel }) => snapshot(this.#tunnel(tunnel)),
      flows: async ({ tunnel, filter, next }) => flowsPage(this.#tunnel(tunnel), filter as FlowFilter, next),
      'forward.add': async ({ tunnel, forward }) => {
        const { forwards, tunnel: running } = this.#find(tunnel);
        const handle = await running.addForward(forward);
        forwards.set(handle.id, handle);
        return { forward: handle.id, host: handle.host };
      },
      'forward.remove': async ({ tunnel, forward }) => {
        const { forwards } = this.#find(tunnel);
        const handle = forwards.get(forward);
        if (handle === undefined)
          throw new TslirpError('BAD_CONFIG', `forward.remove: no forward ${forward}`, {
            detail: { path: 'forward' },
          });
        forwards.delete(forward);
        await handle.remove();
        return {};
      },
      'policy.set': async ({ tunnel, policy, revoke }) => {
        await this.#tunnel(tunnel).setPolicy(policy, revoke === undefined ? {} : { revoke });
        return {};
      },
      'settings.update': async ({ tunnel, diff }) => {
        const running = this.#tunnel(tunnel);
        await running.updateSettings(diff);
        return { settings: running.settings };
      },
      wake: async ({ tunnel }) => {
        const woken = tunnel === undefined ? this.#running() : [this.#tunnel(tunnel)];
        for (const each of woken) each.wake();
        return {};
      },
      subscribe: async ({ tunnel, types }) => this.#subscribe(tunnel, types as EventType[] | undefined),
      dial: async ({ tunnel, ...to }) => handStream(await this.#tunnel(tunnel).dial(to).catch(refusedDial)),
      ping: async () => ({ t: new Date().toISOString(), ...this.#options.installation }),
    };
  }

  /** Resolves once the embedder has accepted the settings. */
  async #start({ config, startTimeoutMs }: Requests['start']): Promise<object> {
    const { open, own = [], log, logLevel = 'info', passing } = this.#options;
    const { link, ...rest } = config;
    const named = 'fd' in link ? link.fd : -1;
    if (own.includes(named))
      throw new TslirpError('BAD_CONFIG', `link.fd: ${named} is a descriptor of this protocol`, {
        detail: { path: 'link.fd' },
      });
    if (named >= 0 && [...this.#served.values()].some(({ fd }) => fd === named))
      throw new TslirpError('ALREADY_RUNNING', `there is a tunnel on descriptor ${named}`, {
        detail: { path: 'link.fd' },
      });
    const name = `t${this.#nextTunnel++}`;
    const served: Served = { fd: named, abort: new AbortController(), forwards: new Map() };
    this.#served.set(name, served);
    const passed = 'passed' in link ? this.#takePassed(name, link.passed) : -1;
    try {
      const tunnel = await open(
        { ...rest, link: linkOf(link, passed) },
        {
          mode: 'worker',
          signal: served.abort.signal,
          applySettings: (diff, { full, signal }) => this.#apply(name, diff, full, signal),
          log: log ?? { level: logLevel, sink: (record) => this.#tellLog(record) },
          ...(startTimeoutMs === undefined ? {} : { startTimeoutMs }),
        },
      );
      served.tunnel = tunnel;
      void tunnel.closed.then(() => this.#served.delete(name));
      // Whoever hears of it has heard its name before.
      setImmediate(() => {
        const subscription = this.#subscriptions.get('');
        if (subscription !== undefined) void this.#follow(name, tunnel, subscription);
      });
      return { tunnel: name, settings: tunnel.settings };
    } catch (error) {
      this.#served.delete(name);
      throw error;
    } finally {
      // The tunnel has a duplicate.
      if (passed >= 0) passing?.closePassed(passed);
    }
  }

  /** @throws TslirpError */
  #takePassed(name: string, index: number): number {
    const fd = this.#options.passing?.takePassed(index) ?? -1;
    if (fd >= 0) return fd;
    this.#served.delete(name);
    throw new TslirpError('FD_INVALID', `link.passed: no descriptor ${index} has come with this request`, {
      detail: { path: 'link.passed' },
    });
  }

  async #apply(
    name: string,
    diff: NetworkSettings,
    full: NetworkSettings,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#channel.call('settings', { tunnel: name, diff, full }, signal);
  }

  async #stop({ tunnel: name, graceMs = 0 }: Requests['stop']): Promise<object> {
    if (name !== undefined) {
      const reason = await this.#find(name).tunnel.stop({ graceMs });
      this.#served.delete(name);
      return { reason };
    }
    await this.#stopAll(graceMs, 'STOPPED');
    // It is on its way by then.
    setImmediate(() => void this.end({ kind: 'stopped' }));
    return { reason: { code: 'STOPPED' } };
  }

  async #stopAll(graceMs: number, why: CloseReason['code']): Promise<void> {
    for (const { abort } of this.#subscriptions.values()) if (why !== 'STOPPED') abort.abort();
    const all = [...this.#served.values()].map(async ({ tunnel, abort }) => {
      if (tunnel === undefined) abort.abort(new TslirpError('ABORTED', 'everything is being stopped'));
      else await tunnel.stop({ graceMs });
    });
    await Promise.all(all);
    // Those that were starting.
    while (this.#served.size > 0) await wait(5);
  }

  /** @throws TslirpError */
  #find(name: string): Served & { tunnel: Tunnel } {
    const served = this.#served.get(name);
    if (served?.tunnel === undefined) throw new TslirpError('NOT_RUNNING', `there is no tunnel ${name}`);
    return served as Served & { tunnel: Tunnel };
  }

  #tunnel(name: string): Tunnel {
    return this.#find(name).tunnel;
  }

  #running(): Tunnel[] {
    return [...this.#served.values()].flatMap(({ tunnel }) => (tunnel === undefined ? [] : [tunnel]));
  }

  /** Of one tunnel, or of all that there are and will be. It takes the place of the one before. */
  #subscribe(name: string | undefined, types: EventType[] | undefined): object {
    const scope = name ?? '';
    const meant = name === undefined ? [...this.#served] : [[name, this.#find(name)] as const];
    this.#subscriptions.get(scope)?.abort.abort();
    const subscription: Subscription = { types, abort: new AbortController() };
    this.#subscriptions.set(scope, subscription);
    for (const [each, { tunnel }] of meant)
      if (tunnel !== undefined) void this.#follow(each, tunnel, subscription);
    return {};
  }

  async #follow(name: string, tunnel: Tunnel, { types, abort: { signal } }: Subscription): Promise<void> {
    for await (const event of tunnel.events({ signal, ...(types === undefined ? {} : { types }) })) {
      // What says that a tunnel is over is not to be lost.
      const kind = event.type === 'state' ? 'call' : 'event';
      this.#channel.notify(kind, { type: 'event', tunnel: name, event });
    }
  }

  #tellLog({ level, message, fields }: LogRecord): void {
    this.#channel.notify('log', { type: 'log', level, message, logger: ['tslirp'], fields });
  }
}

/** Resolves when `work` does, or with the end of its time. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  const timer = new AbortController();
  const over = wait(ms, undefined, { signal: timer.signal }).catch(() => undefined);
  await Promise.race([work, over]);
  timer.abort();
}

/** As node:net has it, and so for whoever reads the answer. */
function refusedDial(error: NodeJS.ErrnoException & { address?: string; port?: number }): never {
  const { code, errno, syscall, address, port, message } = error;
  if (syscall === undefined) throw error;
  throw new TslirpError('INTERNAL', message, { detail: { code, errno, syscall, address, port } });
}

function linkOf(link: WireConfig['link'], passed: number): TunnelConfig['link'] {
  if (!('passed' in link)) return link;
  const { passed: _, ...rest } = link;
  return { ...rest, fd: passed };
}

/** What the tunnel is now: what `events` begins with. */
async function snapshot(tunnel: Tunnel): Promise<object> {
  for await (const event of tunnel.events({ types: ['snapshot'] }))
    if (event.type === 'snapshot') return { settings: tunnel.settings, snapshot: event };
  throw new TslirpError('NOT_RUNNING', 'the tunnel has ended');
}

/** Those after the flow `after`, by their numbers, and the number to go on from. */
async function flowsPage(tunnel: Tunnel, filter: FlowFilter | undefined, after = 0): Promise<object> {
  const flows: FlowInfo[] = [];
  for await (const flow of tunnel.flows(filter)) if (flow.flow > after) flows.push(flow);
  flows.sort((a, b) => a.flow - b.flow);
  const page = flows.slice(0, FLOWS_PER_PAGE);
  return flows.length > page.length ? { flows: page, next: page.at(-1)?.flow } : { flows: page };
}
