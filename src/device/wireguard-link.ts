/** A peer of WireGuard as a `Link` of bare IP packets. The socket and the end that opens them it shares with other peers. */

import type { TxFrame } from '../stack/link/link.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { EHOSTUNREACH, EMSGSIZE } from '../sys/errno.ts';
import { DATA_PACKET_AT } from '../wireguard/message.ts';
import type { Peer } from '../wireguard/peer.ts';
import {
  BATCH_FRAMES,
  type DeviceLink,
  type LinkOwner,
  type LinkServices,
  type RxFrame,
} from './device-link.ts';
import type { WireGuardInterface } from './wireguard-interface.ts';

const IPV4_DESTINATION_AT = 16;
const IPV6_DESTINATION_AT = 24;

export class WireGuardLink implements DeviceLink {
  readonly medium = 'ip';
  readonly mtu: number;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly full = false;
  readonly isLocal = false;
  readonly #services: LinkServices;
  readonly #interface: WireGuardInterface;
  readonly #peer: Peer;
  #owner: LinkOwner | null = null;
  /** Packets of the batch at hand, and how many of them were taken. */
  readonly #offsets = new Int32Array(BATCH_FRAMES);
  readonly #lengths = new Int32Array(BATCH_FRAMES);
  #count = 0;
  #taken = 0;
  readonly #destination = new IpAddress();

  constructor(services: LinkServices, wireguard: WireGuardInterface, peer: Peer, mtu: number) {
    this.#services = services;
    this.#interface = wireguard;
    this.#peer = peer;
    this.mtu = mtu;
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    return 0;
  }

  /** A packet of the peer's has come; whether it is the first of the batch. */
  push(at: number, length: number): boolean {
    if (this.#owner === null) return false;
    this.#offsets[this.#count] = at;
    this.#lengths[this.#count] = length;
    return this.#count++ === 0;
  }

  /** The batch is whole: have it taken. */
  deliver(): void {
    // The guest may take fewer at a time; what is left of a batch is overwritten by the next.
    while (this.#taken < this.#count && this.#owner !== null) {
      const before = this.#taken;
      this.#owner.onFrames();
      if (this.#taken === before) break;
    }
    this.#count = 0;
    this.#taken = 0;
  }

  receive(_index: number, frame: RxFrame): number {
    if (this.#taken === this.#count) return 0;
    frame.offset = this.#offsets[this.#taken]!;
    frame.length = this.#lengths[this.#taken]!;
    frame.offload.flags = 0;
    frame.offload.gsoType = 0;
    this.#taken++;
    return 1;
  }

  transmit(frame: TxFrame): number {
    const { slab } = this.#services.frames;
    const { headOffset, headLength, parts, payloadLength } = frame;
    const length = headLength + payloadLength;
    if (length > this.mtu) return -EMSGSIZE;
    const at = this.#interface.slot + DATA_PACKET_AT;
    slab.bytes.copyWithin(at, headOffset, headOffset + headLength);
    let end = at + headLength;
    for (let i = 0; i < parts.count; i++) {
      const from = parts.offset[i] as number;
      const size = parts.length[i] as number;
      slab.bytes.copyWithin(end, from, from + size);
      end += size;
    }
    const { view } = slab;
    if (view.getUint8(at) >> 4 === 4) this.#destination.readV4(view, at + IPV4_DESTINATION_AT);
    else this.#destination.readV6(view, at + IPV6_DESTINATION_AT);
    if (!this.#interface.transmit(this.#peer, this.#destination, at, length)) return -EHOSTUNREACH;
    this.#services.touched();
    return length;
  }

  refreshMtu(): void {
    return;
  }

  flush(): void {
    this.#interface.flush();
  }

  close(): void {
    if (this.#owner === null) return;
    this.#owner = null;
    this.#count = 0;
    this.#interface.leave(this.#peer);
  }
}
