/** A tunnel, whichever form it has: what `openTunnel` resolves with. */
import type { Socket as DatagramSocket } from 'node:dgram';
import type { Duplex } from 'node:stream';
import type {
  CloseReason,
  EventOptions,
  FlowFilter,
  FlowInfo,
  ForwardConfig,
  GuestPlace,
  ListenPlace,
  NetworkSettings,
  PolicyConfig,
  StopOptions,
  TunnelEvent,
  TunnelState,
  TunnelStatus,
} from './types.ts';

/** A forward that is open. */
export interface ForwardHandle {
  readonly id: number;
  /**
   * Where it listens: on the host for a local forward, at the guest's side for a remote one. A unix socket has its path as
   * `ip`, and port 0.
   */
  readonly host: { ip: string; port: number };
  /** No new connections; those that are there go on. */
  remove(): Promise<void>;
}

/** Connections of the guest's to a place on its side, each a stream of this program's. */
export interface GuestListener extends AsyncIterable<Duplex>, AsyncDisposable {
  readonly at: { host: string; port: number };
  /** No new connections; the loop over them ends. */
  close(): Promise<void>;
}

export interface Tunnel extends AsyncDisposable {
  readonly id: string;
  readonly state: TunnelState;
  /** As they were accepted last. */
  readonly settings: NetworkSettings;
  /** Resolves with the reason when the tunnel is over, for whatever cause; never rejects. */
  readonly closed: Promise<CloseReason>;
  /** The same promise each time. */
  stop(options?: StopOptions): Promise<CloseReason>;
  /**
   * What is so (`state`, `settings`, a `snapshot`), and then what changes. Each call is a reader of its own. The loop ends after
   * the last `state`; leaving it, or aborting, ends the reader.
   */
  events(options?: EventOptions): AsyncIterableIterator<TunnelEvent>;
  status(): Promise<TunnelStatus>;
  flows(filter?: FlowFilter): AsyncIterableIterator<FlowInfo>;
  /** Resolves when the port is bound. */
  addForward(forward: ForwardConfig): Promise<ForwardHandle>;
  /** For new flows; with `revoke`, those that are there and not allowed any more are cut. */
  setPolicy(policy: PolicyConfig, options?: { revoke?: boolean }): Promise<void>;
  /**
   * Change what the guest's system is told: `applySettings` gets what differs. Rejects with `SETTINGS_REJECTED`, and the old
   * ones stay.
   */
  updateSettings(diff: NetworkSettings): Promise<void>;
  /** After the machine was suspended: resolvers and routes are read again, peers are probed. */
  wake(): void;
  /** A TCP connection into the guest, without a port of the host. Rejects as a socket would: `code` is ECONNREFUSED, …. */
  dial(to: GuestPlace): Promise<Duplex>;
  /** What the guest connects to there arrives here. */
  listen(at: ListenPlace): Promise<GuestListener>;
  /**
   * A socket connected to a UDP service of the guest. It is an ordinary one, on the host's loopback; closing it ends the
   * forward behind it.
   */
  dialDatagrams(to: GuestPlace): Promise<DatagramSocket>;
  /** A socket that gets what the guest sends there; each of the guest's ports has an address of its own in `rinfo`. */
  listenDatagrams(at: ListenPlace): Promise<DatagramSocket>;
}
