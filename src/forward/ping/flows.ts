/** All outside echo mappings of a guest: finding, opening and evicting them, and what is refused. */
import { Verdict } from '../../firewall/verdict.ts';
import { Counter } from '../../stack/counters.ts';
import { Unreachable } from '../../stack/icmp/icmp.ts';
import type { Packet } from '../../stack/link/packet.ts';
import { ANY_ADDRESS } from '../../stack/transport/flow-table.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import {
  ICMP_HEADER_LEN,
  ICMP4_ECHO,
  ICMP6_ECHO,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
} from '../../stack/wire/icmp.ts';
import { EACCES, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, EPERM } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { FlowSet, MAX_PING_EVICTIONS_PER_SECOND } from '../flow/set.ts';
import type { QueuedError } from '../host/error-queue.ts';
import { findTarget, Protocol, Target, TargetKind } from '../target/target.ts';
import { SLOT_SIZE } from '../udp/batch.ts';
import { PingFlow, type PingFlowOwner } from './flow.ts';

export class PingFlows extends FlowSet<PingFlow> implements PingFlowOwner {
  readonly buffer: number;
  readonly bufferSize: number = SLOT_SIZE;
  readonly peer: IpAddress = new IpAddress();
  readonly #target = new Target();
  #deniedLogged = false;

  constructor(context: FlowContext) {
    super(context, {
      protocol: PROTOCOL_ICMP,
      most: 'pingMaxFlows',
      use: DescriptorUse.Ping,
      evicted: Counter.PingEvicted,
      evictionsPerSecond: MAX_PING_EVICTIONS_PER_SECOND,
    });
    this.buffer = context.scratch.payloads;
  }

  onEcho(p: Packet): void {
    const { context } = this;
    const { icmp, clock, counters, memory } = context;
    const target = this.#target;
    const identifier = memory.view.getUint16(p.offset + 4);
    const ports = (identifier << 16) >>> 0;
    let flow = this.find(p.src, ANY_ADDRESS, ports);
    if (findTarget(context, Protocol.Icmp, p.dst, 0, target) !== TargetKind.Outside) {
      const isGroup = target.verdict === Verdict.DenyGroup;
      counters.drop(isGroup ? DropReason.PolicyGroup : DropReason.PolicyDeny);
      context.denials.denied('icmp', p, 0, 0, target.verdict);
      // RFC 1122 §3.2.2: no error about a group.
      if (!isGroup) icmp.unreachable(p, Unreachable.Prohibited, clock.nowMs);
      return;
    }
    flow ??= this.#open(p, identifier);
    if (flow === null) return;
    this.touch(flow);
    const dontFragment = p.dontFragment && !p.reassembled;
    const result = flow.send(target.address, p.offset, p.length, p.ttl, dontFragment);
    if (result === -ENETUNREACH) icmp.unreachable(p, Unreachable.Net, clock.nowMs);
    else if (result === -EHOSTUNREACH) icmp.unreachable(p, Unreachable.Host, clock.nowMs);
    else if (result === -EACCES || result === -EPERM)
      icmp.unreachable(p, Unreachable.Prohibited, clock.nowMs);
    else if (result === -EMSGSIZE && flow.pathMtu > 0) icmp.tooBig(p, flow.pathMtu, clock.nowMs);
    else if (result < 0) counters.drop(DropReason.IcmpLimit);
  }

  mayReceive(src: IpAddress): boolean {
    const { policy, own, counters } = this.context;
    const allowed = !own.isInside(src) && policy.verdict(Protocol.Icmp, src, 0) === Verdict.Permit;
    if (!allowed) counters.drop(DropReason.PolicyDeny);
    return allowed;
  }

  reportError(flow: PingFlow, error: QueuedError): void {
    const { icmp, memory, scratch, clock, own } = this.context;
    const view = memory.view;
    const isV4 = flow.guest.isV4;
    // The quoted echo request carries the kernel's identifier; the guest knows its own.
    if (error.quoted < ICMP_HEADER_LEN) return;
    view.setUint8(scratch.message, isV4 ? ICMP4_ECHO : ICMP6_ECHO);
    view.setUint16(scratch.message + 4, flow.guestPort);
    const named =
      !error.offender.isUnspecified && !error.offender.isLoopback && !own.isInside(error.offender);
    icmp.errorForFlow(
      named ? error.offender : own.speaker(isV4),
      flow.guest,
      error.destination,
      isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6,
      scratch.message,
      Math.min(error.quoted, 64),
      error.quoted,
      error.type,
      error.code,
      error.rest,
      clock.nowMs,
    );
  }

  #open(p: Packet, identifier: number): PingFlow | null {
    const { counters, icmp, clock } = this.context;
    if (!this.makeRoom()) {
      counters.drop(DropReason.IcmpLimit);
      this.context.denials.refused('limit', 'icmp', p, 0, 0);
      return null;
    }
    const flow = new PingFlow(this, p.src, identifier);
    const result = flow.open(p.dst);
    if (result < 0) {
      if (result === -EACCES || result === -EPERM) {
        if (!this.#deniedLogged) {
          this.#deniedLogged = true;
          this.context.log(
            'warn',
            'ping to the outside is not permitted on this host: the group is not in net.ipv4.ping_group_range',
          );
        }
        icmp.unreachable(p, Unreachable.Prohibited, clock.nowMs);
      } else {
        counters.drop(DropReason.IcmpLimit);
      }
      return null;
    }
    counters.add(Counter.PingOpened, 1);
    this.add(flow);
    return flow;
  }
}
