/**
 * What the peers of one WireGuard interface share: the UDP socket, and the end of the protocol that seals and opens. Each peer
 * is a guest with a link of its own.
 */
import { randomBytes } from 'node:crypto';
import type { WireGuardDevice } from '../device-spec.ts';
import type { IoHandler, Poller, Timers } from '../loop.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { evpCiphers } from '../sys/chacha20-poly1305.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { nodeCiphers } from '../wireguard/node-cipher.ts';
import { NO_PRESHARED_KEY } from '../wireguard/noise.ts';
import { OuterAddress } from '../wireguard/outer-address.ts';
import type { Peer } from '../wireguard/peer.ts';
import { PACKET_ROOM, WireGuard } from '../wireguard/wireguard.ts';
import { BATCH_FRAMES, type LinkServices } from './device-link.ts';
import { OuterSocket } from './outer-socket.ts';
import { WireGuardLink } from './wireguard-link.ts';

/** In front of a packet, behind it, and for its padding. */
const AROUND_PACKET = 64;

/** What an interface needs of the data plane, which is nobody's guest. */
export interface WireGuardServices extends Pick<LinkServices, 'memory' | 'frames'> {
  readonly timers: Timers;
  readonly poller: Poller;
  readonly clock: { readonly nowMs: number };
}

export class WireGuardInterface implements IoHandler {
  waiting = false;
  readonly #services: WireGuardServices;
  readonly #wireguard: WireGuard;
  readonly #socket: OuterSocket;
  readonly #token: number;
  readonly #mtu: number;
  readonly #links = new Map<Peer, WireGuardLink>();
  /** Links that have packets of the batch at hand. */
  readonly #touched: WireGuardLink[] = [];
  readonly #from = new OuterAddress();
  /** Messages go to the queue of what is sent together, rather than out at once. */
  #slot = -1;
  readonly #onEmpty: () => void;

  /** `onEmpty`: the last peer has left, and the interface is closed. @throws DeviceError, RangeError */
  constructor(
    services: WireGuardServices,
    { privateKey, listenPort, mtu }: WireGuardDevice,
    onEmpty: () => void,
  ) {
    this.#services = services;
    this.#onEmpty = onEmpty;
    this.#mtu = mtu;
    const { memory, frames, timers, poller } = services;
    const { slab } = frames;
    this.#socket = new OuterSocket(services, { port: listenPort, largest: mtu + AROUND_PACKET });
    this.#wireguard = new WireGuard(privateKey, {
      ...{ bytes: slab.bytes, view: slab.view, timers, mtu },
      scratch: slab.region(PACKET_ROOM + AROUND_PACKET),
      newCipher: evpCiphers(memory) ?? nodeCiphers(slab.bytes),
      random: (size) => Uint8Array.from(randomBytes(size)),
      unixMs: () => Date.now(),
      send: (at, length, to) => this.#send(at, length, to),
    });
    this.#token = poller.add(this.#socket.fd, EPOLLIN, this, true);
  }

  get port(): number {
    return this.#socket.port;
  }

  gauges(): Record<string, number> {
    const gauges: Record<string, number> = { 'wireguard.unsent': this.#socket.unsent };
    for (const [name, count] of Object.entries(this.#wireguard.counters))
      gauges[`wireguard.${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`] = count;
    return gauges;
  }

  /** A link for one more peer. @throws RangeError */
  join(services: LinkServices, { peer: config }: WireGuardDevice): WireGuardLink {
    const allowed = config.allowedIps.map(({ address, bits }) => ({
      address: parseIpAddress(address),
      bits,
    }));
    const { publicKey, presharedKey, keepaliveSeconds, endpoint } = config;
    const peer = this.#wireguard.addPeer(
      {
        publicKey,
        presharedKey: presharedKey ?? NO_PRESHARED_KEY.slice(),
        persistentKeepaliveMs: keepaliveSeconds * 1000,
      },
      allowed,
    );
    if (endpoint !== null) {
      const outer = new OuterAddress();
      outer.address.copyFrom(parseIpAddress(endpoint.address));
      outer.port = endpoint.port;
      peer.setEndpoint(outer);
    }
    const link = new WireGuardLink(services, this, peer, this.#mtu);
    this.#links.set(peer, link);
    peer.start(this.#services.clock.nowMs);
    return link;
  }

  /** A peer's link is closed. */
  leave(peer: Peer): void {
    this.#links.delete(peer);
    this.#wireguard.removePeer(peer);
    if (this.#links.size > 0) return;
    this.#services.poller.forget(this.#token);
    this.#wireguard.close();
    this.#socket.close();
    this.#onEmpty();
  }

  onIo(): void {
    const n = this.#socket.receive();
    if (n <= 0) return;
    const { frames, clock, poller } = this.#services;
    for (let i = 0; i < n; i++) {
      this.#socket.senderOf(i, this.#from);
      const peer = this.#wireguard.receive(frames.slot(i), this.#socket.lengthOf(i), this.#from, clock.nowMs);
      const link = peer === null ? undefined : this.#links.get(peer);
      if (link === undefined) continue;
      if (link.push(this.#wireguard.packetAt, this.#wireguard.packetLength)) this.#touched.push(link);
    }
    for (let i = 0; i < this.#touched.length; i++) this.#touched[i]!.deliver();
    this.#touched.length = 0;
    if (n === BATCH_FRAMES) poller.ready(this);
  }

  /** Where the next message of a packet is made: the packet itself comes `DATA_PACKET_AT` bytes behind that. */
  get slot(): number {
    return this.#socket.slot;
  }

  /** Seal the packet that was put into the slot. False: nobody is there for it. */
  transmit(peer: Peer, destination: IpAddress, at: number, length: number): boolean {
    if (!this.#wireguard.isAllowed(peer, destination)) return false;
    this.#slot = this.#socket.slot;
    const taken = peer.transmit(at, length, this.#services.clock.nowMs);
    this.#slot = -1;
    return taken;
  }

  flush(): void {
    this.#socket.flush();
  }

  #send(at: number, length: number, to: OuterAddress): void {
    // A handshake message that a packet has led to lies elsewhere.
    if (at === this.#slot) this.#socket.push(length, to);
    else this.#socket.send(at, length, to);
  }
}
