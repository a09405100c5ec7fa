/** A tunnel without a stack: what a control server needs of one, and a hand on what happens to it. */
import { EventEmitter, on } from 'node:events';
import { TslirpError } from '../../../src/embed/errors.ts';
import type { ForwardHandle, Tunnel } from '../../../src/embed/tunnel.ts';
import type {
  CloseReason,
  FlowInfo,
  NetworkSettings,
  OpenOptions,
  StopOptions,
  TunnelConfig,
  TunnelEvent,
  TunnelStatus,
} from '../../../src/embed/types.ts';

type Missing = 'dial' | 'listen' | 'dialDatagrams' | 'listenDatagrams';

export class FakeTunnel implements Omit<Tunnel, Missing> {
  readonly id = 'fake';
  readonly config: TunnelConfig;
  readonly options: OpenOptions;
  readonly settings: NetworkSettings = { mtu: 1500 };
  readonly closed: Promise<CloseReason>;
  state: Tunnel['state'] = 'running';
  /** What it was asked, in order. */
  readonly asked: unknown[] = [];
  listedFlows: FlowInfo[] = [];
  readonly #events = new EventEmitter();
  #close!: (reason: CloseReason) => void;
  #nextForward = 1;

  constructor(config: TunnelConfig, options: OpenOptions) {
    this.config = config;
    this.options = options;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  emit(event: Record<string, unknown>): void {
    this.#events.emit('event', { t: '2026-11-29T00:00:00.000Z', ...event });
  }

  end(reason: CloseReason): Promise<CloseReason> {
    this.state = 'stopped';
    this.emit({ type: 'state', state: 'stopped', reason });
    this.#close(reason);
    return this.closed;
  }

  async stop(options: StopOptions = {}): Promise<CloseReason> {
    this.asked.push(['stop', options]);
    return this.end({ code: 'STOPPED' });
  }

  async *events({ signal }: { signal?: AbortSignal } = {}): AsyncIterableIterator<TunnelEvent> {
    const heard = on(this.#events, 'event', signal === undefined ? {} : { signal });
    const t = '2026-11-29T00:00:00.000Z';
    yield { t, type: 'snapshot', state: this.state, listeners: [], forwards: [] };
    try {
      for await (const [event] of heard as AsyncIterable<[TunnelEvent]>) {
        yield event;
        if (event.type === 'state' && event.state === 'stopped') return;
      }
    } catch {
      // Aborted.
    }
  }

  async status(): Promise<TunnelStatus> {
    return {
      state: this.state,
      uptimeMs: 1,
      link: { name: 'fake', medium: 'ip', mtu: 1500 },
      flows: { tcp: 0, udp: 0, icmp: 0 },
      counters: {},
      gauges: {},
      memory: { used: 0, limit: 1 },
    };
  }

  async *flows(): AsyncIterableIterator<FlowInfo> {
    yield* this.listedFlows;
  }

  async addForward(forward: unknown): Promise<ForwardHandle> {
    if (forward === 'busy') throw new TslirpError('ADDRESS_IN_USE', 'busy');
    const id = this.#nextForward++;
    this.asked.push(['addForward', forward]);
    const remove = async (): Promise<void> => void this.asked.push(['remove', id]);
    return { id, host: { ip: '127.0.0.1', port: 8080 }, remove };
  }

  async setPolicy(policy: unknown, options: unknown): Promise<void> {
    this.asked.push(['setPolicy', policy, options]);
  }

  async updateSettings(diff: NetworkSettings): Promise<void> {
    await this.options.applySettings?.(diff, { full: diff, signal: new AbortController().signal });
  }

  wake(): void {
    this.asked.push(['wake']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Opens fakes, once the embedder has accepted the settings. */
export class FakeStack {
  readonly tunnels: FakeTunnel[] = [];

  readonly open = async (config: TunnelConfig, options: OpenOptions): Promise<Tunnel> => {
    const tunnel = new FakeTunnel(config, options);
    const { signal = new AbortController().signal } = options;
    try {
      await options.applySettings?.(tunnel.settings, { full: tunnel.settings, signal });
    } catch (error) {
      throw signal.aborted
        ? new TslirpError('ABORTED', 'aborted', { cause: signal.reason })
        : new TslirpError('SETTINGS_REJECTED', (error as Error).message, { cause: error });
    }
    this.tunnels.push(tunnel);
    return tunnel as unknown as Tunnel;
  };
}
