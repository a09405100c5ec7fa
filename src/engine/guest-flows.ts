/** What a guest's packets become on the host: its flows of every kind, and its forwards. */
import type { Congestion, Silence } from '../config.ts';
import type { LinkInfo } from '../device/open-link.ts';
import { DnsFlows } from '../forward/dns/flows.ts';
import type { FlowContext } from '../forward/flow/context.ts';
import type { ListedFlow } from '../forward/flow/info.ts';
import { PingFlows } from '../forward/ping/flows.ts';
import { Forwards } from '../forward/publish/forwards.ts';
import { TcpFlows } from '../forward/tcp/flows.ts';
import { WindowShare } from '../forward/tcp/window-share.ts';
import { UdpFlows } from '../forward/udp/flows.ts';
import type { Counters } from '../stack/counters.ts';
import type { IngressHandler } from '../stack/link/ingress-parts.ts';
import type { Packet } from '../stack/link/packet.ts';
import type { CongestionControl } from '../stack/tcp/congestion/congestion.ts';
import { Cubic } from '../stack/tcp/congestion/cubic.ts';
import { NewReno } from '../stack/tcp/congestion/new-reno.ts';
import { noCongestionControl } from '../stack/tcp/congestion/none.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import type { TcpHeader } from '../stack/wire/tcp.ts';
import type { UdpHeader } from '../stack/wire/udp.ts';

/** Of the device's queue, how much one flow's window may fill (T-24); several flows share it. */
const QUEUE_SHARE = 4;

const congestionControls: Record<Exclude<Congestion, 'auto'>, (mss: number) => CongestionControl> = {
  none: () => noCongestionControl,
  newReno: (mss) => new NewReno(mss),
  cubic: (mss) => new Cubic(mss),
};

const nothingSilent: Silence = { tcp: false, udp: false, icmp: false, ndp: false };

export class GuestFlows implements IngressHandler {
  readonly tcp: TcpFlows;
  readonly udp: UdpFlows;
  readonly ping: PingFlows;
  readonly dns: DnsFlows;
  readonly forwards: Forwards;
  readonly #silent: Silence;
  readonly #counters: Counters;

  /** `dnsServerPort`: where resolvers are asked, if not at DNS's own port. */
  constructor(
    context: FlowContext,
    congestion: Exclude<Congestion, 'auto'>,
    { txQueueLen, mtu }: Pick<LinkInfo, 'txQueueLen' | 'mtu'>,
    dnsServerPort?: number,
    silent: Silence = nothingSilent,
  ) {
    this.#silent = silent;
    this.#counters = context.counters;
    const { limits } = context;
    const far = congestion !== 'none';
    const queueBytes = (txQueueLen * mtu) / QUEUE_SHARE;
    const window = far
      ? limits.tcpBufferPerFarFlow
      : Math.max(65536, Math.min(limits.tcpBufferPerFlow, queueBytes));
    const sendQueue = far ? limits.tcpBufferPerFarFlow : limits.tcpBufferPerFlow;
    const share = far ? null : new WindowShare(window);
    this.tcp = new TcpFlows(context, window, share, sendQueue, congestionControls[congestion]);
    this.dns = new DnsFlows(context, dnsServerPort);
    this.tcp.dialDns = () => this.dns.dial();
    this.udp = new UdpFlows(context, this.dns);
    this.ping = new PingFlows(context);
    this.forwards = new Forwards(
      context,
      (id, forward, aim) => this.tcp.locals.listen(id, forward, aim),
      (id, forward, aim) => this.udp.listen(id, forward, aim),
      (id, forward, done) =>
        (forward.protocol === 'tcp' ? this.tcp.locals : this.udp).listenInside(id, forward, done),
    );
  }

  onTcp(p: Packet, h: TcpHeader): void {
    if (this.#isSilent(this.#silent.tcp)) return;
    this.tcp.onTcp(p, h);
  }

  onUdp(p: Packet, h: UdpHeader): void {
    if (this.#isSilent(this.#silent.udp)) return;
    this.udp.onUdp(p, h);
  }

  onEcho(p: Packet): void {
    if (this.#isSilent(this.#silent.icmp)) return;
    this.ping.onEcho(p);
  }

  #isSilent(silent: boolean): boolean {
    if (silent) this.#counters.drop(DropReason.PolicyDeny);
    return silent;
  }

  onUnreachable(p: Packet, code: number): boolean {
    return this.tcp.locals.onUnreachable(p, code) || this.udp.onUnreachable(p, code);
  }

  onNeighbor(address: IpAddress): void {
    this.tcp.locals.onNeighbor(address);
  }

  /** The batch of frames is over: what was gathered of it leaves. */
  settle(): void {
    this.udp.flush();
    this.dns.flush();
    this.tcp.settle();
  }

  /** Add each flow to `out`. */
  list(out: ListedFlow[]): void {
    this.tcp.listFlows(out);
    this.udp.listFlows(out);
    this.ping.listFlows(out);
  }

  /** Cut a flow; false: there is none with that number. */
  cut(id: number): boolean {
    return this.tcp.closeFlow(id) || this.udp.closeFlow(id) || this.ping.closeFlow(id);
  }

  /** End what the policy does not allow any more; datagrams are judged one by one in any case. */
  revoke(): void {
    this.tcp.revoke();
  }

  /** Reset every connection to both sides, as long as the guest can hear it. */
  cutAll(): void {
    this.forwards.close();
    this.tcp.cutAll();
    this.tcp.spliced.close();
  }

  /** End without a word to the guest. */
  close(): void {
    this.tcp.close();
    this.udp.close();
    this.ping.close();
    this.dns.close();
  }

  get count(): number {
    return this.tcp.size + this.tcp.spliced.size + this.tcp.timeWaitSize + this.udp.size + this.ping.size;
  }

  gauges(): Record<string, number> {
    return {
      'tcp.flows': this.tcp.size,
      'tcp.spliced': this.tcp.spliced.size,
      'tcp.dialing': this.tcp.dialing,
      'tcp.half_open': this.tcp.halfOpenCount,
      'tcp.time_wait': this.tcp.timeWaitSize,
      'udp.flows': this.udp.size,
      'ping.flows': this.ping.size,
      'dns.outstanding': this.dns.size,
    };
  }
}
