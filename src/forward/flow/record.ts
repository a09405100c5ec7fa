/**
 * What a flow remembers to be told of: its number, its bytes, what ended which half. One per flow, of every protocol and
 * direction; put into plain data (info.ts) only when somebody asks for the list or wants the events.
 */
import type { Endpoint } from '../../config.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { getpeername, getsockname } from '../../sys/socket.ts';
import { isOutsideFault } from '../host/error.ts';
import { readEndpoint } from '../host/scratch.ts';
import type { RemoteForward } from '../target/remote-forwards.ts';
import type { FlowContext } from './context.ts';
import type { FlowEnds, FlowEvent, FlowInfo, FlowStatus, RefusalReason } from './info.ts';

/** The forward a flow belongs to: a local one, or a remote one that listens inside the guest's namespace. */
export interface ListeningForward {
  readonly kind: 'local' | 'inside';
  readonly id: number;
}

export interface LocalForward extends ListeningForward {
  readonly kind: 'local';
}

/** The four halves of a flow; `Half ^ 2` is the same one of the other side. */
export const Half = { GuestRead: 0, GuestWrite: 1, HostRead: 2, HostWrite: 3 } as const;
export type Half = (typeof Half)[keyof typeof Half];

/** What ended a half that ended well. */
export const END_OF_FILE = -1;

/** A flow as its record sees it. */
export interface EndsSource {
  /** Where it leads. Asked only when somebody is told. */
  ends(): FlowEnds;
}

/** No address, or not one in particular. */
export const NOWHERE: Endpoint = { address: '', port: 0 };

export class FlowRecord {
  readonly id: number;
  readonly protocol: FlowInfo['protocol'];
  /** The forward it belongs to; null = the guest's own way out. */
  readonly forward: ListeningForward | RemoteForward | null;
  readonly openedAt: number;
  /** Payload bytes, guest to host and host to guest. */
  bytesOut = 0;
  bytesIn = 0;
  /** As told in the `open` event, because a socket that was cut has forgotten; null = none was sent. */
  #ends: FlowEnds | null = null;
  /** No more is told: its opening could not be, or its end was. */
  #isSilent = false;
  #wasOpened = false;
  // What ended each half, see `FlowStatus`, and which came first.
  #guestRead = 0;
  #guestWrite = 0;
  #hostRead = 0;
  #hostWrite = 0;
  #first = -1;

  constructor(
    context: FlowContext,
    protocol: FlowInfo['protocol'],
    forward: ListeningForward | RemoteForward | null,
  ) {
    this.id = context.newFlowId();
    this.protocol = protocol;
    this.forward = forward;
    this.openedAt = context.clock.nowMs;
  }

  /** The host's client came first. */
  get isLocal(): boolean {
    return this.forward !== null && this.forward.kind === 'local';
  }

  /** What ended the guest's reading half so far; 0 = nothing. */
  get guestRead(): number {
    return this.#guestRead;
  }

  /** Note what ended a half: `END_OF_FILE` or a positive errno. Only the first counts. */
  ended(half: Half, code: number): void {
    if (half === Half.GuestRead) this.#guestRead ||= code;
    else if (half === Half.GuestWrite) this.#guestWrite ||= code;
    else if (half === Half.HostRead) this.#hostRead ||= code;
    else this.#hostWrite ||= code;
    if (this.#first < 0) this.#first = half;
  }

  /** As `ended`, and so the other side's reading is over. */
  endedWhole(half: Half, code: number): void {
    this.ended(half, code);
    this.ended((half & 2) === 0 ? Half.HostRead : Half.GuestRead, END_OF_FILE);
  }

  /** Both sides are open: tell it, if anybody wants to know. */
  opened(context: FlowContext, source: EndsSource): void {
    this.#wasOpened = true;
    if (!context.behavior.flowEvents || this.#isSilent) return;
    this.#isSilent = !context.reports.mayTell();
    if (this.#isSilent) return;
    this.#ends = source.ends();
    this.#report(context, 'open', this.#ends);
  }

  /**
   * The flow is over: told as `close` when its opening was, else as `error`, with `reason` where no errno says it. `source`
   * is asked only in the second case.
   */
  closed(context: FlowContext, source: EndsSource, reason = ''): void {
    if (this.#isSilent) return;
    this.#isSilent = true;
    const failure = this.#failure(reason);
    if (this.#ends !== null) {
      this.#report(context, 'close', this.#ends, reason, failure);
    } else if (context.behavior.flowEvents) {
      if (context.reports.mayTell()) this.#report(context, 'error', source.ends(), reason, failure);
    } else if (failure !== '') {
      const repeated = context.denials.mayTell(failure);
      if (repeated >= 0) this.#report(context, 'error', source.ends(), reason, failure, repeated);
    }
  }

  /** Why the flow, which is over, came to nothing. A datagram has gone out before anybody can refuse it. */
  #failure(reason: string): RefusalReason | '' {
    const { forward, isLocal } = this;
    const guest = this.#guestRead || this.#guestWrite;
    const host = this.#hostRead || this.#hostWrite;
    if (this.#wasOpened) {
      const unanswered = (isLocal ? this.bytesOut : this.bytesIn) === 0;
      if (this.protocol !== 'udp' || forward === null || !unanswered) return '';
      if ((isLocal ? guest : host) <= 0) return '';
    }
    if (isLocal) return guest > 0 ? 'guest' : 'left';
    if (reason !== '') return 'name';
    if (host <= 0) return 'left';
    if (forward !== null) return 'target';
    return isOutsideFault(host) ? 'connect' : 'system';
  }

  info(nowMs: number, state: string, source: EndsSource): FlowInfo {
    return {
      ...(this.#ends ?? source.ends()),
      flow: this.id,
      protocol: this.protocol,
      kind: this.#kind,
      forward: this.forward === null ? 0 : this.forward.id,
      state,
      ageMs: nowMs - this.openedAt,
      bytesOut: this.bytesOut,
      bytesIn: this.bytesIn,
    };
  }

  #report(
    context: FlowContext,
    event: FlowEvent['event'],
    ends: FlowEnds,
    reason = '',
    failure: FlowEvent['failure'] = '',
    repeated = 0,
  ): void {
    context.reports.tell({
      type: 'flow',
      event,
      flow: this.id,
      protocol: this.protocol,
      kind: this.#kind,
      forward: this.forward === null ? 0 : this.forward.id,
      ...ends,
      status: this.#status(),
      ageMs: context.clock.nowMs - this.openedAt,
      bytesOut: this.bytesOut,
      bytesIn: this.bytesIn,
      failure,
      repeated,
      reason,
    });
  }

  get #kind(): FlowInfo['kind'] {
    const { forward } = this;
    if (forward === null) return 'routed';
    return forward.kind === 'local' ? 'local' : 'remote';
  }

  #status(): FlowStatus {
    const { isLocal } = this;
    const first = this.#first;
    return {
      leftRead: isLocal ? this.#hostRead : this.#guestRead,
      leftWrite: isLocal ? this.#hostWrite : this.#guestWrite,
      rightRead: isLocal ? this.#guestRead : this.#hostRead,
      rightWrite: isLocal ? this.#guestWrite : this.#hostWrite,
      first: isLocal && first >= 0 ? first ^ 2 : first,
    };
  }
}

export function endpoint(address: IpAddress, port: number): Endpoint {
  return { address: address.toString(), port };
}

/** Our own address of a host socket; nowhere when there is none. */
export function localEnd(context: FlowContext, fd: number): Endpoint {
  return nameOf(getsockname, context, fd);
}

/** The other end of a connected host socket; nowhere when there is none. */
export function remoteEnd(context: FlowContext, fd: number): Endpoint {
  return nameOf(getpeername, context, fd);
}

function nameOf(call: typeof getsockname, context: FlowContext, fd: number): Endpoint {
  const { memory, scratch } = context;
  const length = fd < 0 ? -1 : call(memory, fd, scratch.sockaddr);
  return length < 0 ? NOWHERE : readEndpoint(memory, scratch.sockaddr, length);
}

/** What a remote forward connects to, for a flow that has no connection; `contacted` is the port the guest named. */
export function targetEnd(forward: RemoteForward, contacted: number): Endpoint {
  const { target } = forward;
  if (target.kind === 'unix') return { address: target.path, port: 0 };
  return {
    address: target.kind === 'name' ? target.label : target.address,
    port: target.port || contacted,
  };
}
