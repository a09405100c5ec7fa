/** A peer of WireGuard as a `Link` of bare IP packets. The socket and the end that opens them it shares with other peers. */
import type { TxFrame } from '../stack/link/link.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { EHOSTUNREACH, EMSGSIZE } from '../sys/errno.ts';
import { DATA_PACKET_AT } from '../wireguard/message.ts';
import type { OuterAddress } from '../wireguard/outer-address.ts';
import type { Peer, PeerOwner } from '../wireguard/peer.ts';
import type { LinkOwner, LinkServices, RxFrame } from './device-link.ts';
import { gather, InnerPackets } from './inner-packets.ts';
import { PlainLink } from './plain-link.ts';
import type { WireGuardInterface } from './wireguard-interface.ts';

const IPV4_DESTINATION_AT = 16;
const IPV6_DESTINATION_AT = 24;

export class WireGuardLink extends PlainLink implements PeerOwner {
  readonly full = false;
  readonly #services: LinkServices;
  readonly #interface: WireGuardInterface;
  readonly #peer: Peer;
  #owner: LinkOwner | null = null;
  readonly #packets = new InnerPackets();
  readonly #destination = new IpAddress();

  constructor(services: LinkServices, wireguard: WireGuardInterface, peer: Peer, mtu: number) {
    super({ medium: 'ip', mtu });
    this.#services = services;
    this.#interface = wireguard;
    this.#peer = peer;
    peer.owner = this;
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    return 0;
  }

  onUp(): void {
    this.#services.onPeer({ type: 'peer.up', endpoint: this.#peer.endpoint.toString() });
  }

  onDown(reason: string): void {
    this.#services.onPeer({ type: 'peer.down', reason });
  }

  onRoamed(endpoint: OuterAddress): void {
    this.#services.onPeer({ type: 'peer.roamed', endpoint: endpoint.toString() });
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
    const { slab } = this.#services.frames;
    const length = frame.headLength + frame.payloadLength;
    if (length > this.mtu) return -EMSGSIZE;
    const at = this.#interface.slot + DATA_PACKET_AT;
    gather(slab, frame, at);
    const { view } = slab;
    if (view.getUint8(at) >> 4 === 4) this.#destination.readV4(view, at + IPV4_DESTINATION_AT);
    else this.#destination.readV6(view, at + IPV6_DESTINATION_AT);
    if (!this.#interface.transmit(this.#peer, this.#destination, at, length)) return -EHOSTUNREACH;
    this.#services.touched();
    return length;
  }

  /** What is counted of the interface is the same for all of its peers. */
  gauges(): Record<string, number> {
    const { rxBytes, txBytes, lastHandshakeMs, isUp } = this.#peer;
    return {
      'peer.up': isUp ? 1 : 0,
      'peer.rx_bytes': rxBytes,
      'peer.tx_bytes': txBytes,
      'peer.last_handshake_seconds': Math.floor(lastHandshakeMs / 1000),
      ...this.#interface.gauges(),
    };
  }

  flush(): void {
    this.#interface.flush();
  }

  close(): void {
    if (this.#peer.owner === null) return;
    this.#peer.owner = null;
    this.#owner = null;
    this.#packets.clear();
    this.#interface.leave(this.#peer);
  }
}
