/**
 * Asking who has an address on the guest's link (ARP, RFC 826; neighbour solicitation, RFC 4861 §7.2.2). Frames to an
 * address that never spoke go out as broadcasts, which a guest's TCP does not take (RFC 1122 §3.3.6); so whoever speaks
 * first to the guest asks. The answer is learned like anything else that the guest sends.
 */

import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { Egress } from '../link/egress.ts';
import type { Link } from '../link/link.ts';
import { IpAddress } from '../wire/address.ts';
import { ARP_REQUEST, ArpPacket, emitArp } from '../wire/arp.ts';
import { ETHERTYPE_ARP } from '../wire/ethernet.ts';
import { icmp6Checksum, setIcmpChecksum } from '../wire/icmp.ts';
import { emitNeighborSolicitation } from '../wire/ndp.ts';
import { Neighbor, type NeighborTable } from './cache.ts';

export class Solicitor {
  readonly #link: Link;
  readonly #own: OwnAddresses;
  readonly #neighbors: NeighborTable;
  readonly #egress: Egress;
  readonly #slabView: DataView;
  readonly #arp = new ArpPacket();
  readonly #group = new IpAddress();
  readonly #neighbor = new Neighbor();

  constructor(link: Link, own: OwnAddresses, neighbors: NeighborTable, egress: Egress, view: DataView) {
    this.#link = link;
    this.#own = own;
    this.#neighbors = neighbors;
    this.#egress = egress;
    this.#slabView = view;
  }

  /**
   * Ask for the link address of `target`, unless it is known or there is no such thing on this link. For an address that
   * is not on the link the guest's planned ones are asked for as well.
   */
  solicit(target: IpAddress): void {
    const own = this.#own;
    if (this.#link.medium !== 'ethernet') return;
    if (this.#neighbors.route(target, this.#neighbor)) return;
    this.ask(target);
    if (own.onLink(target)) return;
    this.ask(own.guestFor(target));
    if (!target.isV4) this.ask(own.guest4);
  }

  /** Ask, known or not. */
  ask(target: IpAddress): void {
    if (this.#link.medium !== 'ethernet' || target.isUnspecified) return;
    if (target.isV4) this.#sendArp(target);
    else this.#sendSolicitation(target);
  }

  #sendArp(target: IpAddress): void {
    const own = this.#own;
    const arp = this.#arp;
    arp.operation = ARP_REQUEST;
    arp.senderHi = own.macHi;
    arp.senderLo = own.macLo;
    arp.senderIp = own.gateway4.w3;
    arp.targetHi = 0;
    arp.targetLo = 0;
    arp.targetIp = target.w3;
    const length = emitArp(this.#slabView, this.#egress.transport, arp);
    this.#egress.sendLinkLayer(0xffff, 0xffffffff, ETHERTYPE_ARP, length);
  }

  #sendSolicitation(target: IpAddress): void {
    const own = this.#own;
    const egress = this.#egress;
    const view = this.#slabView;
    // The solicited-node group (RFC 4291 §2.7.1).
    const group = this.#group.set(0xff020000, 0, 1, (0xff000000 | (target.w3 & 0xffffff)) >>> 0);
    const source = target.isLinkLocal ? own.linkLocal6 : own.speaker(false);
    const at = egress.transport;
    const length = emitNeighborSolicitation(view, at, target, own.macHi, own.macLo);
    setIcmpChecksum(view, at, icmp6Checksum(view, at, length, source, group));
    egress.sendNdp(source, group, length);
  }
}
