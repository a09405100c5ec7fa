/** All UDP mappings of a guest: finding, opening and evicting them, and gathering datagrams into batches. */
import type { LocalForwardSpec, RemoteForwardSpec } from '../../config.ts';
import { Verdict } from '../../firewall/verdict.ts';
import { Counter } from '../../stack/counters.ts';
import { Unreachable } from '../../stack/icmp/icmp.ts';
import type { Packet } from '../../stack/link/packet.ts';
import { ANY_ADDRESS } from '../../stack/transport/flow-table.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../../stack/wire/udp.ts';
import { ECONNREFUSED } from '../../sys/errno.ts';
import type { DnsFlows } from '../dns/flows.ts';
import type { FlowContext } from '../flow/context.ts';
import type { ListedFlow } from '../flow/info.ts';
import { destinationKey, Refusals } from '../flow/refusals.ts';
import { FlowSet } from '../flow/set.ts';
import { isBoundApart } from '../host/bind-source.ts';
import type { QueuedError } from '../host/error-queue.ts';
import type { Aim } from '../publish/aim.ts';
import type { ForwardError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { findTarget, Protocol, Target, TargetKind } from '../target/target.ts';
import { DatagramBatch, type ReceiveSlots } from './batch.ts';
import { ConnectedUdpFlows, UDP_SET } from './connected-flows.ts';
import type { DatagramSink } from './datagram-sink.ts';
import { UdpFlow, type UdpFlowOwner } from './flow.ts';
import { UdpLocals } from './locals.ts';

export class UdpFlows implements UdpFlowOwner {
  readonly context: FlowContext;
  readonly slots: ReceiveSlots;
  readonly #dns: DnsFlows;
  readonly #flows: FlowSet<UdpFlow>;
  readonly #connected: ConnectedUdpFlows;
  readonly #refusals = new Refusals();
  readonly #locals: UdpLocals;
  // The last datagram's ends, where it went, and the state of the world at that time.
  readonly #src = new IpAddress();
  readonly #dst = new IpAddress();
  #ports = 0;
  #sink: DatagramSink | null = null;
  readonly #target = new Target();
  #policyVersion = -1;
  #forwardsVersion = -1;
  // The batch being gathered for `#sink`; empty when `#gathering` is false.
  readonly #batch = new DatagramBatch();
  #gathering = false;
  #batchTtl = 0;
  // The sender judged last.
  readonly #senderJudged = new IpAddress();
  readonly #senderShown = new IpAddress();
  #senderPort = -1;
  #senderVersion = -1;
  #senderAllowed = false;

  constructor(context: FlowContext, dns: DnsFlows) {
    this.context = context;
    this.#dns = dns;
    this.slots = context.scratch.namedSlots;
    this.#flows = new FlowSet(context, UDP_SET);
    this.#connected = new ConnectedUdpFlows(context, this.slots, (flow) => this.#forget(flow));
    this.#locals = new UdpLocals(context, (flow) => this.#forget(flow));
  }

  get size(): number {
    return this.#flows.size + this.#connected.size + this.#locals.size + this.#locals.spliced.size;
  }

  /** Add each flow to `out`. */
  listFlows(out: ListedFlow[]): void {
    this.#flows.listFlows(out);
    this.#connected.listFlows(out);
    this.#locals.listFlows(out);
  }

  /** End the flow with this number; false: there is none. */
  closeFlow(id: number): boolean {
    return this.#flows.closeFlow(id) || this.#connected.closeFlow(id) || this.#locals.closeFlow(id);
  }

  /** The guest is gone: every flow ends. Those of local forwards do with their listeners. */
  close(): void {
    this.#flows.close();
    this.#connected.close();
  }

  /** Open local forward `id`. Throws `ForwardError`. */
  listen(id: number, spec: LocalForwardSpec, aim: Aim): Listener {
    return this.#locals.listen(id, spec, aim);
  }

  /** As `TcpLocals.listenInside`. */
  listenInside(id: number, spec: RemoteForwardSpec, done: (opened: Listener | ForwardError) => void): void {
    this.#locals.listenInside(id, spec, done);
  }

  /** The guest refused one of our datagrams; false: it is none of ours. */
  onUnreachable(p: Packet, code: number): boolean {
    return this.#locals.onUnreachable(p, code);
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
    const { policy, remoteForwards, mappings } = this.context;
    if (isSame && !this.context.refreshHostRoutes()) this.#sink = null;
    // Nothing has changed about the host or the forwards since the last one: it needs no judging.
    if (
      !isSame ||
      this.#sink === null ||
      this.#policyVersion !== policy.version ||
      this.#forwardsVersion !== remoteForwards.version + mappings.version
    ) {
      this.#sink = null;
      this.#sink = this.#find(p, h);
      if (this.#sink === null) return;
      this.#policyVersion = policy.version;
      this.#forwardsVersion = remoteForwards.version + mappings.version;
      this.#ports = ports;
      this.#src.copyFrom(p.src);
      this.#dst.copyFrom(p.dst);
    }
    if (p.gsoSize > 0 && p.gsoSize < length) {
      if (!this.#batch.setSegmented(offset, length, p.gsoSize)) {
        this.context.counters.drop(DropReason.UdpMalformed);
        return;
      }
    } else {
      this.#batch.add(offset, length);
    }
    this.#gathering = true;
    this.#batchTtl = p.ttl;
    // Reassembled bytes lie where the next datagram will be put together.
    if (p.reassembled) this.flush();
  }

  /** Who takes the datagram, with `#target` filled; null: nobody, and it was dealt with. */
  #find(p: Packet, h: UdpHeader): DatagramSink | null {
    const { context } = this;
    const { counters, icmp, clock, behavior } = context;
    const ports = ((h.srcPort << 16) | h.dstPort) >>> 0;
    if (this.#locals.size > 0) {
      const answered = this.#locals.find(p, h);
      if (answered !== null) return answered;
      if (context.own.owns(p.dst) && this.#locals.isClient(p.dst, h.dstPort)) {
        counters.drop(DropReason.UdpPeer);
        return null;
      }
    }
    const connected = this.#connected.find(p.src, p.dst, ports);
    // A forward's flow goes on, also when the forward is gone.
    if (connected !== null && connected.record.forward !== null) return connected;
    const isConnected = behavior.udpMapping === 'connected';
    const flow = isConnected ? connected : this.#flows.find(p.src, ANY_ADDRESS, (h.srcPort << 16) >>> 0);
    const target = this.#target;
    const kind = findTarget(context, Protocol.Udp, p.dst, h.dstPort, target);
    if (h.dstPort === 0 && kind !== TargetKind.Forward) {
      counters.drop(DropReason.UdpPort0);
      return null;
    }
    switch (kind) {
      case TargetKind.Outside:
        if (this.#refusals.isKnown(destinationKey(p.dst, h.dstPort), clock.nowMs)) {
          counters.add(Counter.UdpRefused, 1);
          icmp.unreachable(p, Unreachable.Port, clock.nowMs);
          return null;
        }
        // A mapping's socket is bound by its first destination.
        if (!isConnected && isBoundApart(context, target.address))
          return connected ?? this.#connected.open(p.src, p.dst, ports, target);
        return flow ?? (isConnected ? this.#connected.open(p.src, p.dst, ports, target) : this.#open(p, h));
      case TargetKind.Forward:
        return this.#connected.open(p.src, p.dst, ports, target);
      case TargetKind.Dns:
        this.#dns.onQuery(p, h);
        return null;
      case TargetKind.Denied:
        context.denials.denied('udp', p, h.srcPort, h.dstPort, target.verdict);
        counters.drop(target.verdict === Verdict.DenyGroup ? DropReason.UdpGroup : DropReason.PolicyDeny);
        return null;
      case TargetKind.Unreachable:
        context.denials.refused('port', 'udp', p, h.srcPort, h.dstPort);
        icmp.unreachable(p, Unreachable.Net, clock.nowMs);
        return null;
      default:
        context.denials.refused('port', 'udp', p, h.srcPort, h.dstPort);
        icmp.unreachable(p, Unreachable.Port, clock.nowMs);
        return null;
    }
  }

  /** Send what was gathered. At the end of every batch of frames, because the frames' memory is used again. */
  flush(): void {
    if (!this.#gathering) return;
    this.#gathering = false;
    try {
      this.#sink?.send(this.#batch, this.#target, this.#batchTtl);
    } finally {
      // Whatever happens: what is left here would be sent with the next flow's datagrams.
      this.#batch.clear();
    }
  }

  senderShown(src: IpAddress, port: number): IpAddress | null {
    const { policy, own, mappings } = this.context;
    const version = policy.version + mappings.version;
    if (version !== this.#senderVersion || port !== this.#senderPort || !src.equals(this.#senderJudged)) {
      this.#senderVersion = version;
      this.#senderPort = port;
      this.#senderJudged.copyFrom(src);
      const known = mappings.toGuest(src);
      this.#senderShown.copyFrom(known ?? src);
      this.#senderAllowed =
        known !== null || (!own.isInside(src) && policy.verdict(Protocol.Udp, src, port) === Verdict.Permit);
    }
    return this.#senderAllowed ? this.#senderShown : null;
  }

  touch(flow: UdpFlow): void {
    this.#flows.touch(flow);
  }

  ended(flow: UdpFlow): void {
    this.#forget(flow);
    this.#flows.ended(flow);
  }

  /** `sink` takes nothing any more. */
  #forget(sink: DatagramSink): void {
    if (this.#sink === sink) this.#sink = null;
  }

  reportError(flow: UdpFlow, error: QueuedError): void {
    const { icmp, memory, scratch, clock, own, mappings } = this.context;
    if (error.errno === ECONNREFUSED)
      this.#refusals.note(destinationKey(error.destination, error.port), clock.nowMs);
    const total = UDP_HEADER_LEN + error.quoted;
    // The quoted payload stays where the error queue put it; only the ports matter to the guest's kernel.
    emitUdp(memory.view, scratch.message, flow.guestPort, error.port, total, 0);
    const named =
      !error.offender.isUnspecified && !error.offender.isLoopback && !own.isInside(error.offender);
    const known = mappings.toGuest(error.destination);
    icmp.errorForFlow(
      named ? error.offender : (known ?? own.speaker(flow.guest.isV4)),
      flow.guest,
      known ?? error.destination,
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
    const { counters } = this.context;
    if (!this.#flows.makeRoom()) {
      counters.drop(DropReason.UdpLimit);
      this.context.denials.refused('limit', 'udp', p, h.srcPort, h.dstPort);
      return null;
    }
    const flow = new UdpFlow(this, p.src, h.srcPort, h.dstPort);
    const result = flow.open(this.#target);
    if (result < 0) {
      counters.drop(DropReason.UdpLimit);
      return null;
    }
    counters.add(Counter.UdpOpened, 1);
    this.#flows.add(flow);
    return flow;
  }
}
