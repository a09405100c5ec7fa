/**
 * What is told of the services of a guest and of the ports of the host that lead to them: the shapes of the event stream
 * (docs/events.md), without what every line has in front, which the hub adds.
 */

export type Protocol = 'tcp' | 'udp';

/** An address as text without brackets; the wildcards are `0.0.0.0` and `::`. */
export interface End {
  ip: string;
  port: number;
}

/** A socket of the guest that waits for clients. */
export interface Listener {
  proto: Protocol;
  family: 4 | 6;
  ip: string;
  port: number;
  /** IPv6: IPv4 clients do not reach it. */
  v6only: boolean;
  /** Of the process that has it, as it calls itself; null: not to be seen. */
  process: string | null;
  pid: number | null;
  uid: number;
  inode: number;
  /** ms since the epoch. */
  firstSeen: number;
}

/** Why a host port is the one it is (`hostPorts`). */
export type PortReason = 'same' | 'fixed' | 'privileged' | 'busy' | 'random';

/** A forward to a service. */
export interface Published {
  proto: Protocol;
  guestEnd: End;
  hostEnd: End;
  reason: PortReason;
  process: string | null;
  /** The address that the service sees its clients come from: as text, or `gateway` or `client`. */
  source: string;
}

export type GuestEvent =
  | { type: 'ready'; pid: number; version: string; method: string; addresses: string[] }
  | ({ type: 'listener.added' } & Listener)
  | ({ type: 'listener.removed'; lastedMs: number; flaps: number } & Listener)
  | ({ type: 'forward.added' } & Published)
  | ({
      type: 'forward.removed';
      cause: 'closed' | 'stop' | 'policy';
      /** Those that are still open. */
      connections: number;
      bytesIn: number;
      bytesOut: number;
    } & Omit<Published, 'reason' | 'process' | 'source'>)
  | { type: 'forward.failed'; proto: Protocol; guestEnd: End; reason: string; errno?: string }
  | { type: 'forward.skipped'; proto: Protocol; guestEnd: End; reason: string }
  | { type: 'forward.warning'; proto: Protocol; guestEnd: End; reason: string }
  | { type: 'forward.flap'; proto: Protocol; guestEnd: End; flaps: number; unstable: boolean }
  | { type: 'guest.up' | 'link.up' }
  | { type: 'guest.down' | 'link.down' | 'peer.down'; reason: string }
  /** `endpoint`: where the peer is, as `ADDRESS:PORT`. */
  | { type: 'peer.up' | 'peer.roamed'; endpoint: string };

/** Where the events of one guest go. Never waits, never throws. */
export interface EventSink {
  emit(event: GuestEvent): void;
}
