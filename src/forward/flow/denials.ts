/**
 * Telling the control plane what was refused, so that a user can see it, and why (ON-3). A guest may be refused a hundred
 * thousand times a second: of each reason one is told in a second, and the others are counted. With `all` of them wanted,
 * as many as flows are (reports.ts).
 *
 * A refusal that is not told costs a clock that is read already, a comparison and an addition.
 */

import { Verdict } from '../../firewall/verdict.ts';
import { type Clock, TimerNode, type Timers } from '../../loop.ts';
import type { GuestBehavior } from '../../profiles.ts';
import type { Packet } from '../../stack/link/packet.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import type { FlowInfo, Refusal, RefusalReason, RefusalsLeftOut } from './info.ts';

const INTERVAL_MS = 1000;
/** When it is over, the rest is told; longer than the interval, so that what still goes on is told by itself. */
const SUMMARY_MS = 1500;

/** By verdict; permitted ones are not told. */
const reasons: Record<Verdict, RefusalReason> = {
  [Verdict.Permit]: 'default',
  [Verdict.Deny]: 'default',
  [Verdict.DenyReserved]: 'reserved',
  [Verdict.DenyGroup]: 'group',
  [Verdict.DenyHost]: 'host',
  [Verdict.DenyUnsure]: 'unsure',
};

export interface DenialServices {
  readonly clock: Clock;
  readonly timers: Timers;
  report(event: Refusal | RefusalsLeftOut): void;
}

interface Told {
  reason: RefusalReason;
  /** When one was told last. */
  atMs: number;
  /** How many were not, since. */
  untold: number;
}

export class Denials extends TimerNode {
  readonly #services: DenialServices;
  #mode: GuestBehavior['denials'];
  /** With `all`: whether one more may be told. */
  readonly #mayTellFlow: () => boolean;
  readonly #told = new Map<RefusalReason, Told>();

  constructor(services: DenialServices, mode: GuestBehavior['denials'], mayTellFlow: () => boolean) {
    super();
    this.#services = services;
    this.#mode = mode;
    this.#mayTellFlow = mayTellFlow;
  }

  /** The policy says `verdict` to what `p` wants to reach. Ports are 0 for pings. */
  denied(
    protocol: FlowInfo['protocol'],
    p: Packet,
    srcPort: number,
    dstPort: number,
    verdict: Verdict,
  ): void {
    this.refused(reasons[verdict], protocol, p, srcPort, dstPort);
  }

  /** What `p` wants is refused. */
  refused(
    reason: RefusalReason,
    protocol: FlowInfo['protocol'],
    p: Packet,
    srcPort: number,
    dstPort: number,
  ): void {
    const repeated = this.mayTell(reason);
    if (repeated < 0) return;
    const source = { address: p.src.toString(), port: srcPort };
    const destination = { address: p.dst.toString(), port: dstPort };
    this.#services.report({ type: 'refusal', reason, protocol, source, destination, error: 0, repeated });
  }

  /** The resolver at `address` cannot be asked (`error`, a positive errno) or does not answer in time (0). */
  resolverFailed(address: IpAddress, port: number, error: number, protocol: 'udp' | 'tcp' = 'udp'): void {
    const repeated = this.mayTell('resolver');
    if (repeated < 0) return;
    const destination = { address: address.toString(), port };
    const source = { address: '', port: 0 };
    this.#services.report({
      ...{ type: 'refusal', reason: 'resolver', protocol },
      ...{ source, destination, error, repeated },
    });
  }

  /** Whether one for this reason may be told now: how many were not since the last, or -1 = count it. */
  mayTell(reason: RefusalReason): number {
    if (this.#mode === 'never') return -1;
    const { clock, timers } = this.#services;
    let told = this.#told.get(reason);
    if (told === undefined) {
      told = { reason, atMs: Number.NEGATIVE_INFINITY, untold: 0 };
      this.#told.set(reason, told);
    }
    if (clock.nowMs - told.atMs < INTERVAL_MS && !(this.#mode === 'all' && this.#mayTellFlow())) {
      if (told.untold++ === 0 && this.deadline === Number.POSITIVE_INFINITY) {
        this.deadline = clock.nowMs + SUMMARY_MS;
        timers.update(this);
      }
      return -1;
    }
    told.atMs = clock.nowMs;
    const { untold } = told;
    told.untold = 0;
    return untold;
  }

  /** The guest is gone; what was not told is counted now. */
  close(): void {
    this.#services.timers.cancel(this);
    this.#mode = 'never';
    this.#tellCounts(Number.POSITIVE_INFINITY);
  }

  onTimer(nowMs: number): void {
    this.#tellCounts(nowMs);
    if (this.deadline !== Number.POSITIVE_INFINITY) this.#services.timers.update(this);
  }

  /** Tell the counts of those that are over at `nowMs`; `deadline` says when to look again. */
  #tellCounts(nowMs: number): void {
    this.deadline = Number.POSITIVE_INFINITY;
    for (const told of this.#told.values()) {
      if (told.untold === 0) continue;
      if (nowMs - told.atMs < INTERVAL_MS) {
        this.deadline = nowMs + SUMMARY_MS;
        continue;
      }
      this.#services.report({ type: 'refusalsLeftOut', reason: told.reason, count: told.untold });
      told.untold = 0;
    }
  }
}
