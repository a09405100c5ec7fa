/**
 * What a guest's TCP flows may hold of the host (T-22, R-01, R-02): flows, connects that are under way in all and to one
 * destination, descriptors. A destination that refused a moment ago is not asked again for each SYN, and a guest whose
 * connections come to nothing gets so many of them in a second.
 *
 * A SYN beyond a limit is not answered: the guest repeats it, so a program that behaves is delayed and not refused. Its
 * second SYN goes before a flood's (`isRepeated`), and connects to where something has answered before have a part of the
 * room, and of failures, to themselves.
 */
import type { Packet } from '../../stack/link/packet.ts';
import { RateLimit } from '../../stack/rate-limit.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { destinationKey, Refusals } from '../flow/refusals.ts';
import { SeenSyns } from './seen-syns.ts';

/** A limit that is met is logged, this often at most. */
const LOG_INTERVAL_MS = 1000;

/**
 * Connections in a second, and at once, that come to nothing: refused by the host, given up or left alone by the guest
 * before they were open. A socket, a connect and a reset each, a tenth of a millisecond: a flood of them would take the
 * turns of everything else. It may end as it likes: the next connection is allowed a moment later.
 */
const MAX_FAILED_CONNECTS = 1024;
const MAX_FAILED_AT_ONCE = 2048;

/** Of connects under way, the part (one in so many) that only those to where something has answered may take. */
const ANSWERED_PART = 8;

/** SYNs that were repeated for want of room and get it, in a second and at once. */
const MAX_REPEATED = 512;

export class TcpLimits {
  readonly #context: FlowContext;
  #dials = 0;
  readonly #dialsTo = new Map<number, number>();
  readonly #refusals = new Refusals();
  readonly #seen = new SeenSyns();
  readonly #failures = new RateLimit(MAX_FAILED_CONNECTS, MAX_FAILED_AT_ONCE);
  /** The same where something has answered before. */
  readonly #answeredFailures = new RateLimit(MAX_FAILED_CONNECTS, MAX_FAILED_AT_ONCE);
  readonly #repeated = new RateLimit(MAX_REPEATED, MAX_REPEATED);
  #loggedAt = Number.NEGATIVE_INFINITY;

  constructor(context: FlowContext) {
    this.#context = context;
  }

  /** Flows that connect. */
  get dials(): number {
    return this.#dials;
  }

  /** Is there room for one more flow that connects, beside `flows`? */
  hasRoom(flows: number): boolean {
    const { limits, descriptors } = this.#context;
    const room =
      flows < limits.tcpMaxFlows &&
      this.#dials < limits.tcpMaxPendingDials &&
      descriptors.hasRoom(DescriptorUse.Tcp);
    if (!room) this.log(flows);
    return room;
  }

  /** As `hasRoom`, for one that connects to (`address`, `port`). */
  hasRoomTo(address: IpAddress, port: number, flows: number): boolean {
    if (!this.hasRoom(flows)) return false;
    const { limits, clock } = this.#context;
    const dials = this.#dialsTo.get(destinationKey(address, port)) ?? 0;
    const most = limits.tcpMaxPendingDials;
    const room =
      dials < limits.tcpMaxPendingDialsPerDestination &&
      (this.#seen.hasAnswered(address, port)
        ? this.#answeredFailures.hasRoom(clock.nowMs)
        : this.#dials < most - Math.floor(most / ANSWERED_PART) && this.#failures.hasRoom(clock.nowMs));
    if (!room) this.log(flows);
    return room;
  }

  /** The SYN in `p` was turned away before, and comes again as a program sends it: it is to have room, whose ever it is. */
  isRepeated({ src, dst }: Packet, ports: number, seq: number): boolean {
    const { nowMs } = this.#context.clock;
    return this.#seen.isRepeated(src, dst, ports, seq, nowMs) && this.#repeated.allow(nowMs);
  }

  /** Are as many connects under way to (`address`, `port`) as may be? */
  isFullFor(address: IpAddress, port: number): boolean {
    const dials = this.#dialsTo.get(destinationKey(address, port)) ?? 0;
    return dials >= this.#context.limits.tcpMaxPendingDialsPerDestination;
  }

  dialBegun(): void {
    this.#dials++;
  }

  dialEnded(): void {
    this.#dials--;
  }

  /** Besides `dialBegun`, when the host connects. */
  dialToBegun(address: IpAddress, port: number): void {
    const key = destinationKey(address, port);
    this.#dialsTo.set(key, (this.#dialsTo.get(key) ?? 0) + 1);
  }

  dialToEnded(address: IpAddress, port: number): void {
    const key = destinationKey(address, port);
    const count = (this.#dialsTo.get(key) ?? 1) - 1;
    if (count === 0) this.#dialsTo.delete(key);
    else this.#dialsTo.set(key, count);
  }

  /** A connection of the guest's to (`address`, `port`) has ended before it was open. */
  noteFailure(address: IpAddress, port: number): void {
    const failures = this.#seen.hasAnswered(address, port) ? this.#answeredFailures : this.#failures;
    failures.allow(this.#context.clock.nowMs);
  }

  /** The guest has opened a connection to (`address`, `port`). */
  noteAnswer(address: IpAddress, port: number): void {
    this.#seen.noteAnswer(address, port);
  }

  /** (`address`, `port`) has refused a connection. */
  noteRefusal(address: IpAddress, port: number): void {
    this.#refusals.note(destinationKey(address, port), this.#context.clock.nowMs);
  }

  /** Did it refuse a moment ago? */
  isRefused(address: IpAddress, port: number): boolean {
    return this.#refusals.isKnown(destinationKey(address, port), this.#context.clock.nowMs);
  }

  /** A limit is met. */
  log(flows: number): void {
    const { clock, descriptors, limits, log } = this.#context;
    if (clock.nowMs - this.#loggedAt < LOG_INTERVAL_MS) return;
    this.#loggedAt = clock.nowMs;
    log('warn', 'TCP limit reached, new connections have to wait', {
      flows,
      maxFlows: limits.tcpMaxFlows,
      dials: this.#dials,
      maxDials: limits.tcpMaxPendingDials,
      descriptors: descriptors.used,
      maxDescriptors: descriptors.limit,
    });
  }
}
