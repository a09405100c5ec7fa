/**
 * A peer of a plain tunnel as a `Link` of bare IP packets: one a datagram, with nothing added. The socket it shares with the
 * other peers at the same address of ours.
 *
 * Nothing shows who has sent a datagram. Where the peer is, is said beforehand; or it is whoever has spoken for its addresses
 * first, and nobody else before that was silent for `HOLD_MS`. Never whoever was the last to send.
 *
 * Datagrams are not to be cut on their way: `mtu` is what the path has room for, and follows it (RFC 1191).
 */
import type { AddressPlan, Endpoint } from '../config.ts';
import type { TunnelDevice } from '../device-spec.ts';
import { TimerNode } from '../loop.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { EHOSTUNREACH, EMSGSIZE } from '../sys/errno.ts';
import { AllowedIps } from '../wireguard/allowed-ips.ts';
import { OuterAddress } from '../wireguard/outer-address.ts';
import type { DeviceLink, LinkOwner, LinkServices, RxFrame } from './device-link.ts';
import { gather, InnerPackets } from './inner-packets.ts';
import { pathPayload } from './path-mtu.ts';
import type { TunnelInterface } from './tunnel-interface.ts';

const IPV4_DESTINATION_AT = 16;
const IPV6_DESTINATION_AT = 24;
/** What a tunnel has room for on all but odd paths. */
export const TUNNEL_MTU = 1400;
/** Whatever a datagram can hold is taken: others have other MTUs. */
const LONGEST = 65_535;
/** Less is no path, but somebody who says so: 576 bytes less the outer headers (RFC 791). */
const MTU_LEAST = 528;
/** As long as the kernel remembers that a path is narrow (ip-sysctl: mtu_expires). */
const PATH_MS = 600_000;
/** A peer that is silent for so long is down, and may come from elsewhere. */
export const HOLD_MS = 60_000;

export class TunnelLink extends TimerNode implements DeviceLink {
  readonly medium = 'ip';
  mtu: number;
  readonly mru: number = LONGEST;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly full = false;
  readonly isLocal = false;
  readonly #services: LinkServices;
  readonly #interface: TunnelInterface;
  readonly #widest: number;
  readonly #keepaliveMs: number;
  readonly #prefixes = new AllowedIps<TunnelLink>();
  readonly #lastAllowed = new IpAddress();
  readonly #gateways: readonly IpAddress[];
  readonly #endpoint = new OuterAddress();
  readonly #isFixed: boolean;
  readonly #packets = new InnerPackets();
  readonly #destination = new IpAddress();
  #owner: LinkOwner | null = null;
  #isUp = false;
  #heardMs = Number.NEGATIVE_INFINITY;
  #sentMs = Number.NEGATIVE_INFINITY;
  /** The path is looked at again then. */
  #pathMs: number = Number.POSITIVE_INFINITY;

  /** `widest`: MTU that the interface has room for. @throws RangeError */
  constructor(
    services: LinkServices,
    tunnel: TunnelInterface,
    spec: TunnelDevice,
    plan: AddressPlan,
    widest: number,
  ) {
    super();
    this.#services = services;
    this.#interface = tunnel;
    const { mtu, prefixes, remote, keepaliveSeconds } = spec;
    this.#widest = Math.min(mtu === 0 ? TUNNEL_MTU : mtu, widest);
    this.mtu = this.#widest;
    this.#keepaliveMs = keepaliveSeconds * 1000;
    for (const { address, bits } of prefixes)
      this.#prefixes.add({ address: parseIpAddress(address), bits }, this);
    const gateways = [plan.gateway4, ...(plan.ipv6 ? [plan.gateway6] : [])];
    this.#gateways = gateways.map(parseIpAddress);
    this.#isFixed = remote !== null;
    if (remote !== null) this.#goTo(remote);
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    if (this.#isFixed) this.#followPath();
    this.#schedule();
    return 0;
  }

  /** Whether `address` is an inner one of the peer's. */
  has(address: IpAddress): boolean {
    // Nobody's address is what the last one is at first.
    if (address.isUnspecified) return false;
    if (address.equals(this.#lastAllowed)) return true;
    if (this.#prefixes.find(address) === null) return false;
    this.#lastAllowed.copyFrom(address);
    return true;
  }

  /** Whether `address` stands for this host. */
  isGateway(address: IpAddress): boolean {
    for (const gateway of this.#gateways) if (gateway.equals(address)) return true;
    return false;
  }

  isAt(place: OuterAddress): boolean {
    return this.#endpoint.equals(place);
  }

  /** The peer may come from anywhere. */
  isFree(nowMs: number): boolean {
    return !this.#isFixed && nowMs - this.#heardMs >= HOLD_MS;
  }

  /** It has come from `place`. */
  settle(place: OuterAddress): void {
    const hasMoved = this.#isUp;
    this.#endpoint.copyFrom(place);
    this.#followPath();
    if (hasMoved) this.#services.onPeer({ type: 'peer.roamed', endpoint: place.toString() });
  }

  /** Something of the peer's has come, from where it is. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
    if (this.#isUp) return;
    this.#isUp = true;
    this.#services.onPeer({ type: 'peer.up', endpoint: this.#endpoint.toString() });
    this.#schedule();
  }

  /** A packet of the peer's has come; whether it is the first of the batch. */
  push(at: number, length: number): boolean {
    return this.#packets.push(at, length);
  }

  /** The batch is whole: have it taken. */
  deliver(): void {
    this.#packets.deliver(this.#owner);
  }

  receive(_index: number, frame: RxFrame): number {
    return this.#packets.take(frame);
  }

  transmit(frame: TxFrame): number {
    const length = frame.headLength + frame.payloadLength;
    if (this.#endpoint.port === 0) return -EHOSTUNREACH;
    if (length > this.mtu) return -EMSGSIZE;
    const { slab } = this.#services.frames;
    const at = this.#interface.slot;
    gather(slab, frame, at);
    const { view } = slab;
    if (view.getUint8(at) >> 4 === 4) this.#destination.readV4(view, at + IPV4_DESTINATION_AT);
    else this.#destination.readV6(view, at + IPV6_DESTINATION_AT);
    if (!this.has(this.#destination)) return -EHOSTUNREACH;
    this.#interface.push(length, this.#endpoint);
    this.#sentMs = this.#services.clock.nowMs;
    this.#services.touched();
    return length;
  }

  /** A datagram was too long for the path, or may have been. */
  onTooLong(): void {
    this.#followPath();
    this.#schedule();
  }

  onTimer(nowMs: number): void {
    if (this.#isUp && nowMs - this.#heardMs >= HOLD_MS) {
      this.#isUp = false;
      this.#services.onPeer({ type: 'peer.down', reason: `nothing was heard for ${HOLD_MS / 1000} s` });
    }
    if (nowMs >= this.#pathMs) this.#followPath();
    if (nowMs >= this.#keepaliveDue()) {
      this.#sentMs = nowMs;
      this.#interface.sendEmpty(this.#endpoint);
    }
    this.#schedule();
  }

  /** What is counted of the interface is the same for all of its peers. */
  gauges(): Record<string, number> {
    return { 'peer.up': this.#isUp ? 1 : 0, 'tunnel.mtu': this.mtu, ...this.#interface.gauges() };
  }

  /** Of the path, which is followed elsewhere. */
  refreshMtu(): void {
    return;
  }

  flush(): void {
    this.#interface.flush();
  }

  close(): void {
    this.#owner = null;
    this.#services.timers.cancel(this);
    this.#packets.clear();
    this.#interface.leave(this);
  }

  #goTo({ address, port }: Endpoint): void {
    this.#endpoint.address.copyFrom(parseIpAddress(address));
    this.#endpoint.port = port;
  }

  #followPath(): void {
    const { memory, frames, clock, log } = this.#services;
    const room = pathPayload(memory, frames.scratch, this.#endpoint);
    this.#pathMs = clock.nowMs + PATH_MS;
    // Where there is no way there, there may be one later.
    const mtu = room < 0 ? this.#widest : Math.max(MTU_LEAST, Math.min(this.#widest, room));
    if (mtu === this.mtu) return;
    this.mtu = mtu;
    log('info', `the path to ${this.#endpoint} has room for packets of ${mtu} bytes`);
    this.#owner?.onMtu();
  }

  #keepaliveDue(): number {
    if (this.#keepaliveMs === 0 || this.#endpoint.port === 0) return Number.POSITIVE_INFINITY;
    return this.#sentMs + this.#keepaliveMs;
  }

  #schedule(): void {
    const silence = this.#isUp ? this.#heardMs + HOLD_MS : Number.POSITIVE_INFINITY;
    this.deadline = Math.min(silence, this.#pathMs, this.#keepaliveDue());
    this.#services.timers.update(this);
  }
}
