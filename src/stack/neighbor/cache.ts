/**
 * Neighbours on the guest's link: which MAC address belongs to which IP address, and our answers to those who ask for
 * ours. RFC 826 (ARP), RFC 5227 (address probes), RFC 4861 §7.2 (neighbour solicitation), RFC 4862 §5.4 (duplicate
 * address detection).
 *
 * We answer for the addresses we own and those of remote forwards; where the front end wants it
 * (`GuestBehavior.proxyNeighbors`), for every other one too that nobody on the link has. A guest that probes whether an
 * address is free is never told that it is taken, unless it is ours. The table learns from what the guest sends, without
 * a request of ours; that is safe because it never says anything about our own addresses and holds only addresses that
 * can be on the link.
 *
 * Left out on purpose: neighbour unreachability detection (there is one link, and frames to a guest that is gone
 * disturb nobody).
 */
import { SlotList } from '../buffer/slot-list.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import { IpAddress } from '../wire/address.ts';
import { ARP_REPLY, ARP_REQUEST, ArpPacket, emitArp } from '../wire/arp.ts';
import { DropReason } from '../wire/drop-reason.ts';
import { isGroupMac } from '../wire/ethernet.ts';
import { icmp6Checksum, setIcmpChecksum } from '../wire/icmp.ts';
import type { Ipv6Header } from '../wire/ipv6.ts';
import {
  emitNeighborAdvertisement,
  ND_NA_OVERRIDE,
  ND_NA_ROUTER,
  ND_NA_SOLICITED,
  ND_NEIGHBOR_SOLICITATION,
  NdpMessage,
  parseNdp,
} from '../wire/ndp.ts';

/** What `lookup` finds. */
export class Neighbor {
  macHi = 0;
  macLo = 0;
}

/**
 * IP address → MAC address, at most `max` entries. Beyond that the one not heard of for longest gives way, but never
 * that of the guest's planned addresses: no flood of made-up neighbours separates us from the guest.
 */
export class NeighborTable {
  readonly #own: OwnAddresses;
  readonly #max: number;
  /** Four words per entry. */
  readonly #words: Uint32Array;
  readonly #macHi: Uint16Array;
  readonly #macLo: Uint32Array;
  readonly #buckets: Int32Array;
  readonly #chain: Int32Array;
  readonly #byAge: SlotList;
  readonly #known = new Neighbor();
  /** Told of an address to which the way was not known before. */
  onLearned: ((addr: IpAddress) => void) | null = null;

  /** @param max entries, at least 3 */
  constructor(max: number, own: OwnAddresses) {
    if (max < 3) throw new RangeError('neighborMax must be at least 3');
    this.#own = own;
    this.#max = max;
    this.#words = new Uint32Array(4 * max);
    this.#macHi = new Uint16Array(max);
    this.#macLo = new Uint32Array(max);
    this.#buckets = new Int32Array(2 << (31 - Math.clz32(max))).fill(-1);
    this.#chain = new Int32Array(max).fill(-1);
    this.#byAge = new SlotList(max);
  }

  get size(): number {
    return this.#byAge.length;
  }

  /** Note that `addr` is at this MAC. Addresses that are ours, not on the link or no single host's are ignored. */
  learn(addr: IpAddress, macHi: number, macLo: number): void {
    // Most frames come from the station that sent the last one, and tell nothing new. Compared all the same: what somebody
    // else said of its address in between, and how long ago it was heard, must not outlast its next frame.
    const youngest = this.#byAge.tail;
    if (
      youngest >= 0 &&
      this.#macLo[youngest] === macLo &&
      this.#macHi[youngest] === macHi &&
      this.#isAt(youngest, addr)
    )
      return;
    if (isGroupMac(macHi) || (macHi === 0 && macLo === 0)) return;
    if (addr.isUnspecified || addr.isMulticast || this.#own.owns(addr) || !this.#own.mayBeGuest(addr)) return;
    let slot = this.#find(addr);
    const isNew = slot < 0 && !this.route(addr, this.#known);
    if (slot >= 0) {
      this.#byAge.touch(slot);
    } else {
      slot = this.#byAge.length < this.#max ? this.#byAge.length : this.#displaceOldest();
      this.#words[4 * slot] = addr.w0;
      this.#words[4 * slot + 1] = addr.w1;
      this.#words[4 * slot + 2] = addr.w2;
      this.#words[4 * slot + 3] = addr.w3;
      const bucket = this.#bucketOf(slot);
      this.#chain[slot] = this.#buckets[bucket] as number;
      this.#buckets[bucket] = slot;
      this.#byAge.push(slot);
    }
    this.#macHi[slot] = macHi;
    this.#macLo[slot] = macLo;
    if (isNew) this.onLearned?.(addr);
  }

  /** Whether we answer for `addr` by proxy: nobody on the link is known to have it. */
  proxies(addr: IpAddress): boolean {
    return this.#own.proxies(addr) && this.#find(addr) < 0;
  }

  /** Fill `out`; false when the address is not known. */
  lookup(addr: IpAddress, out: Neighbor): boolean {
    const slot = this.#find(addr);
    if (slot < 0) return false;
    this.#read(slot, out);
    return true;
  }

  /**
   * The station that frames for `addr` go to, in `out`: its own, or, for an address that is not on the link, the guest's,
   * who has it behind it. False: not known.
   */
  route(addr: IpAddress, out: Neighbor): boolean {
    if (this.lookup(addr, out)) return true;
    const own = this.#own;
    if (addr.isGroup || own.onLink(addr)) return false;
    // A guest may use its planned addresses in one family, or none of them: then it is who was heard last.
    if (this.lookup(own.guestFor(addr), out) || this.lookup(own.guest4, out)) return true;
    if (this.#byAge.length === 0) return false;
    this.#read(this.#byAge.tail, out);
    return true;
  }

  /** Take the oldest entry that may go out of the table; its slot. At least one of three entries may. */
  #displaceOldest(): number {
    let slot = this.#byAge.head;
    while (this.#isAt(slot, this.#own.guest4) || this.#isAt(slot, this.#own.guest6)) {
      this.#byAge.touch(slot);
      slot = this.#byAge.head;
    }
    this.#byAge.remove(slot);
    const bucket = this.#bucketOf(slot);
    if (this.#buckets[bucket] === slot) {
      this.#buckets[bucket] = this.#chain[slot] as number;
    } else {
      let before = this.#buckets[bucket] as number;
      while (this.#chain[before] !== slot) before = this.#chain[before] as number;
      this.#chain[before] = this.#chain[slot] as number;
    }
    return slot;
  }

  #read(slot: number, out: Neighbor): void {
    out.macHi = this.#macHi[slot] as number;
    out.macLo = this.#macLo[slot] as number;
  }

  #find(addr: IpAddress): number {
    let slot = this.#buckets[hashWords(addr.w1, addr.w2, addr.w3) & (this.#buckets.length - 1)] as number;
    while (slot >= 0 && !this.#isAt(slot, addr)) slot = this.#chain[slot] as number;
    return slot;
  }

  #isAt(slot: number, addr: IpAddress): boolean {
    const i = 4 * slot;
    return (
      this.#words[i + 3] === addr.w3 &&
      this.#words[i + 2] === addr.w2 &&
      this.#words[i + 1] === addr.w1 &&
      this.#words[i] === addr.w0
    );
  }

  #bucketOf(slot: number): number {
    const i = 4 * slot;
    const hash = hashWords(
      this.#words[i + 1] as number,
      this.#words[i + 2] as number,
      this.#words[i + 3] as number,
    );
    return hash & (this.#buckets.length - 1);
  }
}

function hashWords(a: number, b: number, c: number): number {
  let h = Math.imul(a ^ 0x9e3779b1, 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 13)) + b, 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 16)) + c, 0x27d4eb2f);
  return (h ^ (h >>> 15)) >>> 0;
}

const arpAnswer = new ArpPacket();
const arpTarget = new IpAddress();
const arpSender = new IpAddress();

/**
 * Answer an ARP packet. Writes the body of the reply, 28 bytes, to `out` at `outOff`, for the sender of the request alone,
 * and returns its length; negative: malformed, or nothing that we answer. Without `neighbors`, proxy answers are not given.
 */
export function answerArp(
  request: ArpPacket,
  out: DataView,
  outOff: number,
  own: OwnAddresses,
  neighbors: NeighborTable | null = null,
): number {
  if (request.operation !== ARP_REQUEST || !own.ipv4) return DropReason.ArpIgnored;
  if (isGroupMac(request.senderHi)) return DropReason.ArpMalformed;
  arpSender.setV4(request.senderIp);
  if (own.answersFor(arpTarget.setV4(request.targetIp))) {
    // Somebody announces one of our addresses as his: an answer would be addressed to ourselves.
    if (own.owns(arpSender)) return DropReason.ArpIgnored;
  } else if (arpSender.isUnspecified || neighbors?.proxies(arpTarget) !== true) {
    // RFC 5227 §2.1.1: without a sender it is a probe, and the address is free.
    return DropReason.ArpIgnored;
  }
  arpAnswer.operation = ARP_REPLY;
  arpAnswer.senderHi = own.macHi;
  arpAnswer.senderLo = own.macLo;
  arpAnswer.senderIp = request.targetIp;
  arpAnswer.targetHi = request.senderHi;
  arpAnswer.targetLo = request.senderLo;
  arpAnswer.targetIp = request.senderIp;
  return emitArp(out, outOff, arpAnswer);
}

/** Where a neighbour advertisement goes from and to. Its hop limit must be 255 (RFC 4861 §4.4). */
export class NeighborReply {
  readonly src: IpAddress = new IpAddress();
  /** The solicitor, or all nodes (ff02::1) for a duplicate address probe. */
  readonly dst: IpAddress = new IpAddress();
}

const solicitation = new NdpMessage();

/**
 * Answer the neighbour solicitation of `len` bytes at `off`: an ICMPv6 message whose checksum was verified, in a packet
 * with the header `ip` that was not fragmented (RFC 6980). Writes the whole advertisement with its checksum to `out` at
 * `outOff`, fills `reply` and returns the length; negative: malformed, or nothing that we answer.
 */
export function answerNeighborSolicitation(
  view: DataView,
  off: number,
  len: number,
  ip: Ipv6Header,
  out: DataView,
  outOff: number,
  own: OwnAddresses,
  reply: NeighborReply,
  neighbors: NeighborTable | null = null,
): number {
  if (len < 2) return DropReason.NdMalformed;
  const reason = parseNdp(view, off, len, ip.hopLimit, view.getUint8(off + 1), solicitation);
  if (reason < 0) return reason;
  if (solicitation.type !== ND_NEIGHBOR_SOLICITATION) return DropReason.NdIgnored;
  const target = solicitation.target;
  const probe = ip.src.isUnspecified;
  // RFC 4861 §7.1.1: a probe goes to the solicited-node group and names no link-layer address.
  if (probe && (solicitation.sourceLinkHi >= 0 || !isSolicitedNodeOf(ip.dst, target)))
    return DropReason.NdMalformed;
  if (own.owns(ip.src)) return DropReason.NdIgnored;
  if (!own.answersFor(target) && (probe || neighbors?.proxies(target) !== true)) return DropReason.NdIgnored;

  reply.src.copyFrom(target);
  let flags = ND_NA_ROUTER | ND_NA_OVERRIDE;
  if (probe) {
    reply.dst.set(0xff020000, 0, 0, 1);
  } else {
    reply.dst.copyFrom(ip.src);
    flags |= ND_NA_SOLICITED;
  }
  const length = emitNeighborAdvertisement(out, outOff, target, flags, own.macHi, own.macLo);
  setIcmpChecksum(out, outOff, icmp6Checksum(out, outOff, length, reply.src, reply.dst));
  return length;
}

/** ff02::1:ffXX:XXXX with the low 24 bits of `target` (RFC 4291 §2.7.1). */
function isSolicitedNodeOf(group: IpAddress, target: IpAddress): boolean {
  return (
    group.w0 === 0xff020000 &&
    group.w1 === 0 &&
    group.w2 === 1 &&
    group.w3 === (0xff000000 | (target.w3 & 0xffffff)) >>> 0
  );
}
