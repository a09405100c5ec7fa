/** All UDP mappings of a guest: finding, opening and evicting them, and gathering datagrams into batches. */

import { Verdict } from '../firewall/verdict.ts';
import { Counter } from '../stack/counters.ts';
import { Unreachable } from '../stack/icmp.ts';
import type { Packet } from '../stack/packet.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../stack/wire/udp.ts';
import type { FlowContext } from './context.ts';
import type { DnsFlows } from './dns-flows.ts';
import type { QueuedError } from './error-queue.ts';
import { ANY_ADDRESS, FlowTable } from './flow-table.ts';
import { LruList } from './lru.ts';
import { findTarget, Protocol, Target, TargetKind } from './target.ts';
import { DatagramBatch, ReceiveSlots } from './udp-batch.ts';
import { UdpFlow, type UdpFlowOwner } from './udp-flow.ts';

export class UdpFlows implements UdpFlowOwner {
  readonly context: FlowContext;
  readonly slots: ReceiveSlots;
  readonly #dns: DnsFlows;
  readonly #table: FlowTable<UdpFlow>;
  readonly #lru = new LruList();
  readonly #target = new Target();
  // The batch being gathered, and whose it is.
  readonly #batch = new DatagramBatch();
  #batchFlow: UdpFlow | null = null;
  #batchTtl = 0;
  readonly #batchDestination = new IpAddress();
  /** The policy's version at which `#target` was found for `#batchDestination`; -1 = it is not valid. */
  #targetVersion = -1;
  // The sender judged last.
  readonly #senderJudged = new IpAddress();
  #senderPort = -1;
  #senderVersion = -1;
  #senderAllowed = false;

  constructor(context: FlowContext, dns: DnsFlows) {
    this.context = context;
    this.#dns = dns;
    this.slots = new ReceiveSlots(context.slab, context.memory);
    this.#table = new FlowTable(context.hash, PROTOCOL_UDP);
  }

  get size(): number {
    return this.#table.size;
  }

  onUdp(p: Packet, h: UdpHeader): void {
    const ports = (h.srcPort << 16) >>> 0;
    const offset = p.offset + UDP_HEADER_LEN;
    const length = h.length - UDP_HEADER_LEN;
    let flow = this.#table.find(p.src, ANY_ADDRESS, ports);
    // The common case first: the next datagram of the batch being gathered, already judged.
    if (
      flow !== null &&
      flow === this.#batchFlow &&
      h.dstPort === this.#target.port &&
      p.ttl === this.#batchTtl &&
      p.gsoSize === 0 &&
      !p.reassembled &&
      p.dst.equals(this.#batchDestination) &&
      this.#batch.fits(length)
    ) {
      this.#batch.add(offset, length);
      return;
    }
    this.flush();
    // A conversation goes on: same destination, and nothing has changed about the host.
    const known =
      flow !== null &&
      this.#targetVersion === this.context.policy.version &&
      h.dstPort === this.#target.port &&
      p.dst.equals(this.#batchDestination);
    if (!known && !this.#findTarget(p, h, flow === null)) return;
    if (flow === null) {
      flow = this.#open(p, h, ports);
      if (flow === null) return;
    }
    this.#lru.touch(flow);
    flow.usedFor(h.dstPort);
    if (p.gsoSize > 0 && p.gsoSize < length) this.#batch.setSegmented(offset, length, p.gsoSize);
    else this.#batch.add(offset, length);
    this.#batchFlow = flow;
    this.#batchTtl = p.ttl;
    // Reassembled bytes lie where the next datagram will be put together.
    if (p.reassembled) this.flush();
  }

  /** Find where the datagram goes; false: nowhere outside, and it was dealt with. */
  #findTarget(p: Packet, h: UdpHeader, fresh: boolean): boolean {
    const { counters, icmp, clock, policy } = this.context;
    const target = this.#target;
    this.#targetVersion = -1;
    switch (findTarget(this.context, Protocol.Udp, p.dst, h.dstPort, fresh, target)) {
      case TargetKind.Outside:
        this.#targetVersion = policy.version;
        this.#batchDestination.copyFrom(p.dst);
        return true;
      case TargetKind.Dns:
        this.#dns.onQuery(p, h);
        return false;
      case TargetKind.Denied:
        counters.drop(target.verdict === Verdict.DenyGroup ? DropReason.PolicyGroup : DropReason.PolicyDeny);
        return false;
      case TargetKind.Unreachable:
        icmp.unreachable(p, Unreachable.Net, clock.nowMs);
        return false;
      default:
        icmp.unreachable(p, Unreachable.Port, clock.nowMs);
        return false;
    }
  }

  /** Send what was gathered. At the end of every batch of frames, because the frames' memory is used again. */
  flush(): void {
    const flow = this.#batchFlow;
    if (flow === null) return;
    this.#batchFlow = null;
    flow.send(this.#batch, this.#target, this.#batchTtl);
    this.#batch.clear();
  }

  mayReceive(src: IpAddress, port: number): boolean {
    const { policy, counters } = this.context;
    if (
      policy.version !== this.#senderVersion ||
      port !== this.#senderPort ||
      !src.equals(this.#senderJudged)
    ) {
      this.#senderVersion = policy.version;
      this.#senderPort = port;
      this.#senderJudged.copyFrom(src);
      this.#senderAllowed =
        !this.context.own.onLink(src) && policy.verdict(Protocol.Udp, src, port) === Verdict.Permit;
    }
    if (!this.#senderAllowed) counters.drop(DropReason.UdpPeer);
    return this.#senderAllowed;
  }

  touch(flow: UdpFlow): void {
    this.#lru.touch(flow);
  }

  ended(flow: UdpFlow): void {
    if (this.#batchFlow === flow) {
      this.#batchFlow = null;
      this.#batch.clear();
    }
    this.#table.remove(flow);
    this.#lru.remove(flow);
  }

  reportError(flow: UdpFlow, error: QueuedError): void {
    const { icmp, memory, scratch, clock, own } = this.context;
    const total = UDP_HEADER_LEN + error.quoted;
    // The quoted payload stays where the error queue put it; only the ports matter to the guest's kernel.
    emitUdp(memory.view, scratch.message, flow.guestPort, error.port, total, 0);
    const named = !error.offender.isUnspecified && !error.offender.isLoopback && !own.onLink(error.offender);
    const gateway = flow.guest.isV4 ? own.gateway4 : own.gateway6;
    icmp.errorForFlow(
      named ? error.offender : gateway,
      flow.guest,
      error.destination,
      PROTOCOL_UDP,
      scratch.message,
      UDP_HEADER_LEN,
      total,
      error.type,
      error.code,
      error.rest,
      clock.nowMs,
    );
  }

  #open(p: Packet, h: UdpHeader, ports: number): UdpFlow | null {
    const { limits, counters, descriptors } = this.context;
    if (this.#table.size >= limits.udpMaxFlows || descriptors.used >= descriptors.limit) {
      const oldest = this.#lru.oldest as UdpFlow | null;
      if (oldest === null) {
        counters.drop(DropReason.UdpLimit);
        return null;
      }
      counters.add(Counter.UdpEvicted, 1);
      oldest.close();
    }
    const flow = new UdpFlow(this, p.src, ports >>> 16, h.dstPort);
    const result = flow.open();
    if (result < 0) {
      counters.drop(DropReason.UdpLimit);
      return null;
    }
    counters.add(Counter.UdpOpened, 1);
    this.#table.add(flow);
    this.#lru.add(flow);
    return flow;
  }
}
