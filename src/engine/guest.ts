/**
 * One guest: its device, its stack and its flows, put together. Its frames come in batches, and at the end of a batch
 * everything it touched is settled: acknowledgments, gathered datagrams, data for open windows.
 */
import type { Congestion, ForwardSpec, GuestSpec, HostEnd, Limits } from '../config.ts';
import { type DeviceLink, type LinkOwner, type LinkServices, RxFrame } from '../device/device-link.ts';
import type { OpenLink } from '../device/open-link.ts';
import { DeviceError } from '../device-error.ts';
import type { HostRouteTable } from '../firewall/host-routes.ts';
import { Policy, type PolicySpec } from '../firewall/verdict.ts';
import { DnsFlows } from '../forward/dns/flows.ts';
import type { FlowContext } from '../forward/flow/context.ts';
import { Denials } from '../forward/flow/denials.ts';
import type { FlowReport, ListedFlow } from '../forward/flow/info.ts';
import { FlowReports } from '../forward/flow/reports.ts';
import { PingFlows } from '../forward/ping/flows.ts';
import { Forwards } from '../forward/publish/forwards.ts';
import { RemoteForwards } from '../forward/target/remote-forwards.ts';
import { TcpFlows } from '../forward/tcp/flows.ts';
import { WindowShare } from '../forward/tcp/window-share.ts';
import { UdpFlows } from '../forward/udp/flows.ts';
import { TimerNode } from '../loop.ts';
import type { StackScratch } from '../stack/buffer/scratch.ts';
import { Counters } from '../stack/counters.ts';
import { Icmp } from '../stack/icmp/icmp.ts';
import { ErrorLimiter } from '../stack/icmp/limit.ts';
import { OwnAddresses } from '../stack/ip/own-addresses.ts';
import { Reassembler } from '../stack/ip/reassembly.ts';
import { Egress } from '../stack/link/egress.ts';
import { Ingress } from '../stack/link/ingress.ts';
import type { IngressHandler } from '../stack/link/ingress-parts.ts';
import type { Packet } from '../stack/link/packet.ts';
import { NeighborTable } from '../stack/neighbor/cache.ts';
import { Solicitor } from '../stack/neighbor/solicitor.ts';
import { RateLimit } from '../stack/rate-limit.ts';
import { DhcpServer } from '../stack/services/dhcp-server.ts';
import { RouterAdvertiser } from '../stack/services/router-advertiser.ts';
import type { CongestionControl } from '../stack/tcp/congestion/congestion.ts';
import { Cubic } from '../stack/tcp/congestion/cubic.ts';
import { NewReno } from '../stack/tcp/congestion/new-reno.ts';
import { noCongestionControl } from '../stack/tcp/congestion/none.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import type { SearchDomains } from '../stack/wire/search-domains.ts';
import type { TcpHeader } from '../stack/wire/tcp.ts';
import type { UdpHeader } from '../stack/wire/udp.ts';
import { errnoText } from '../sys/errno.ts';

/**
 * Largest receive window. The guest can have this much in flight towards us, and every byte beyond what the host
 * takes at once is copied and kept: more would cost memory and gain nothing on a link without delay.
 */
const RECEIVE_WINDOW = 1024 * 1024;
/** Host bytes queued towards the guest, at most: a few super-segments more than any window that is drained at once. */
const SEND_QUEUE = 1024 * 1024;
/** Of the device's queue, how much one flow's window may fill (T-24); several flows share it. */
const QUEUE_SHARE = 4;

/** Bytes per frame of a batch, on average: what a frame at the end of the device's queue waits for is a few batches. */
const FRAME_BYTES = 8192;

const congestionControls: Record<Exclude<Congestion, 'auto'>, (mss: number) => CongestionControl> = {
  none: () => noCongestionControl,
  newReno: (mss) => new NewReno(mss),
  cubic: (mss) => new Cubic(mss),
};

/** Echo requests that the stack answers by itself for all addresses, per second and at once, as slirpnetstack does. */
const ECHO_RATE = 1000;
const ECHO_BURST = 50;

/** What a guest gets from its engine: some of it is shared by all, some is its own. */
export interface EngineServices
  extends Pick<LinkServices, 'frames'>,
    Pick<
      FlowContext,
      | 'slab'
      | 'pages'
      | 'memory'
      | 'scratch'
      | 'poller'
      | 'timers'
      | 'clock'
      | 'rng'
      | 'hash'
      | 'limits'
      | 'descriptors'
      | 'resolvers'
      | 'names'
      | 'refreshHostRoutes'
      | 'newFlowId'
      | 'touched'
      | 'onError'
      | 'log'
    > {
  readonly stackScratch: StackScratch;
  readonly hostRoutes: HostRouteTable;
  /** Domains of the host that its guests complete short names with. */
  readonly search: SearchDomains;
  /** Port that resolvers are asked at, where it is another than DNS has. */
  readonly dnsServerPort?: number;
  report(event: FlowReport): void;
  /** The device is gone for good. */
  linkGone(reason: string): void;
}

export class Guest extends TimerNode implements LinkOwner, IngressHandler {
  readonly counters: Counters = new Counters();
  readonly tcp: TcpFlows;
  readonly udp: UdpFlows;
  readonly ping: PingFlows;
  readonly dns: DnsFlows;
  readonly #forwards: Forwards;
  readonly #policy: Policy;
  /** Who would go on to tell of the guest. */
  readonly #tellers: readonly { close(): void }[];
  readonly #services: EngineServices;
  readonly #link: DeviceLink;
  readonly #ingress: Ingress;
  readonly #dhcp: DhcpServer | null;
  readonly #ra: RouterAdvertiser | null;
  readonly #frame = new RxFrame();
  /** There is a network in between: congestion control lives by when frames arrive. */
  readonly #isFar: boolean;
  #gone = false;

  /** The guest closes the link from here on. @throws DeviceError */
  constructor(
    services: EngineServices,
    spec: Omit<GuestSpec, 'device' | 'limits'>,
    { link, info }: OpenLink,
  ) {
    super();
    this.#services = services;
    const { slab, rng, limits } = services;
    const own = new OwnAddresses(spec.addresses, spec.behavior);
    this.#link = link;
    const neighbors = new NeighborTable(limits.neighborMax, own);
    const egress = new Egress(services.stackScratch, link, own, neighbors, this.counters, rng);
    const limiter = new ErrorLimiter(limits.icmpErrorRate, limits.icmpErrorBurst, rng);
    const icmp = new Icmp(slab, egress, own, limiter, this.counters);
    const remoteForwards = new RemoteForwards(own);
    const reports = new FlowReports(services, this.counters, limits.toldPerSecond);
    const denials = new Denials(services, spec.behavior.denials, () => reports.mayTell());
    this.#policy = new Policy(spec.policy, services.hostRoutes);
    this.#tellers = [reports, denials, services.names];
    const context: FlowContext = {
      ...services,
      counters: this.counters,
      link,
      own,
      egress,
      icmp,
      solicitor: new Solicitor(link, own, neighbors, egress, slab.view),
      policy: this.#policy,
      remoteForwards,
      behavior: spec.behavior,
      source4: spec.source4 === '' ? null : parseIpAddress(spec.source4),
      source6: spec.source6 === '' ? null : parseIpAddress(spec.source6),
      outboundInterface: spec.outboundInterface,
      dnsEnabled: spec.dns,
      refreshHostRoutes: () => services.refreshHostRoutes(),
      newFlowId: () => services.newFlowId(),
      reports,
      denials,
      touched: () => services.touched(),
      log: (level, message, fields) => services.log(level, message, fields),
    };
    const queueBytes = (info.txQueueLen * info.mtu) / QUEUE_SHARE;
    const automatic = link.isLocal ? 'none' : 'cubic';
    const congestion = spec.congestion === 'auto' ? automatic : spec.congestion;
    const far = congestion !== 'none';
    this.#isFar = far;
    const window = far
      ? limits.tcpBufferPerFarFlow
      : Math.max(65536, Math.min(RECEIVE_WINDOW, limits.tcpBufferPerFlow, queueBytes));
    const sendQueue = far ? limits.tcpBufferPerFarFlow : Math.min(SEND_QUEUE, limits.tcpBufferPerFlow);
    const share = far ? null : new WindowShare(window);
    this.tcp = new TcpFlows(context, window, share, sendQueue, congestionControls[congestion]);
    neighbors.onLearned = (address) => this.tcp.locals.onNeighbor(address);
    this.dns = new DnsFlows(context, services.dnsServerPort);
    this.tcp.dialDns = () => this.dns.dial();
    this.udp = new UdpFlows(context, this.dns);
    this.ping = new PingFlows(context);
    this.#forwards = new Forwards(
      remoteForwards,
      (id, forward) => this.tcp.locals.listen(id, forward),
      (id, forward) => this.udp.listen(id, forward),
    );
    const onEthernet = link.medium === 'ethernet';
    this.#ra =
      spec.autoconfiguration && own.ipv6
        ? new RouterAdvertiser(
            own,
            link.mtu,
            spec.dns ? [own.dns6] : [],
            rng,
            spec.dns ? services.search : null,
          )
        : null;
    this.#dhcp =
      spec.autoconfiguration && onEthernet
        ? new DhcpServer(own, link.mtu, spec.dns ? [own.dns4.w3] : [], spec.dns ? services.search : null)
        : null;
    this.#ingress = new Ingress({
      slab,
      link,
      own,
      neighbors,
      reassembler: new Reassembler(services.stackScratch, limits),
      icmp,
      egress,
      dhcp: this.#dhcp,
      ra: this.#ra,
      echoLimit: spec.behavior.echo === 'local' ? new RateLimit(ECHO_RATE, ECHO_BURST) : null,
      handler: this,
      counters: this.counters,
      sharedMac: spec.behavior.sharedMac,
    });
    const result = link.open(this);
    if (result < 0) throw new DeviceError('link', -result, `cannot watch the device: ${errnoText(result)}`);
    if (spec.behavior.askForGuest) context.solicitor.solicit(own.guest4);
    link.flush();
    this.#schedule();
  }

  onTcp(p: Packet, h: TcpHeader): void {
    this.tcp.onTcp(p, h);
  }

  onUdp(p: Packet, h: UdpHeader): void {
    this.udp.onUdp(p, h);
  }

  onEcho(p: Packet): void {
    this.ping.onEcho(p);
  }

  /** Open a forward; the address really bound. Throws `ForwardError`. */
  addForward(id: number, spec: ForwardSpec): HostEnd {
    return this.#forwards.add(id, spec);
  }

  /** False: there is no such forward. */
  removeForward(id: number): boolean {
    return this.#forwards.remove(id);
  }

  /** The control plane's answer to a question for a name. */
  onHostResolved(request: number, target: HostEnd | null, reason: string): void {
    this.#services.names.answer(request, target, reason);
  }

  /** Add each flow to `out`. */
  listFlows(out: ListedFlow[]): void {
    this.tcp.listFlows(out);
    this.udp.listFlows(out);
    this.ping.listFlows(out);
  }

  /** Cut a flow; false: there is none with that number. */
  closeFlow(id: number): boolean {
    return this.tcp.closeFlow(id) || this.udp.closeFlow(id) || this.ping.closeFlow(id);
  }

  onUnreachable(p: Packet, code: number): boolean {
    return this.tcp.locals.onUnreachable(p, code) || this.udp.onUnreachable(p, code);
  }

  /** Take a batch of frames. */
  onFrames(): void {
    const link = this.#link;
    const frame = this.#frame;
    const { clock, poller } = this.#services;
    const { batchFrames } = clock;
    const batchBytes = batchFrames * FRAME_BYTES;
    let bytes = 0;
    for (let index = 0; index < batchFrames && bytes < batchBytes; index++) {
      const result = link.receive(index, frame);
      if (result === 0) break;
      // A thread that had to wait for a processor in this turn would else take the round trip for shorter than it is.
      if (this.#isFar) poller.readClock();
      if (result < 0) {
        this.counters.drop(result);
        continue;
      }
      bytes += frame.length;
      try {
        this.#ingress.receive(frame.offset, frame.length, frame.offload, clock.nowMs);
      } catch (error) {
        this.counters.drop(DropReason.BugException);
        this.#services.onError(error);
      }
    }
    this.udp.flush();
    this.dns.flush();
    this.tcp.settle();
    this.#schedule();
  }

  onMtu(): void {
    this.#dhcp?.changeMtu(this.#link.mtu);
    this.#ra?.changeMtu(this.#link.mtu);
  }

  onGone(reason: string): void {
    this.close();
    this.#services.linkGone(reason);
  }

  onTimer(nowMs: number): void {
    if (this.#gone) return;
    this.#ingress.onTimeout(nowMs);
    this.#schedule();
  }

  /** End of a turn in which there was anything: what other events than frames left to be sent. */
  endTurn(): void {
    this.tcp.giveWay();
    this.tcp.settle();
    if (!this.#gone) this.#link.flush();
  }

  /** Flows and forwards are judged by this from now on. @throws RuleError or RangeError, and nothing has changed */
  setPolicy(spec: PolicySpec): void {
    this.#policy.set(spec);
  }

  /** What is opened from now on is held to these; how much memory there is for what is found out at the start stays. */
  setLimits(limits: Partial<Limits>): void {
    Object.assign(this.#services.limits, limits);
  }

  /** Reset every flow to both sides and give everything back. */
  remove(): void {
    if (this.#gone) return;
    this.#forwards.close();
    this.tcp.cutAll();
    this.#link.flush();
    this.close();
  }

  /** The link is closed, and every flow ends with it (O-7). */
  close(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#forwards.close();
    this.#services.timers.cancel(this);
    // Before the flows: what they still have to say to the guest, nobody hears.
    this.#link.close();
    this.tcp.close();
    this.udp.close();
    this.ping.close();
    this.dns.close();
    for (const teller of this.#tellers) teller.close();
    this.#services.descriptors.leave();
    this.#services.pages.leave();
  }

  get flowCount(): number {
    return this.tcp.size + this.tcp.timeWaitSize + this.udp.size + this.ping.size;
  }

  gauges(): Record<string, number> {
    return {
      'tcp.flows': this.tcp.size,
      'tcp.dialing': this.tcp.dialing,
      'tcp.half_open': this.tcp.halfOpenCount,
      'tcp.time_wait': this.tcp.timeWaitSize,
      'udp.flows': this.udp.size,
      'ping.flows': this.ping.size,
      'dns.outstanding': this.dns.size,
    };
  }

  #schedule(): void {
    this.deadline = this.#ingress.nextTimeoutMs();
    this.#services.timers.update(this);
  }
}
