/** All UDP mappings of a guest: finding, opening and evicting them, and gathering datagrams into batches. */
import { Verdict } from '../firewall/verdict.ts';
import { Counter } from '../stack/counters.ts';
import { Unreachable } from '../stack/icmp.ts';
import type { Packet } from '../stack/packet.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../stack/wire/udp.ts';
import { SOCKADDR_SIZE } from '../sys/socket.ts';
import type { FlowContext } from './context.ts';
import type { DnsFlows } from './dns-flows.ts';
import type { QueuedError } from './error-queue.ts';
import { ANY_ADDRESS, FlowTable } from './flow-table.ts';
import { LruList } from './lru.ts';
import { findTarget, Protocol, Target, TargetKind } from './target.ts';
import { DatagramBatch, payloadRegion, ReceiveSlots } from './udp-batch.ts';
import { UdpFlow, type UdpFlowOwner } from './udp-flow.ts';

/** What the guest's datagrams of one batch go into. */
export interface DatagramSink {
  /** Send the datagrams of `batch` to `target`. */
  send(batch: DatagramBatch, target: Target, ttl: number): void;
}

export class UdpFlows implements UdpFlowOwner {
  readonly context: FlowContext;
  readonly slots: ReceiveSlots;
  readonly #dns: DnsFlows;
  readonly #table: FlowTable<UdpFlow>;
  readonly #lru = new LruList();
  // The last datagram's ends, where it went, and the policy's version at that time.
  readonly #src = new IpAddress();
  readonly #dst = new IpAddress();
  #ports = 0;
  #sink: DatagramSink | null = null;
  readonly #target = new Target();
  #version = -1;
  // The batch being gathered for `#sink`; empty when `#gathering` is false.
  readonly #batch = new DatagramBatch();
  #gathering = false;
  #batchTtl = 0;
  // The sender judged last.
  readonly #senderJudged = new IpAddress();
  #senderPort = -1;
  #senderVersion = -1;
  #senderAllowed = false;

  constructor(context: FlowContext, dns: DnsFlows) {
    this.context = context;
    this.#dns = dns;
    this.slots = new ReceiveSlots(
      context.slab,
      context.memory,
      payloadRegion(context.slab),
      SOCKADDR_SIZE,
      0,
    );
    this.#table = new FlowTable(context.hash, PROTOCOL_UDP);
  }

  get size(): number {
    return this.#table.size;
  }

  onUdp(p: Packet, h: UdpHeader): void {
    const ports = ((h.srcPort << 16) | h.dstPort) >>> 0;
    const offset = p.offset + UDP_HEADER_LEN;
    const length = h.length - UDP_HEADER_LEN;
    // The common case first: the next datagram of a conversation, and of the batch being gathered.
    const isSame = ports === this.#ports && p.src.equals(this.#src) && p.dst.equals(this.#dst);
    if (
      isSame &&
      this.#gathering &&
      p.ttl === this.#batchTtl &&
      p.gsoSize === 0 &&
      !p.reassembled &&
      this.#batch.fits(length)
    ) {
      this.#batch.add(offset, length);
      return;
    }
    this.flush();
    // Nothing has changed about the host since the last one: it needs no judging.
    if (!isSame || this.#sink === null || this.#version !== this.context.policy.version) {
      this.#sink = null;
      this.#sink = this.#find(p, h);
      if (this.#sink === null) return;
      this.#version = this.context.policy.version;
      this.#ports = ports;
      this.#src.copyFrom(p.src);
      this.#dst.copyFrom(p.dst);
    }
    if (p.gsoSize > 0 && p.gsoSize < length) this.#batch.setSegmented(offset, length, p.gsoSize);
    else this.#batch.add(offset, length);
    this.#gathering = true;
    this.#batchTtl = p.ttl;
    // Reassembled bytes lie where the next datagram will be put together.
    if (p.reassembled) this.flush();
  }

  /** Who takes the datagram, with `#target` filled; null: nobody, and it was dealt with. */
  #find(p: Packet, h: UdpHeader): DatagramSink | null {
    const { counters, icmp, clock } = this.context;
    const target = this.#target;
    const flow = this.#table.find(p.src, ANY_ADDRESS, (h.srcPort << 16) >>> 0);
    switch (findTarget(this.context, Protocol.Udp, p.dst, h.dstPort, flow === null, target)) {
      case TargetKind.Outside:
        return flow ?? this.#open(p, h);
      case TargetKind.Dns:
        this.#dns.onQuery(p, h);
        return null;
      case TargetKind.Denied:
        counters.drop(target.verdict === Verdict.DenyGroup ? DropReason.PolicyGroup : DropReason.PolicyDeny);
        return null;
      case TargetKind.Unreachable:
        icmp.unreachable(p, Unreachable.Net, clock.nowMs);
        return null;
      default:
        icmp.unreachable(p, Unreachable.Port, clock.nowMs);
        return null;
    }
  }

  /** Send what was gathered. At the end of every batch of frames, because the frames' memory is used again. */
  flush(): void {
    if (!this.#gathering) return;
    this.#gathering = false;
    this.#sink?.send(this.#batch, this.#target, this.#batchTtl);
    this.#batch.clear();
  }

  senderShown(src: IpAddress, port: number): IpAddress | null {
    const { policy, own } = this.context;
    if (
      policy.version !== this.#senderVersion ||
      port !== this.#senderPort ||
      !src.equals(this.#senderJudged)
    ) {
      this.#senderVersion = policy.version;
      this.#senderPort = port;
      this.#senderJudged.copyFrom(src);
      this.#senderAllowed = !own.onLink(src) && policy.verdict(Protocol.Udp, src, port) === Verdict.Permit;
    }
    return this.#senderAllowed ? src : null;
  }

  touch(flow: UdpFlow): void {
    this.#lru.touch(flow);
  }

  ended(flow: UdpFlow): void {
    if (this.#sink === flow) this.#sink = null;
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

  #open(p: Packet, h: UdpHeader): UdpFlow | null {
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
    const flow = new UdpFlow(this, p.src, h.srcPort, h.dstPort);
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
