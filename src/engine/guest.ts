/**
 * One guest: its device, its stack and its flows, put together. Its frames come in batches, and at the end of a batch
 * everything it touched is settled: acknowledgments, gathered datagrams, data for open windows.
 */
import type { AddressMapping, AddressPlan, GuestSpec, HostEnd, Limits } from '../config.ts';
import {
  BATCH_FRAME_BYTES,
  type DeviceLink,
  type EndReason,
  type LinkOwner,
  type LinkServices,
  RxFrame,
} from '../device/device-link.ts';
import type { OpenLink } from '../device/open-link.ts';
import { DeviceError } from '../device-error.ts';
import type { HostRouteTable } from '../firewall/host-routes.ts';
import { Policy, type PolicySpec } from '../firewall/verdict.ts';
import type { FlowContext } from '../forward/flow/context.ts';
import { Denials } from '../forward/flow/denials.ts';
import type { FlowReport } from '../forward/flow/info.ts';
import { FlowReports } from '../forward/flow/reports.ts';
import { AddressMappings } from '../forward/target/address-mappings.ts';
import { RemoteForwards } from '../forward/target/remote-forwards.ts';
import { TimerNode } from '../loop.ts';
import type { GuestBehavior } from '../profiles.ts';
import type { StackScratch } from '../stack/buffer/scratch.ts';
import { Counter, Counters } from '../stack/counters.ts';
import { Icmp } from '../stack/icmp/icmp.ts';
import { ErrorLimiter } from '../stack/icmp/limit.ts';
import { OwnAddresses } from '../stack/ip/own-addresses.ts';
import { Reassembler } from '../stack/ip/reassembly.ts';
import { Egress } from '../stack/link/egress.ts';
import { Ingress } from '../stack/link/ingress.ts';
import { NeighborTable } from '../stack/neighbor/cache.ts';
import { Solicitor } from '../stack/neighbor/solicitor.ts';
import { RateLimit } from '../stack/rate-limit.ts';
import type { DhcpServer } from '../stack/services/dhcp-server.ts';
import type { RouterAdvertiser } from '../stack/services/router-advertiser.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import type { SearchDomains } from '../stack/wire/search-domains.ts';
import { errnoText } from '../sys/errno.ts';
import { GuestFlows } from './guest-flows.ts';
import { guestServices } from './guest-services.ts';

/** Flows that a batch may open: each is five to ten system calls, 70 us, or 250 where the processor is shared (G-7). */
const BATCH_FLOWS = 16;
/** Connections outlive the end of their link for so long: who comes back goes on (L-6). */
const LINK_DOWN_MS = 30_000;

/** Echo requests that the stack answers by itself for all addresses, per second and at once, as slirpnetstack does. */
const ECHO_RATE = 1000;
const ECHO_BURST = 50;

/** What a guest gets from its engine: some of it is shared by all, some is its own. */
export interface EngineServices
  extends Pick<LinkServices, 'frames' | 'onPeer'>,
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
      | 'inside'
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
  linkGone(reason: EndReason, text: string): void;
  /** The other end of the link has gone, and may come back; has come. */
  linkDown(reason: EndReason, text: string): void;
  linkUp(peer: string): void;
}

export class Guest extends TimerNode implements LinkOwner {
  readonly counters: Counters = new Counters();
  readonly flows: GuestFlows;
  readonly #policy: Policy;
  /** Who would go on to tell of the guest. */
  readonly #tellers: readonly { close(): void }[];
  readonly #services: EngineServices;
  readonly #link: DeviceLink;
  readonly #giveBack: (() => void) | undefined;
  readonly #behavior: GuestBehavior;
  readonly #ingress: Ingress;
  readonly #reassembler: Reassembler;
  readonly #dhcp: DhcpServer | null;
  readonly #ra: RouterAdvertiser | null;
  readonly #frame = new RxFrame();
  /** There is a network in between: congestion control lives by when frames arrive. */
  readonly #isFar: boolean;
  #gone = false;
  readonly #askForGuest: () => void;
  readonly #context: Pick<FlowContext, 'own' | 'mappings'>;
  /** The link is down, and connections end then. */
  #cutAt: number = Number.POSITIVE_INFINITY;
  /** Flows opened since the batch began. */
  #opened = 0;

  /** The guest closes the link from here on. @throws DeviceError */
  constructor(
    services: EngineServices,
    spec: Omit<GuestSpec, 'device' | 'limits' | 'tunnel'>,
    { link, info, giveBack }: OpenLink,
  ) {
    super();
    this.#services = services;
    const { slab, rng, limits } = services;
    const own = new OwnAddresses(spec.addresses, spec.behavior);
    this.#link = link;
    this.#giveBack = giveBack;
    this.#behavior = spec.behavior;
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
      mappings: new AddressMappings(own, mappingsOf(spec)),
      egress,
      icmp,
      solicitor: new Solicitor(link, own, neighbors, egress, slab.view),
      policy: this.#policy,
      remoteForwards,
      behavior: spec.behavior,
      source4: spec.source4 === '' ? null : parseIpAddress(spec.source4),
      source6: spec.source6 === '' ? null : parseIpAddress(spec.source6),
      outboundInterface4: spec.outboundInterface,
      outboundInterface6: spec.outboundInterface6 ?? spec.outboundInterface,
      dnsEnabled: spec.dns,
      newFlowId: () => {
        this.#opened++;
        return services.newFlowId();
      },
      reports,
      denials,
    };
    this.#context = context;
    const automatic = link.isLocal ? 'none' : 'cubic';
    const congestion = spec.congestion === 'auto' ? automatic : spec.congestion;
    this.#isFar = congestion !== 'none';
    const flows = new GuestFlows(context, congestion, info, services.dnsServerPort, spec.silent);
    this.flows = flows;
    neighbors.onLearned = (address) => flows.onNeighbor(address);
    this.#reassembler = new Reassembler(services.stackScratch, limits);
    const { dhcp, dhcpv6, ra } = guestServices(context, spec, services.search);
    this.#dhcp = dhcp;
    this.#ra = ra;
    this.#ingress = new Ingress({
      slab,
      link,
      own,
      neighbors,
      reassembler: this.#reassembler,
      icmp,
      egress,
      dhcp: this.#dhcp,
      dhcpv6,
      ra: this.#ra,
      echoLimit: spec.behavior.echo === 'local' ? new RateLimit(ECHO_RATE, ECHO_BURST) : null,
      handler: flows,
      counters: this.counters,
      sharedMac: spec.behavior.sharedMac,
      silentNdp: spec.silent?.ndp ?? false,
    });
    const result = link.open(this);
    if (result < 0) throw new DeviceError('link', -result, `cannot watch the device: ${errnoText(result)}`);
    const { solicitor } = context;
    if (spec.behavior.askForGuest) solicitor.solicit(own.guest4);
    if (spec.behavior.askForGuest && spec.behavior.sharedNetwork) solicitor.solicit(own.guest6);
    this.#askForGuest = () => {
      solicitor.ask(own.guest4);
      if (own.ipv6) solicitor.ask(own.guest6);
    };
    link.flush();
    this.#schedule();
  }

  /** The control plane's answer to a question for a name. */
  onHostResolved(request: number, target: HostEnd | null, reason: string): void {
    this.#services.names.answer(request, target, reason);
  }

  /** Take a batch of frames. */
  onFrames(): void {
    const link = this.#link;
    const frame = this.#frame;
    const { clock, poller } = this.#services;
    const { batchFrames } = clock;
    const batchBytes = batchFrames * BATCH_FRAME_BYTES;
    let bytes = 0;
    this.#opened = 0;
    for (let index = 0; index < batchFrames && bytes < batchBytes; index++) {
      if (this.#opened >= BATCH_FLOWS) break;
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
    this.flows.settle();
    this.#schedule();
  }

  onMtu(): void {
    this.#dhcp?.changeMtu(this.#link.mtu);
    this.#ra?.changeMtu(this.#link.mtu);
  }

  onUnsent(frames: number): void {
    this.counters.add(Counter.TxErrors, frames);
  }

  onGone(reason: EndReason, text: string): void {
    this.close();
    this.#services.linkGone(reason, text);
  }

  onDown(reason: EndReason, text: string): void {
    this.#cutAt = this.#services.clock.nowMs + LINK_DOWN_MS;
    this.#schedule();
    this.#services.linkDown(reason, text);
  }

  onUp(peer: string): void {
    this.#cutAt = Number.POSITIVE_INFINITY;
    // Whoever has come may have other link addresses.
    this.#askForGuest();
    // What has waited for the link goes on at the end of the turn.
    this.#services.touched();
    this.#services.linkUp(peer);
  }

  onTimer(nowMs: number): void {
    if (this.#gone) return;
    this.#ingress.onTimeout(nowMs);
    if (nowMs >= this.#cutAt) {
      this.#cutAt = Number.POSITIVE_INFINITY;
      this.flows.tcp.cutAll();
    }
    this.#schedule();
  }

  /** End of a turn in which there was anything: what other events than frames left to be sent. */
  endTurn(): void {
    this.flows.tcp.giveWay();
    this.flows.tcp.settle();
    if (!this.#gone) this.#link.flush();
  }

  gauges(): Record<string, number> {
    return { ...this.flows.gauges(), ...this.#link.gauges?.() };
  }

  /** Flows and forwards are judged by this from now on. @throws RuleError or RangeError, and nothing has changed */
  setPolicy(spec: PolicySpec): void {
    this.#policy.set(spec);
  }

  /** The addresses of the host's network, which is the guest's too. @throws RangeError, and nothing has changed */
  setNetwork(plan: AddressPlan, mappings: readonly AddressMapping[]): void {
    const { own, mappings: standing } = this.#context;
    own.change(plan);
    standing.set(mappings);
    this.#dhcp?.changeAddresses(own);
    this.#ra?.changeAddresses(own, this.#services.clock.nowMs);
    this.#schedule();
  }

  /** Whether what becomes of flows is told. */
  tellFlows(isTold: boolean): void {
    this.#behavior.flowEvents = isTold;
  }

  /** What is opened or taken from now on is held to these; what is held already stays. */
  setLimits(limits: Partial<Limits>): void {
    Object.assign(this.#services.limits, limits);
  }

  /** Reset every flow to both sides and give everything back. */
  remove(): void {
    if (this.#gone) return;
    this.flows.cutAll();
    this.#link.flush();
    this.close();
  }

  /** The link is closed, and every flow ends with it (O-7). */
  close(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.flows.forwards.close();
    this.#services.timers.cancel(this);
    // Before the flows: what they still have to say to the guest, nobody hears.
    this.#link.close();
    this.#giveBack?.();
    this.flows.close();
    for (const teller of this.#tellers) teller.close();
    this.#services.descriptors.leave();
    this.#services.pages.leave();
  }

  #schedule(): void {
    this.deadline = Math.min(
      this.#reassembler.nextTimeoutMs(),
      this.#ra?.nextTimeoutMs() ?? Number.POSITIVE_INFINITY,
      this.#cutAt,
    );
    this.#services.timers.update(this);
  }
}

/** The gateway stands for the host's loopback, if so; what is configured goes first. */
function mappingsOf({
  mappings = [],
  behavior,
  addresses,
}: Pick<GuestSpec, 'mappings' | 'behavior' | 'addresses'>): AddressMapping[] {
  const { gateway4, ipv6, gateway6 } = addresses;
  if (!behavior.gatewayIsLoopback) return [...mappings];
  const loopback = [{ guest: gateway4, host: '127.0.0.1' }];
  if (ipv6) loopback.push({ guest: gateway6, host: '::1' });
  return [...mappings, ...loopback];
}
