/**
 * What is told of a flow to the control plane: its ends, its numbers, what ended it. Plain data, made only when somebody
 * asks for the list or wants the events.
 */
import type { Endpoint } from '../../config.ts';

/**
 * The four ends of a flow. Left is the side that began (guest for routed flows and remote forwards, host client for local
 * forwards), right the side that we opened. `…Local` is the address on our side of it.
 */
export interface FlowEnds {
  left: Endpoint;
  leftLocal: Endpoint;
  right: Endpoint;
  rightLocal: Endpoint;
}

/** What ended each half: 0 = nothing (or our own close), -1 = end of file, else a positive errno. */
export interface FlowStatus {
  leftRead: number;
  leftWrite: number;
  rightRead: number;
  rightWrite: number;
  /** Which of the four came first: an index 0…3 in that order, -1 = none. */
  first: number;
}

/**
 * Why a flow was refused or came to nothing. Refused: by the policy (`default`: nothing opens it, or a rule closes it; a
 * `reserved` range; a `group` address; the `host`'s; `unsure`: the host's addresses cannot be read), because nobody listens
 * at this `port` of our own addresses, or by a `limit`. Come to nothing: the outside refused or was silent (`connect`),
 * our own system would not have it (`system`), a remote forward's `name` could not be resolved or its `target` not be
 * reached, a local forward's `guest` refused, the `resolver` is dead, or whoever began has `left`.
 */
export type RefusalReason =
  | ('default' | 'reserved' | 'group' | 'host' | 'unsure' | 'port' | 'limit')
  | ('connect' | 'system' | 'name' | 'target' | 'guest' | 'resolver' | 'left');

/** What was refused before it was a flow; told as `GuestBehavior.denials` says. */
export interface Refusal {
  type: 'refusal';
  reason: RefusalReason;
  protocol: FlowInfo['protocol'];
  /** The guest's end. Ports are 0 for pings. */
  source: Endpoint;
  destination: Endpoint;
  /** Positive errno, or 0. */
  error: number;
  /** So many more for this reason that were not told, since the last that was. */
  repeated: number;
}

/** So many refusals were not told, and there were no more. */
export interface RefusalsLeftOut {
  type: 'refusalsLeftOut';
  reason: RefusalReason;
  count: number;
}

/**
 * Posted when `GuestBehavior.flowEvents` is on. `error`: the right side could not be opened, or the header was bad; those
 * are also posted as refusals are.
 */
export interface FlowEvent extends FlowEnds {
  type: 'flow';
  event: 'open' | 'close' | 'error';
  /** Number of the flow, the same in all its events; never used again. */
  flow: number;
  protocol: FlowInfo['protocol'];
  kind: 'routed' | 'remote' | 'local';
  /** 0 for routed flows. */
  forward: number;
  status: FlowStatus;
  ageMs: number;
  /** Payload bytes, guest to host and host to guest. */
  bytesOut: number;
  bytesIn: number;
  /** Why it came to nothing; empty = it did not. */
  failure: RefusalReason | '';
  /** As in `Refusal`. */
  repeated: number;
  /** For `error`, when it is not an errno: why the name or the proxy header could not be used. */
  reason: string;
}

/** So many flows have no events, because there were more of them than can be told of: posted once a second at most. */
export interface FlowsLeftOut {
  type: 'flowsLeftOut';
  flows: number;
}

/** All that is told unasked. */
export type FlowReport = FlowEvent | FlowsLeftOut | Refusal | RefusalsLeftOut;

/** A flow that can be told of. */
export interface ListedFlow {
  /** It has ended since it was listed. */
  readonly isOver: boolean;
  info(nowMs: number): FlowInfo;
}

export interface FlowInfo extends FlowEnds {
  flow: number;
  protocol: 'tcp' | 'udp' | 'icmp';
  kind: 'routed' | 'remote' | 'local';
  forward: number;
  /** TCP: state as RFC 9293 names it. */
  state: string;
  ageMs: number;
  /** Payload bytes, guest to host and host to guest. */
  bytesOut: number;
  bytesIn: number;
}
