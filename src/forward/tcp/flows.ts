/**
 * All TCP flows of a guest: finding the flow of a segment, opening flows, settling them at the end of a batch, and what
 * has to go where there are too many. A refusal of the host's or the policy's is always an answer, never silence; a limit
 * of ours is silence, and the guest asks again (limits.ts).
 */

import type { HostEnd } from '../../config.ts';
import { Verdict } from '../../firewall/verdict.ts';
import { LruList } from '../../stack/buffer/lru.ts';
import { Counter } from '../../stack/counters.ts';
import { HalfSipHash } from '../../stack/half-sip-hash.ts';
import { Unreachable } from '../../stack/icmp/icmp.ts';
import { ErrorLimiter } from '../../stack/icmp/limit.ts';
import type { Packet } from '../../stack/link/packet.ts';
import { RateLimit } from '../../stack/rate-limit.ts';
import type { CongestionControl } from '../../stack/tcp/congestion/congestion.ts';
import { EV_BAD_ACK, type TcpEnvironment } from '../../stack/tcp/owner.ts';
import { seqAdd } from '../../stack/tcp/seq.ts';
import { FlowTable } from '../../stack/transport/flow-table.ts';
import { TimeWaitTable } from '../../stack/transport/time-wait-table.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import {
  PROTOCOL_TCP,
  TCP_ACK,
  TCP_FIN,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
  type TcpHeader,
} from '../../stack/wire/tcp.ts';
import { EAGAIN, ECONNREFUSED, EMFILE, ENFILE, ENOBUFS, ENOMEM } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import type { ListedFlow } from '../flow/info.ts';
import { SplicedStreams } from '../splice/streams.ts';
import { splitZone } from '../target/remote-forwards.ts';
import { findTarget, Protocol, Target, TargetKind } from '../target/target.ts';
import { dialAddress, dialNobody, dialUnix } from './dial.ts';
import { TcpFlow, type TcpFlowOwner } from './flow.ts';
import { TcpLimits } from './limits.ts';
import { TcpLocals, type TcpLocalsOwner } from './locals.ts';
import { cutLargest, cutStalled } from './memory-pressure.ts';
import { TcpRefuser } from './refuser.ts';
import { SpareParts } from './spare-parts.ts';
import { GATHER_PARTS } from './upload.ts';
import { BURST_BYTES, type WindowShare } from './window-share.ts';

/** Payload of the largest IP packet: what a super-segment may carry (65535 less headers and timestamps). */
const SUPER_SEGMENT_4 = 65535 - 20 - 60;
const SUPER_SEGMENT_6 = 65535 - 60;
/**
 * How long an acknowledgment waits for data to carry it: short, because a guest with Nagle on waits for it. With 2 ms
 * round trips were slower; other things changed in the same step, and the cause was not isolated.
 */
const DELAYED_ACK_MS = 5;
/** Challenge ACKs of all connections (RFC 5961 §7), on average and at once; each connection has a limit of its own. */
const CHALLENGES_PER_SECOND = 1000;
/** Share of packet memory that is enough again after a shortage, and how often it is seen to. */
const MEMORY_COMFORT = 5 / 8;
const MAKE_ROOM_INTERVAL_MS = 1000;

/** How long a connect may take before it can be made to give way, and how many do so, on average and at once. */
const DIAL_PATIENCE_MS = 1000;
const DROPPED_DIALS_PER_SECOND = 1024;
const DROPPED_DIALS_AT_ONCE = 64;

export class TcpFlows implements TcpFlowOwner, TcpLocalsOwner {
  readonly context: FlowContext;
  readonly locals: TcpLocals;
  readonly spliced: SplicedStreams;
  readonly environment: TcpEnvironment;
  readonly spareParts: SpareParts = new SpareParts(GATHER_PARTS);
  readonly #table: FlowTable<TcpFlow>;
  /** Of a key of its own: initial sequence numbers are shown to the guest, places in tables never. */
  readonly #sequenceHash: HalfSipHash;
  readonly #timeWait: TimeWaitTable;
  readonly #target = new Target();
  readonly #limits: TcpLimits;
  readonly #refuser: TcpRefuser;
  #touched: (TcpFlow | null)[] = [];
  #settling: (TcpFlow | null)[] = [];
  /** Counts instead of lengths here too: an emptied array would lose its storage after every batch. */
  #touchedCount = 0;
  readonly #halfOpen = new LruList();
  /** Connects for the guest that are under way. */
  readonly #dials = new LruList();
  readonly #dialsDropped = new RateLimit(DROPPED_DIALS_PER_SECOND, DROPPED_DIALS_AT_ONCE);
  #halfOpenCount = 0;
  #roomMadeAt = Number.NEGATIVE_INFINITY;
  readonly #share: WindowShare | null;

  /** A socket connected to the DNS service, or `-errno`. */
  dialDns: () => number = () => -ECONNREFUSED;

  /** `share`: what uploads at the same time divide among them; null = each may have its `receiveLimit`. */
  constructor(
    context: FlowContext,
    receiveLimit: number,
    share: WindowShare | null,
    sendLimit: number,
    newCongestionControl: (mss: number) => CongestionControl,
  ) {
    this.context = context;
    this.#share = share;
    const { link, pages, limits, hash, counters, rng } = context;
    this.environment = {
      slab: pages,
      link,
      receiveLimit,
      sendLimit,
      outOfOrderRanges: limits.tcpOutOfOrderRanges,
      superSegment4: link.tso ? SUPER_SEGMENT_4 : 0,
      superSegment6: link.tso ? SUPER_SEGMENT_6 : 0,
      delayedAckMs: DELAYED_ACK_MS,
      counters,
      challenges: new ErrorLimiter(CHALLENGES_PER_SECOND, CHALLENGES_PER_SECOND, rng),
      newCongestionControl,
    };
    this.#limits = new TcpLimits(context);
    this.#refuser = new TcpRefuser(context);
    this.#table = new FlowTable(hash, PROTOCOL_TCP);
    this.#sequenceHash = new HalfSipHash(rng.u32(), rng.u32());
    this.#timeWait = new TimeWaitTable(context);
    this.spliced = new SplicedStreams(context);
    this.locals = new TcpLocals(this);
  }

  get size(): number {
    return this.#table.size;
  }

  /** What counts against the limit of flows. */
  get #held(): number {
    return this.#table.size + this.spliced.size;
  }

  get timeWaitSize(): number {
    return this.#timeWait.size;
  }

  get dialing(): number {
    return this.#limits.dials;
  }

  get halfOpenCount(): number {
    return this.#halfOpenCount;
  }

  /** Add each flow to `out`. */
  listFlows(out: ListedFlow[]): void {
    this.#table.forEach((flow) => {
      out.push(flow);
    });
    this.spliced.listFlows(out);
  }

  /** Cut the flow with this number: RST to both sides. False: there is none. */
  closeFlow(id: number): boolean {
    const flow = this.#table.withId(id);
    flow?.abort();
    return flow !== null || this.spliced.closeFlow(id);
  }

  /** The guest is gone: every flow ends. */
  close(): void {
    this.locals.close();
    for (const flow of this.#all()) flow.leave();
    this.spliced.close();
    this.#timeWait.clear();
  }

  /** Cut every flow: RST to both sides. */
  cutAll(): void {
    for (const flow of this.#all()) {
      try {
        flow.abort();
      } catch (error) {
        this.context.onError(error);
      }
    }
  }

  /** Apart from the table, which changes as they end. */
  #all(): TcpFlow[] {
    const flows: TcpFlow[] = [];
    this.#table.forEach((flow) => {
      flows.push(flow);
    });
    return flows;
  }

  /** Cut what the guest has opened and could not open now. */
  revoke(): void {
    const target = this.#target;
    for (const flow of this.#all()) {
      if (flow.record.forward !== null) continue;
      const kind = findTarget(this.context, Protocol.Tcp, flow.remote, flow.remotePort, target);
      if (kind !== TargetKind.Outside && kind !== TargetKind.Dns) flow.abort();
    }
  }

  hasRoom(): boolean {
    return this.#limits.hasRoom(this.#held);
  }

  isInUse(guest: IpAddress, remote: IpAddress, ports: number): boolean {
    return this.#table.find(guest, remote, ports) !== null || this.#timeWait.has(guest, remote, ports);
  }

  find(guest: IpAddress, remote: IpAddress, ports: number): TcpFlow | null {
    return this.#table.find(guest, remote, ports);
  }

  forEach(visit: (flow: TcpFlow) => void): void {
    this.#table.forEach(visit);
  }

  enter(flow: TcpFlow): void {
    this.#table.add(flow);
    flow.dialing = true;
    this.#limits.dialBegun();
  }

  onTcp(p: Packet, h: TcpHeader): void {
    const flags = h.flags;
    const { counters } = this.context;
    if ((flags & TCP_SYN) !== 0 && (flags & (TCP_FIN | TCP_RST)) !== 0) {
      counters.drop(DropReason.TcpFlags);
      return;
    }
    if ((flags & TCP_URG) !== 0) counters.add(Counter.TcpUrgent, 1);
    const ports = ((h.srcPort << 16) | h.dstPort) >>> 0;
    const length = p.length - h.headerLen;
    const flow = this.#table.find(p.src, p.dst, ports);
    if (flow !== null) {
      if (flow.connection.isPending) this.#onPending(flow, p, h);
      else if ((flow.onSegment(h, p.offset + h.headerLen, length) & EV_BAD_ACK) !== 0)
        this.#refuser.reset(p, h, length);
      // Frames have a slot each, but there is only one place where fragments are put together.
      if (p.reassembled) flow.endGathering();
      return;
    }
    if (this.#timeWait.onSegment(p.src, p.dst, ports, h)) return;
    if (h.srcPort === 0 || h.dstPort === 0) {
      counters.drop(DropReason.TcpPort0);
      this.#refuser.reset(p, h, length);
    } else if ((flags & (TCP_SYN | TCP_ACK)) === TCP_SYN) {
      this.#open(p, h, ports, length);
    } else {
      counters.drop(DropReason.TcpNoFlow);
      this.#refuser.reset(p, h, length);
    }
  }

  touch(flow: TcpFlow): void {
    if (flow.touched) return;
    flow.touched = true;
    if (this.#touchedCount === 0) this.context.touched();
    this.#touched[this.#touchedCount++] = flow;
  }

  /** The batch of frames is through: acknowledge and send for every flow it touched. */
  settle(): void {
    const count = this.#touchedCount;
    if (count === 0) return;
    // Two lists in turn, because settling may touch again.
    const flows = this.#touched;
    this.#touched = this.#settling;
    this.#settling = flows;
    this.#touchedCount = 0;
    const share = this.#share;
    for (let i = 0; i < count; i++) {
      const flow = flows[i] as TcpFlow;
      flows[i] = null;
      try {
        if (flow.burst >= BURST_BYTES) share?.note(flow, this.context.clock.nowMs);
        flow.burst = 0;
        if (share !== null) flow.connection.limitWindow(share.window);
        flow.settle();
      } catch (error) {
        this.#endBroken(flow, error);
      }
    }
  }

  /** Our bug, and this flow's end, which may meet the same bug; the others go on all the same (N-01). */
  #endBroken(flow: TcpFlow, error: unknown): void {
    this.context.onError(error);
    try {
      flow.abort();
    } catch (again) {
      this.context.onError(again);
    }
  }

  dialEnded(flow: TcpFlow): void {
    this.#limits.dialEnded();
    if (flow.record.isLocal) {
      this.locals.dialEnded(flow);
      return;
    }
    if (flow.nameRequest >= 0) {
      this.context.names.cancel(flow.nameRequest);
      flow.nameRequest = -1;
    }
    this.#dials.remove(flow);
    this.#limits.dialToEnded(flow.remote, flow.remotePort);
  }

  failed(flow: TcpFlow): void {
    this.#limits.noteFailure(flow.remote, flow.remotePort);
  }

  opened(flow: TcpFlow): void {
    this.#limits.noteAnswer(flow.remote, flow.remotePort);
  }

  refuse(flow: TcpFlow, error: number): void {
    if (error === -ECONNREFUSED) this.#limits.noteRefusal(flow.remote, flow.remotePort);
    this.#refuser.refuse(flow, error);
  }

  halfOpen(flow: TcpFlow): void {
    const { limits, counters } = this.context;
    if (this.#halfOpenCount >= limits.tcpMaxHalfOpen) {
      counters.add(Counter.TcpHalfOpenDropped, 1);
      (this.#halfOpen.oldest as TcpFlow).giveWay();
    }
    this.#halfOpen.add(flow);
    this.#halfOpenCount++;
  }

  halfOpenEnded(flow: TcpFlow): void {
    this.#halfOpen.remove(flow);
    this.#halfOpenCount--;
  }

  makeRoom(): void {
    const { pages } = this.context;
    if (!pages.ask()) this.#cutStalled(() => pages.pagesUsed < pages.pageCount * MEMORY_COMFORT);
  }

  /** Once a second at most: it looks at every flow. */
  #cutStalled(enough: () => boolean): void {
    const { nowMs } = this.context.clock;
    if (nowMs - this.#roomMadeAt < MAKE_ROOM_INTERVAL_MS) return;
    this.#roomMadeAt = nowMs;
    this.#cut(cutStalled, 'a shut window', enough);
  }

  #cut(cut: typeof cutStalled, what: string, enough: () => boolean): void {
    const flows: TcpFlow[] = [];
    this.#table.forEach((flow) => {
      flows.push(flow);
    });
    const count = cut(flows, enough);
    if (count === 0) return;
    this.context.counters.add(Counter.TcpMemoryPressure, count);
    this.context.log('warn', `packet memory is full: connections with ${what} were reset`, { cut: count });
  }

  /** To other guests, if they have asked for it. */
  giveWay(): void {
    const { pages } = this.context;
    if (!pages.isAsked) return;
    if (pages.given()) this.#cut(cutLargest, 'most of it', () => pages.hasGiven);
    else this.#cutStalled(() => pages.hasGiven);
  }

  ended(flow: TcpFlow): void {
    this.#table.remove(flow);
    const { timeWait } = flow.connection;
    if (timeWait !== null) this.#timeWait.add(flow, timeWait);
  }

  /** The guest repeats itself while the host has not answered (T-06). */
  #onPending(flow: TcpFlow, p: Packet, h: TcpHeader): void {
    const c = flow.connection;
    if ((h.flags & TCP_RST) !== 0) {
      // RFC 5961 in spirit: only the one who knows the number of the SYN.
      if (h.seq === c.rcv.irs || h.seq === c.rcv.nxt) flow.cancelDial();
      return;
    }
    if ((h.flags & (TCP_SYN | TCP_ACK)) !== TCP_SYN) {
      this.context.counters.drop(DropReason.TcpNoFlow);
      return;
    }
    if (h.seq === c.rcv.irs) return;
    flow.cancelDial();
    this.#open(p, h, flow.ports, p.length - h.headerLen);
  }

  #open(p: Packet, h: TcpHeader, ports: number, length: number): void {
    const { context } = this;
    const { counters, clock, link, rng } = context;
    const target = this.#target;
    switch (findTarget(context, Protocol.Tcp, p.dst, h.dstPort, target)) {
      case TargetKind.Outside:
      case TargetKind.Forward:
        break;
      case TargetKind.Dns:
        if (context.resolvers.count === 0) {
          this.#refuser.reset(p, h, length);
          return;
        }
        break;
      case TargetKind.Denied:
        // RFC 9293 §3.9.2.3: to a group there is no answer either.
        if (target.verdict === Verdict.DenyGroup) {
          counters.drop(DropReason.PolicyGroup);
          context.denials.denied('tcp', p, h.srcPort, h.dstPort, target.verdict);
          return;
        }
        counters.drop(DropReason.PolicyDeny);
        context.denials.denied('tcp', p, h.srcPort, h.dstPort, target.verdict);
        this.#refuser.reset(p, h, length);
        return;
      case TargetKind.Unreachable:
        counters.add(Counter.TcpRefused, 1);
        context.denials.refused('port', 'tcp', p, h.srcPort, h.dstPort);
        context.icmp.unreachable(p, Unreachable.Net, clock.nowMs);
        return;
      default:
        counters.add(Counter.TcpRefused, 1);
        context.denials.refused('port', 'tcp', p, h.srcPort, h.dstPort);
        this.#refuser.reset(p, h, length);
        return;
    }
    if (this.#limits.isRefused(p.dst, h.dstPort)) {
      counters.add(Counter.TcpRefused, 1);
      this.#refuser.reset(p, h, length);
      return;
    }
    this.#makeDialRoom();
    if (
      !this.#limits.hasRoomTo(p.dst, h.dstPort, this.#held) &&
      !(this.#limits.isRepeated(p, ports, h.seq) && this.#makeRoomFor(p.dst, h.dstPort))
    ) {
      counters.drop(DropReason.TcpLimit);
      context.denials.refused('limit', 'tcp', p, h.srcPort, h.dstPort);
      return;
    }
    const flow = new TcpFlow(this, this.environment, p.src, p.dst, ports, target.forward);
    flow.connection.openPassive(h, link.mtu, this.initialSeq(flow), rng.u32(), clock.nowMs);
    flow.synBytes = length;
    this.enter(flow);
    flow.dialSince = clock.nowMs;
    this.#dials.add(flow);
    this.#limits.dialToBegun(p.dst, h.dstPort);
    const result = this.#dial(flow, target);
    if (result < 0) this.#notDialed(flow, result);
    else counters.add(Counter.TcpOpened, 1);
  }

  /** The host cannot even begin to connect, for `-errno`: a want of the host's passes, and the guest asks again. */
  #notDialed(flow: TcpFlow, error: number): void {
    if (!isWant(error)) {
      flow.refuse(-error);
      return;
    }
    this.context.counters.drop(DropReason.TcpLimit);
    this.#limits.log(this.#table.size);
    flow.giveWay(-error);
  }

  /**
   * When too many connects are under way, the one that has waited longest gives way, without a word, so that its program
   * asks again: what a flood of SYNs to silent addresses leaves behind must not keep the guest from everybody else until
   * the host gives up (T-22). Not too often.
   */
  #makeDialRoom(): void {
    const { limits, clock } = this.context;
    const oldest = this.#dials.oldest as TcpFlow | null;
    if (oldest === null || this.#limits.dials < limits.tcpMaxPendingDials) return;
    if (clock.nowMs - oldest.dialSince < DIAL_PATIENCE_MS || !this.#dialsDropped.allow(clock.nowMs)) return;
    this.#dropDial(oldest);
  }

  /** For a SYN that is to have room to (`address`, `port`) now: whoever has waited longest gives way. False: nobody waits. */
  #makeRoomFor(address: IpAddress, port: number): boolean {
    let oldest = this.#dials.oldest as TcpFlow | null;
    if (this.#limits.isFullFor(address, port)) {
      while (oldest !== null && !(oldest.remotePort === port && oldest.remote.equals(address)))
        oldest = oldest.lruNext as TcpFlow | null;
    } else if (this.#limits.hasRoom(this.#held)) {
      return true;
    }
    if (oldest !== null) {
      this.#dropDial(oldest);
    } else {
      oldest = this.#halfOpen.oldest as TcpFlow | null;
      if (oldest === null) return false;
      this.context.counters.add(Counter.TcpHalfOpenDropped, 1);
      oldest.giveWay();
    }
    return this.#limits.hasRoom(this.#held);
  }

  #dropDial(flow: TcpFlow): void {
    this.context.counters.add(Counter.TcpDialsDropped, 1);
    flow.giveWay();
  }

  /** RFC 6528: a clock of 4 microseconds plus a keyed hash of the tuple. */
  initialSeq({ guest, remote, ports }: TcpFlow): number {
    const { clock } = this.context;
    return seqAdd(
      this.#sequenceHash.tuple(guest, remote, ports, PROTOCOL_TCP),
      Math.floor(clock.nowMs * 250) >>> 0,
    );
  }

  /** Begin to connect to what the guest's SYN was for; 0 or `-errno`. */
  #dial(flow: TcpFlow, target: Target): number {
    const end = target.forward?.target;
    if (end?.kind === 'name') {
      const waiter = {
        onResolved: (to: HostEnd | null, reason: string): void => this.#onResolved(flow, to, reason),
      };
      flow.nameRequest = this.context.names.resolve(end.label, end.port, 'tcp', waiter);
      return flow.nameRequest < 0 ? -EMFILE : 0;
    }
    let fd: number;
    if (target.kind === TargetKind.Dns) fd = this.dialDns();
    else if (end?.kind === 'unix') fd = dialUnix(this.context, end.path);
    else fd = dialAddress(this.context, target.address, target.port, target.scopeId);
    return fd < 0 ? fd : flow.attach(fd);
  }

  /** The name that a flow waits for is known, or never will be. */
  #onResolved(flow: TcpFlow, to: HostEnd | null, reason: string): void {
    flow.nameRequest = -1;
    let fd: number;
    if (to === null) {
      if (this.context.behavior.unresolved === 'refuse') {
        flow.refuse(0, reason);
        return;
      }
      flow.tellFailure(reason);
      fd = dialNobody(this.context);
    } else if (to.kind === 'unix') {
      fd = dialUnix(this.context, to.path);
    } else {
      const { address, scopeId } = splitZone(to.address);
      fd = dialAddress(this.context, parseIpAddress(address), to.port || flow.remotePort, scopeId);
    }
    const result = fd < 0 ? fd : flow.attach(fd);
    if (result < 0) this.#notDialed(flow, result);
  }
}

/** Whether `-errno` says that the host has too little of something at the moment, and not that there is no way. */
function isWant(error: number): boolean {
  switch (-error) {
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}
