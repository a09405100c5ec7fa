/**
 * One guest: its device, its stack and its flows, put together. The device's frames go in at `receiveBatch`, and at
 * the end of the batch everything it touched is settled: acknowledgments, gathered datagrams, data for open windows.
 */
import type { Congestion, ForwardSpec, GuestSpec, HostEnd } from '../config.ts';
import { CaptureLink } from '../device/capture.ts';
import { BATCH_FRAMES, type DeviceLink } from '../device/device-link.ts';
import type { HostRouteTable } from '../firewall/host-routes.ts';
import { Policy } from '../firewall/verdict.ts';
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
import { type IoHandler, TimerNode } from '../loop.ts';
import type { StackScratch } from '../stack/buffer/scratch.ts';
import { Counters } from '../stack/counters.ts';
import { Icmp } from '../stack/icmp/icmp.ts';
import { ErrorLimiter } from '../stack/icmp/limit.ts';
import { OwnAddresses } from '../stack/ip/own-addresses.ts';
import { Reassembler } from '../stack/ip/reassembly.ts';
import { Egress } from '../stack/link/egress.ts';
import { Ingress } from '../stack/link/ingress.ts';
import type { IngressHandler } from '../stack/link/ingress-parts.ts';
import type { Link } from '../stack/link/link.ts';
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
import { parseVnet, VNET_HEADER_LEN, VnetHeader } from '../stack/wire/vnet-header.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../sys/epoll.ts';
import { EAGAIN, EBADFD, ECONNRESET, EINTR, ENODEV, errnoText } from '../sys/errno.ts';
import { duplicate } from '../sys/io.ts';
import { LINK_NEWS_BYTES, LinkNews } from '../sys/netns/link-news.ts';
import { LinkWatch } from './link-watch.ts';
import type { InterfaceNews, OpenDevice } from './open-device.ts';

/**
 * Largest receive window. The guest can have this much in flight towards us, and every byte beyond what the host
 * takes at once is copied and kept: more would cost memory and gain nothing on a link without delay.
 */
const RECEIVE_WINDOW = 1024 * 1024;
/** Host bytes queued towards the guest, at most: a few super-segments more than any window that is drained at once. */
const SEND_QUEUE = 1024 * 1024;
/** Of the device's queue, how much one flow's window may fill (T-24); several flows share it. */
const QUEUE_SHARE = 4;

/** Bytes of frames per batch: what a frame at the end of the device's queue waits for is a few of these. */
const BATCH_BYTES = 512 * 1024;

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
  extends Pick<
    FlowContext,
    | 'slab'
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

export class Guest extends TimerNode implements IoHandler, IngressHandler {
  readonly number: number;
  readonly counters: Counters = new Counters();
  readonly tcp: TcpFlows;
  readonly udp: UdpFlows;
  readonly ping: PingFlows;
  readonly dns: DnsFlows;
  readonly #forwards: Forwards;
  readonly #services: EngineServices;
  readonly #device: DeviceLink;
  readonly #capture: CaptureLink | null;
  readonly #ingress: Ingress;
  readonly #dhcp: DhcpServer | null;
  readonly #ra: RouterAdvertiser | null;
  readonly #watch: LinkWatch | null;
  readonly #token: number;
  /** Waits for room in a device that was full: its own descriptor, because the device's is watched already. */
  readonly #drain: IoHandler = { waiting: false, onIo: () => this.#flushDevice() };
  #drainDescriptor = new Descriptor(-1);
  #drainToken = -1;
  readonly #offload = new VnetHeader();
  /** There is a network in between: congestion control lives by when frames arrive. */
  readonly #isFar: boolean;
  /** The last batch was a single frame. */
  #lone = false;
  waiting = false;
  #lastTurn = 0;
  #gone = false;
  /** The device's other end has closed; what it had sent may still be there to be read. */
  #hungUp = false;

  /** The guest owns the device's descriptors from here on. */
  constructor(number: number, services: EngineServices, spec: Omit<GuestSpec, 'device'>, device: OpenDevice) {
    super();
    this.number = number;
    this.#services = services;
    const { slab, rng, limits } = services;
    const own = new OwnAddresses(spec.addresses, spec.behavior);
    this.#device = device.link;
    this.#capture =
      spec.pcapPath === ''
        ? null
        : new CaptureLink(this.#device, slab, spec.pcapPath, {
            format: spec.pcapFormat,
            onError: (message) => services.log('warn', message),
          });
    const link: Link = this.#capture ?? this.#device;
    const neighbors = new NeighborTable(limits.neighborMax, own);
    const egress = new Egress(services.stackScratch, link, own, neighbors, this.counters, rng);
    const limiter = new ErrorLimiter(limits.icmpErrorRate, limits.icmpErrorBurst, rng);
    const icmp = new Icmp(slab, egress, own, limiter, this.counters);
    const remoteForwards = new RemoteForwards(own);
    const reports = new FlowReports(services, this.counters);
    const context: FlowContext = {
      ...services,
      counters: this.counters,
      link,
      own,
      egress,
      icmp,
      solicitor: new Solicitor(link, own, neighbors, egress, slab.view),
      policy: new Policy(spec.policy, services.hostRoutes),
      remoteForwards,
      behavior: spec.behavior,
      source4: spec.source4 === '' ? null : parseIpAddress(spec.source4),
      source6: spec.source6 === '' ? null : parseIpAddress(spec.source6),
      outboundInterface: spec.outboundInterface,
      dnsEnabled: spec.dns,
      refreshHostRoutes: () => services.refreshHostRoutes(),
      newFlowId: () => services.newFlowId(),
      reports,
      denials: new Denials(services, spec.behavior.denials, () => reports.mayTell()),
      log: (level, message, fields) => services.log(level, message, fields),
    };
    const queueBytes = (device.info.txQueueLen * device.info.mtu) / QUEUE_SHARE;
    const automatic = device.link.isLocal ? 'none' : 'cubic';
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
    const events = this.#device.endsWithPeer ? EPOLLIN | EPOLLRDHUP : EPOLLIN;
    const token = services.poller.add(this.#device.fd, events, this, true);
    if (token < 0) throw new Error(`cannot watch the device: errno ${-token}`);
    this.#token = token;
    this.#watch = device.news === null ? null : this.#follow(device.news);
    if (spec.behavior.askForGuest) context.solicitor.solicit(own.guest4);
    this.#capture?.flush();
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

  onLong(): void {
    this.#watch?.onIo();
  }

  onIo(events: number): void {
    if (this.#gone) return;
    this.#hungUp = (events & (EPOLLRDHUP | EPOLLHUP)) !== 0;
    const { turn } = this.#services.clock;
    // A guest that asks and waits sends one frame at a time: looking for a second one would be a call in vain. Frames
    // in two turns in a row are a train, which is read to its end.
    const most = this.#lone && turn - this.#lastTurn > 1 ? 1 : BATCH_FRAMES;
    this.#lastTurn = turn;
    this.#lone = this.#receiveBatch(most) === 1;
  }

  onTimer(nowMs: number): void {
    if (this.#gone) return;
    this.#ingress.onTimeout(nowMs);
    this.#schedule();
  }

  /** End of the turn: what other events than frames left to be sent. */
  endTurn(): void {
    this.tcp.settle();
    if (this.#gone) return;
    this.#capture?.flush();
    if (this.#device.waiting && this.#drainToken < 0) this.#awaitRoom();
  }

  /** The device is closed, and every flow ends with it (O-7). */
  close(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#forwards.close();
    this.#capture?.close();
    this.#watch?.close();
    this.#services.poller.remove(this.#token);
    this.#services.timers.cancel(this);
    if (this.#drainToken >= 0) this.#services.poller.remove(this.#drainToken);
    this.#drainDescriptor.close();
    // Before the flows: what they still have to say to the guest, nobody hears.
    this.#device.close();
    this.tcp.close();
    this.udp.close();
    this.ping.close();
    this.dns.close();
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

  /** Go by what MTU the interface has from now on. */
  #follow({ netlink, index, link }: InterfaceNews): LinkWatch {
    const { slab, memory, poller, log } = this.#services;
    const news = new LinkNews(netlink, index, memory, slab.region(LINK_NEWS_BYTES));
    const watch = new LinkWatch(news, poller, (mtu) => {
      if (mtu === link.mtu) return;
      link.mtu = mtu;
      this.#dhcp?.changeMtu(mtu);
      this.#ra?.changeMtu(mtu);
    });
    const result = watch.start();
    if (result < 0) log('warn', `changes of the interface's MTU are not followed: ${errnoText(result)}`);
    return watch;
  }

  /** Take up to `most` frames; how many there were. */
  #receiveBatch(most: number): number {
    const device = this.#device;
    const vnet = device.vnetLength;
    const view = this.#services.slab.view;
    const { clock } = this.#services;
    let count = 0;
    let bytes = 0;
    let end = 1;
    while (count < most && bytes < BATCH_BYTES) {
      const n = device.receive(count);
      end = n;
      if (n <= 0) break;
      const slot = device.slot(count);
      count++;
      bytes += n;
      // A thread that had to wait for a processor in this turn would else take the round trip for shorter than it is.
      if (this.#isFar) this.#services.poller.readClock();
      const offload = this.#offload;
      if (vnet > 0) {
        if (n < VNET_HEADER_LEN || parseVnet(view, slot, n - vnet, offload) < 0) {
          this.counters.drop(DropReason.VnetMalformed);
          continue;
        }
      }
      this.#capture?.received(slot + vnet, n - vnet, offload);
      try {
        this.#ingress.receive(slot + vnet, n - vnet, offload, clock.nowMs);
      } catch (error) {
        this.counters.drop(DropReason.BugException);
        this.#services.onError(error);
      }
    }
    this.udp.flush();
    this.dns.flush();
    this.tcp.settle();
    this.#schedule();
    // Only now: what came before the end was the guest's last word.
    if (end <= 0) this.#onReadError(end);
    return count;
  }

  #onReadError(n: number): void {
    if (n === 0 || n === -ECONNRESET) {
      // A packet socket reads an empty packet like the end of file (L-10).
      if (!this.#device.endsWithPeer || !this.#hungUp) return;
      this.close();
      this.#services.linkGone('its other end has closed');
      return;
    }
    if (n === -EAGAIN || n === -EINTR) return;
    if (n === -EBADFD || n === -ENODEV) {
      this.close();
      this.#services.linkGone('the device was deleted');
      return;
    }
    this.#services.log('debug', 'reading the device failed', { errno: -n });
  }

  #awaitRoom(): void {
    if (this.#drainDescriptor.fd < 0) this.#drainDescriptor = new Descriptor(duplicate(this.#device.fd));
    // Out of descriptors: what waits goes out with the next frame that comes in.
    if (this.#drainDescriptor.fd < 0) return;
    this.#drainToken = this.#services.poller.add(this.#drainDescriptor.fd, EPOLLOUT, this.#drain);
  }

  #flushDevice(): void {
    if (this.#gone) return;
    this.#device.flush();
    if (this.#device.waiting) return;
    this.#services.poller.remove(this.#drainToken);
    this.#drainToken = -1;
  }

  #schedule(): void {
    this.deadline = this.#ingress.nextTimeoutMs();
    this.#services.timers.update(this);
  }
}
