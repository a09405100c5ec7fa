/** What whoever embeds us gives and gets: plain data, the same for both forms. */
import type { KeyObject } from 'node:crypto';
import type { ForwardSpec } from '../config.ts';
import type { FlowInfo } from '../engine/messages.ts';
import type { GuestEvent, Listener, Published } from '../expose/event.ts';

export type { Endpoint, ForwardSpec } from '../config.ts';
export type { FlowInfo } from '../engine/messages.ts';
export type { GuestEvent, Listener, Published } from '../expose/event.ts';

/** Where packets come from. */
export type LinkConfig =
  | {
      /** An inherited descriptor, which stays the caller's own: we have a duplicate. */
      fd: number;
      /** What comes by it; `auto`: as is usual for what it is. */
      medium?: 'auto' | 'ip' | 'ethernet';
      /** How packets are kept apart on a stream; `auto`: as is usual. */
      framing?: 'auto' | 'bare' | 'be32' | 'le16';
    }
  | {
      /** As `--link` of `tslirp serve` has it: `qemu:unix:/PATH`, `bess:/PATH`, …. A socket is listened on from then on. */
      spec: string;
    };

/** What the guest may reach; nothing outside its own network unless something here says so. */
export interface PolicyConfig {
  /** Addresses that are not the host's. */
  routing?: boolean;
  /** The host's addresses and networks. */
  host?: boolean;
  /** Rules, as `--allow` has them: `[tcp|udp|icmp|any://]HOST[:PORTS]`. */
  allow?: string[];
  /** Stronger than `allow`. */
  deny?: string[];
}

/**
 * A port of the host for a service of the guest, or the other way round: the text of `-L` (as such, or as `local`; `tcp:` and
 * `udp:` may stand for `tcp://` and `udp://`), the text of `-R` (as `remote`), or the same as data.
 */
export type ForwardConfig = string | { local: string } | { remote: string } | ForwardSpec;

/** Which services of a guest on this machine get ports of the host by themselves. */
export interface AutoForwardConfig {
  /** A process in the guest's network namespace, by which listening sockets are seen. */
  pid: number;
  tcp?: boolean;
  udp?: boolean;
}

export interface TunnelConfig {
  link: LinkConfig;
  /**
   * As `10.0.2.100/24` and `fd00::100/64`, one of each family at most; those of gateway and DNS may do without a length. Without
   * it, 10.0.2.0/24 and fd00::/64; with IPv4 addresses only, there is no IPv6.
   */
  addresses?: { guest: string[]; gateway: string[]; dns: string[] };
  /** Bytes of IP packet. Without it, the device's, or 1500. */
  mtu?: number;
  policy?: PolicyConfig;
  forwards?: ForwardConfig[];
  autoForward?: AutoForwardConfig | false;
  /** `upstream`: servers to be asked instead of the host's. `search` and `matchDomains` are for the guest's system. */
  dns?: { upstream?: string[]; search?: string[]; matchDomains?: string[] };
  /** Every packet, as pcap. */
  capture?: { path: string } | { fd: number };
  /** Connections and mappings that the guest may have at a time, and packet memory. */
  limits?: { flows?: number; memoryBytes?: number };
}

/** A network in CIDR form. */
export type Route = string;

/** Of one family: addresses with their length (`10.0.2.100/24`), the router, networks that lead here and those that do not. */
export interface AddressSettings {
  addresses: string[];
  router?: string;
  included: Route[];
  excluded: Route[];
}

/**
 * What the guest's system is to be told. As a diff: a group that is absent stays as it is, one that is there replaces the
 * whole group.
 */
export interface NetworkSettings {
  mtu?: number;
  remote?: string;
  dns?: {
    servers: string[];
    search: string[];
    domain?: string;
    matchDomains: string[];
    matchDomainsNoSearch?: boolean;
  };
  ipv4?: AddressSettings;
  ipv6?: AddressSettings;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

export interface LogRecord {
  /** ms since the epoch. */
  time: number;
  level: LogLevel;
  message: string;
  fields: Record<string, unknown>;
}

export interface LogOptions {
  /** `info` unless given. */
  level?: LogLevel;
  /** Records, or lines of JSON of at most 4096 bytes on a descriptor; what it does not take at once is lost, and counted. */
  sink: ((record: LogRecord) => void) | { fd: number };
}

/** How an installation is known to be the one that is meant. */
export interface IntegrityOptions {
  /** Ed25519, of whoever has signed the manifest: never one that lies beside it. */
  publicKey?: KeyObject | string | Uint8Array;
  /** The version has to be exactly this one. */
  expectVersion?: string;
  /** Nothing is verified; a warning at each start says so. */
  dangerouslySkipIntegrity?: boolean;
}

export interface OpenOptions {
  /**
   * `worker`: a thread of this process; `process` (unless given): a child, so that a crash stays there.
   */
  mode?: 'worker' | 'process';
  /** Aborted: end at once, even in the middle of starting, which then rejects with `ABORTED`. */
  signal?: AbortSignal;
  /**
   * Apply addresses, routes, DNS, MTU to the guest's system. 5 s are for it; what it throws is `SETTINGS_REJECTED`. Without
   * it nothing is configured but our own end.
   */
  applySettings?: (
    diff: NetworkSettings,
    info: { full: NetworkSettings; signal: AbortSignal },
  ) => Promise<void> | void;
  log?: LogOptions;
  /** 10000 unless given. */
  startTimeoutMs?: number;
  /** The tunnel does not keep this process alive. */
  unref?: boolean;
  /** Of `process` only: the program to run instead of our own `bin/tslirp`. */
  executable?: string;
  /** Of `process` only. */
  integrity?: IntegrityOptions;
}

/** `stopped` and `failed` are for good. */
export type TunnelState = 'starting' | 'running' | 'stopping' | 'stopped' | 'failed';

/**
 * Why a tunnel is over. `STOPPED`, `ABORTED`: as was asked; `LINK_CLOSED`, `GUEST_GONE`: its other end is; `CRASHED`: the
 * thread or the child came to an unexpected end; `PARENT_GONE`: its embedder is.
 */
export interface CloseReason {
  code: 'STOPPED' | 'ABORTED' | 'LINK_CLOSED' | 'GUEST_GONE' | 'CRASHED' | 'PARENT_GONE';
  detail?: string;
  /** Of the child. */
  exitCode?: number;
  signal?: string;
}

/** What happens, besides what is told of the guest's services. */
export type TunnelNews =
  | { type: 'state'; state: TunnelState; reason?: CloseReason }
  | { type: 'settings'; settings: NetworkSettings; diff: NetworkSettings }
  | { type: 'settings.rejected'; diff: NetworkSettings; message: string }
  /** Only for a reader that names them; some 1000 a second, `dropped` says how many more there were. */
  | { type: 'flow.opened' | 'flow.closed'; flow: FlowInfo }
  | { type: 'log'; record: LogRecord }
  /** So many events are missing here; a `snapshot` follows, unless they were flows. */
  | { type: 'dropped'; count: number; what: 'events' | 'flows' }
  | { type: 'snapshot'; state: TunnelState; listeners: readonly Listener[]; forwards: readonly Published[] };

/** `t`: when, as ISO 8601 has it. */
export type TunnelEvent = { t: string } & (TunnelNews | GuestEvent);

export type EventType = TunnelEvent['type'];

export interface EventOptions {
  /** Only these, besides `dropped` and `snapshot`. Without it all but `flow.opened`, `flow.closed` and `log`. */
  types?: EventType[];
  /** Events that wait for a slow reader: 1024 unless given. More push the oldest out. */
  buffer?: number;
  signal?: AbortSignal;
}

/** Flows with all of this. */
export interface FlowFilter {
  protocol?: FlowInfo['protocol'];
  kind?: FlowInfo['kind'];
  /** The forward's number. */
  forward?: number;
}

export interface TunnelStatus {
  state: TunnelState;
  uptimeMs: number;
  link: { name: string; medium: 'ethernet' | 'ip'; mtu: number };
  flows: { tcp: number; udp: number; icmp: number };
  /** Since the start, by name: frames, bytes, drops by reason. */
  counters: Record<string, number>;
  /** Held now, by name. */
  gauges: Record<string, number>;
  /** Bytes of packet memory. */
  memory: { used: number; limit: number };
}

export interface StopOptions {
  /** So many ms are for connections to end by themselves; nothing new is opened meanwhile. None unless given. */
  graceMs?: number;
  /** Aborted: the rest of that time is not waited for. */
  signal?: AbortSignal;
}

/** Where an end of a connection is: a literal address, and a port. */
export interface GuestPlace {
  host: string;
  port: number;
}

/** `bind` is a place on the guest's side: the gateway's address unless given. */
export interface ListenPlace {
  host?: string;
  port: number;
}
