/**
 * What a guest's TCP flows may hold of the host (T-22, R-01, R-02): flows, connects that are under way in all and to one
 * destination, descriptors. A destination that refused a moment ago is not asked again for each SYN, and a guest whose
 * connections come to nothing gets so many of them in a second.
 */
import { RateLimit } from '../stack/rate-limit.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import type { FlowContext } from './context.ts';
import { destinationKey, Refusals } from './refusals.ts';

/** A limit that is met is logged, this often at most. */
const LOG_INTERVAL_MS = 1000;

/**
 * Connections in a second, and at once, that come to nothing: refused by the host, given up or left alone by the guest
 * before they were open. A socket, a connect and a reset each, a tenth of a millisecond: a flood of them would take the
 * turns of everything else. It may end as it likes: the next connection is allowed a moment later.
 */
const MAX_FAILED_CONNECTS = 2048;
const MAX_FAILED_AT_ONCE = 8192;

/** Resets in a second for SYNs that a limit turns away. In a flood even the answers would take the turns of everything else. */
const MAX_RESETS = 8192;

export class TcpLimits {
  readonly #context: FlowContext;
  #dials = 0;
  readonly #dialsTo = new Map<number, number>();
  readonly #refusals = new Refusals();
  readonly #failures = new RateLimit(MAX_FAILED_CONNECTS, MAX_FAILED_AT_ONCE);
  readonly #resets = new RateLimit(MAX_RESETS, MAX_RESETS);
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
      descriptors.used < descriptors.limit;
    if (!room) this.log(flows);
    return room;
  }

  /** As `hasRoom`, for one that connects to (`address`, `port`). */
  hasRoomTo(address: IpAddress, port: number, flows: number): boolean {
    if (!this.hasRoom(flows)) return false;
    const dials = this.#dialsTo.get(destinationKey(address, port)) ?? 0;
    const room =
      dials < this.#context.limits.tcpMaxPendingDialsPerDestination &&
      this.#failures.hasRoom(this.#context.clock.nowMs);
    if (!room) this.log(flows);
    return room;
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

  /** A connection of the guest's has ended before it was open. */
  noteFailure(): void {
    this.#failures.allow(this.#context.clock.nowMs);
  }

  /** A SYN is turned away: may the guest be told, or does it have to ask again? */
  mayReset(): boolean {
    return this.#resets.allow(this.#context.clock.nowMs);
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
    log('warn', 'TCP limit reached, new connections are refused', {
      flows,
      maxFlows: limits.tcpMaxFlows,
      dials: this.#dials,
      maxDials: limits.tcpMaxPendingDials,
      descriptors: descriptors.used,
      maxDescriptors: descriptors.limit,
    });
  }
}
