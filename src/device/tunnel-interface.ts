/**
 * What the peers of a plain tunnel share that come to one address of ours: the UDP socket, and whose a datagram is. Each peer
 * is a guest with a link of its own.
 *
 * The format is that of the simplest of tunnels: an IP packet is the payload of a datagram. An empty one keeps mappings of NATs
 * alive.
 */
import type { AddressPlan } from '../config.ts';
import type { TunnelDevice } from '../device-spec.ts';
import type { IoHandler, Poller } from '../loop.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { PROTOCOL_UDP } from '../stack/wire/udp.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { OuterAddress } from '../wireguard/outer-address.ts';
import { BATCH_FRAMES, type LinkServices } from './device-link.ts';
import { OuterSocket } from './outer-socket.ts';
import { TUNNEL_MTU, TunnelLink } from './tunnel-link.ts';

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;

/** What an interface needs of the data plane, which is nobody's guest. */
export interface TunnelServices extends Pick<LinkServices, 'memory' | 'frames'> {
  readonly poller: Poller;
  readonly clock: { readonly nowMs: number };
  /** Which addresses are this host's. */
  readonly hostRoutes: { isLocal(address: IpAddress): boolean };
}

/** Datagrams that were not taken, by why, and what was not sent. */
export class TunnelCounters {
  /** Too short for an IP packet. */
  short = 0;
  /** Neither IPv4 nor IPv6. */
  badVersion = 0;
  /** Not as long as the packet inside says. */
  badLength = 0;
  /** Inner source of no peer. */
  notAllowed = 0;
  /** Of a peer that is elsewhere. */
  otherSender = 0;
  /** To our own end of the tunnel. */
  toItself = 0;
  /** Empty ones, which are as they should be. */
  keepalives = 0;
  /** Ours that the path had no room for. */
  tooLong = 0;
}

export class TunnelInterface implements IoHandler {
  waiting = false;
  readonly counters: TunnelCounters = new TunnelCounters();
  readonly #services: TunnelServices;
  readonly #socket: OuterSocket;
  readonly #token: number;
  readonly #mtu: number;
  readonly #links: TunnelLink[] = [];
  /** Links that have packets of the batch at hand. */
  readonly #touched: TunnelLink[] = [];
  readonly #from = new OuterAddress();
  readonly #source = new IpAddress();
  readonly #destination = new IpAddress();
  readonly #onEmpty: () => void;

  /** `onEmpty`: the last peer has left, and the interface is closed. @throws DeviceError */
  constructor(services: TunnelServices, { local, mtu }: TunnelDevice, onEmpty: () => void) {
    this.#services = services;
    this.#onEmpty = onEmpty;
    this.#mtu = mtu === 0 ? TUNNEL_MTU : mtu;
    this.#socket = new OuterSocket(services, {
      ...local,
      largest: this.#mtu,
      onTooLong: (to) => this.#tooLong(to),
    });
    this.#token = services.poller.add(this.#socket.fd, EPOLLIN, this, true);
  }

  get port(): number {
    return this.#socket.port;
  }

  gauges(): Record<string, number> {
    const gauges: Record<string, number> = { 'tunnel.unsent': this.#socket.unsent };
    for (const [name, count] of Object.entries(this.counters))
      gauges[`tunnel.${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`] = count;
    return gauges;
  }

  /** A link for one more peer. @throws RangeError */
  join(services: LinkServices, spec: TunnelDevice, plan: AddressPlan): TunnelLink {
    const link = new TunnelLink(services, this, spec, plan, this.#mtu);
    this.#links.push(link);
    return link;
  }

  /** A peer's link is closed. */
  leave(link: TunnelLink): void {
    const at = this.#links.indexOf(link);
    if (at < 0) return;
    this.#links.splice(at, 1);
    if (this.#links.length > 0) return;
    this.#services.poller.forget(this.#token);
    this.#socket.close();
    this.#onEmpty();
  }

  onIo(): void {
    const n = this.#socket.receive();
    if (n <= 0) return;
    const { frames, clock, poller } = this.#services;
    for (let i = 0; i < n; i++) {
      this.#socket.senderOf(i, this.#from);
      this.#take(frames.slot(i), this.#socket.lengthOf(i), clock.nowMs);
    }
    for (let i = 0; i < this.#touched.length; i++) this.#touched[i]!.deliver();
    this.#touched.length = 0;
    if (n === BATCH_FRAMES) poller.ready(this);
  }

  /** Where the next packet goes. */
  get slot(): number {
    return this.#socket.slot;
  }

  push(length: number, to: OuterAddress): void {
    this.#socket.push(length, to);
  }

  /** Have whatever is on the way there remember where we are. */
  sendEmpty(to: OuterAddress): void {
    this.#socket.send(this.#services.frames.scratch, 0, to);
  }

  flush(): void {
    this.#socket.flush();
  }

  #take(at: number, length: number, nowMs: number): void {
    if (length === 0) {
      this.counters.keepalives++;
      for (const link of this.#links) if (link.isAt(this.#from)) link.heard(nowMs);
      return;
    }
    if (!this.#isPacket(at, length)) return;
    const link = this.#linkOf(nowMs);
    if (link === null) return;
    link.heard(nowMs);
    if (this.#isToItself(at, length, link)) this.counters.toItself++;
    else if (link.push(at, length)) this.#touched.push(link);
  }

  /** Whether it is an IP packet and nothing else; its addresses are in `#source` and `#destination` then. */
  #isPacket(at: number, length: number): boolean {
    const { counters } = this;
    const { view } = this.#services.frames.slab;
    const version = view.getUint8(at) >> 4;
    if (version !== 4 && version !== 6) {
      counters.badVersion++;
      return false;
    }
    if (length < (version === 4 ? IPV4_HEADER : IPV6_HEADER)) {
      counters.short++;
      return false;
    }
    if (version === 4) {
      this.#source.readV4(view, at + 12);
      this.#destination.readV4(view, at + 16);
    } else {
      this.#source.readV6(view, at + 8);
      this.#destination.readV6(view, at + 24);
    }
    const total = version === 4 ? view.getUint16(at + 2) : view.getUint16(at + 4) + IPV6_HEADER;
    if (total !== length || (version === 6 && this.#source.isV4)) {
      counters.badLength++;
      return false;
    }
    return true;
  }

  /** Whose the packet from `#from` is, by that and its source; null: nobody's. */
  #linkOf(nowMs: number): TunnelLink | null {
    const source = this.#source;
    const links = this.#links;
    for (let i = 0; i < links.length; i++) {
      const link = links[i]!;
      if (link.isAt(this.#from) && link.has(source)) return link;
    }
    let isKnown = false;
    for (let i = 0; i < links.length; i++) {
      const link = links[i]!;
      if (!link.has(source)) continue;
      isKnown = true;
      if (!link.isFree(nowMs)) continue;
      link.settle(this.#from);
      return link;
    }
    if (isKnown) this.counters.otherSender++;
    else this.counters.notAllowed++;
    return null;
  }

  /** A packet that came out of the tunnel must not be sent into it: to the port that we listen on. */
  #isToItself(at: number, length: number, link: TunnelLink): boolean {
    const { view } = this.#services.frames.slab;
    const isV4 = this.#source.isV4;
    const protocol = view.getUint8(at + (isV4 ? 9 : 6));
    const header = isV4 ? (view.getUint8(at) & 15) * 4 : IPV6_HEADER;
    if (protocol !== PROTOCOL_UDP || length < header + 4) return false;
    if (view.getUint16(at + header + 2) !== this.port) return false;
    const to = this.#destination;
    return to.isLoopback || link.isGateway(to) || this.#services.hostRoutes.isLocal(to);
  }

  #tooLong(to: OuterAddress): void {
    this.counters.tooLong++;
    for (const link of this.#links) if (link.isAt(to)) link.onTooLong();
  }
}
