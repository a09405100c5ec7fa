/**
 * Reassembly of IPv4 and IPv6 fragments: RFC 791 §3.2, RFC 815, RFC 1122 §3.3.2, RFC 8200 §4.5; with the lessons of
 * RFC 1858 and 3128 (tiny fragments), 5722 (overlaps), 6946 (atomic fragments) and 7112 (whole header chain in the
 * first part).
 *
 * Parts are copied into memory of their own and kept until the datagram is whole, its time is up (30 s, IPv6 60 s
 * from the first part to arrive) or it has to make room. A whole payload is put together in one fixed region.
 *
 * Making room under a flood. Datagrams are in one of three groups, each with its own share of the limits, and a
 * newcomer only ever displaces members of its own group, least recently grown first:
 *
 *   first    the first part is here           5/8 of the datagrams, 3/4 of the bytes
 *   loose    the first part is still missing  1/4 of the datagrams, 1/4 of the bytes
 *   dropped  given up (overlap, too many parts): remembered without bytes until its time, so that its
 *            later parts do not start it anew   1/8 of the datagrams
 *
 * So a flood of middle parts never displaces a datagram that began with its first part (how every real sender does
 * it), and a flood of first parts has to turn over its whole share between two parts of a datagram to lose it.
 *
 * Left out on purpose: merging of the parts' ECN bits (RFC 3168 §5.3), since the payload leaves through a host
 * socket that makes its own; the IPv6 headers before the fragment header, which nothing reads after ingress.
 */

import type { StackScratch } from '../buffer/scratch.ts';
import type { Slab } from '../buffer/slab.ts';
import { SlotList } from '../buffer/slot-list.ts';
import { IpAddress } from '../wire/address.ts';
import { DropReason } from '../wire/drop-reason.ts';
import type { Ipv4Header } from '../wire/ipv4.ts';
import { IPV6_FRAGMENT_HEADER_LEN, IPV6_HEADER_LEN, type Ipv6Header } from '../wire/ipv6.ts';
import { PROTOCOL_TCP } from '../wire/tcp.ts';
import { checkHeaderChain, FragmentedDatagram, PART_OVERHEAD } from './fragments.ts';

/** RFC 1122 §3.3.2 asks for 60 to 120 s for IPv4; 30 s is what Linux keeps. */
const TIMEOUT4_MS = 30_000;
/** RFC 8200 §4.5. */
const TIMEOUT6_MS = 60_000;

/** IPv4 total length and IPv6 payload length are 16-bit fields. */
const MAX_LENGTH = 65535;

/** An ICMP error is at most 576 bytes (RFC 1812 §4.3.2.3) or 1280 (RFC 4443 §2.4 (c)) with its own headers. */
const QUOTE4_MAX = 576 - 20 - 8;
const QUOTE6_MAX = 1280 - 40 - 8;

const FIRST = 0;
const LOOSE = 1;
const DROPPED = 2;

/** IPv6 datagrams are told apart from IPv4 ones by their addresses; their key has no protocol. */
const NO_PROTOCOL = -1;

export interface ReassemblyLimits {
  /** Bytes kept for all datagrams, overhead included. */
  fragMaxBytes: number;
  /** Datagrams being put together, at least 4. */
  fragMaxDatagrams: number;
  /** Parts of one datagram. */
  fragMaxParts: number;
}

/** What a time exceeded message (ICMP 11/1, ICMPv6 3/1) about a datagram needs. */
export class ExpiredFragment {
  isV4 = false;
  readonly src: IpAddress = new IpAddress();
  readonly dst: IpAddress = new IpAddress();
  /** The first part as it came, from its IP header on, cut to what the error may quote: offset in the slab. */
  off = 0;
  len = 0;
}

export class Reassembler {
  /** Where in the slab the payload of the datagram that became whole last is, until the next one does. */
  readonly outOff: number;
  /** Its bytes. Valid until the next call of addIpv4 or addIpv6. */
  outLen = 0;
  /** IPv4: its protocol. IPv6: the next header value of the fragment header of the first part. */
  outProtocol = 0;
  /**
   * Set by addIpv6 with Frag6Chain: true when the header chain did not end in the first part, which is worth an
   * ICMPv6 parameter problem of code 3 (RFC 7112 §5); false for a second fragment header, which is worth nothing.
   */
  chainIncomplete = false;

  readonly #slab: Slab;
  readonly #quoteOff: number;
  readonly #maxParts: number;
  readonly #maxDatagrams: readonly number[];
  readonly #maxBytes: readonly number[];
  readonly #bytesHeld: number[] = [0, 0, 0];
  readonly #datagrams: FragmentedDatagram[] = [];
  readonly #freeSlots: number[] = [];
  readonly #groups: readonly SlotList[];
  /** By family, oldest first: the time to live is the same for all of a family, so this is the order of expiry. */
  readonly #timers4: SlotList;
  readonly #timers6: SlotList;
  readonly #expired: SlotList;
  readonly #buckets: Int32Array;
  readonly #chain: Int32Array;

  constructor({ slab, datagram, quote }: StackScratch, limits: ReassemblyLimits) {
    const slots = limits.fragMaxDatagrams;
    if (slots < 4) throw new RangeError('fragMaxDatagrams must be at least 4');
    this.#slab = slab;
    this.outOff = datagram;
    this.#quoteOff = quote;
    this.#maxParts = limits.fragMaxParts;
    const dropped = Math.max(1, slots >> 3);
    const loose = Math.max(1, slots >> 2);
    this.#maxDatagrams = [slots - loose - dropped, loose, dropped];
    const looseBytes = Math.floor(limits.fragMaxBytes / 4);
    this.#maxBytes = [limits.fragMaxBytes - looseBytes, looseBytes, 0];
    this.#groups = [new SlotList(slots), new SlotList(slots), new SlotList(slots)];
    this.#timers4 = new SlotList(slots);
    this.#timers6 = new SlotList(slots);
    this.#expired = new SlotList(slots);
    this.#buckets = new Int32Array(2 << (31 - Math.clz32(slots))).fill(-1);
    this.#chain = new Int32Array(slots).fill(-1);
  }

  /** Bytes kept at the moment, overhead included. */
  get bytesHeld(): number {
    return (this.#bytesHeld[FIRST] as number) + (this.#bytesHeld[LOOSE] as number);
  }

  /** Datagrams remembered at the moment, given-up ones included. */
  get datagramCount(): number {
    return this.#list(FIRST).length + this.#list(LOOSE).length + this.#list(DROPPED).length;
  }

  /**
   * Take the IPv4 fragment (no whole datagram) at `off`, whose header is `h`. 1 = the datagram is whole: outOff, outLen, outProtocol
   * say where (until the next call); 0 = kept, or known already; negative = drop reason.
   */
  addIpv4(view: DataView, off: number, h: Ipv4Header, nowMs: number): number {
    const { headerLen, fragmentOffset, moreFragments, src, dst, protocol, id } = h;
    const len = h.totalLen - headerLen;
    return this.#add(
      view,
      off + headerLen,
      len,
      fragmentOffset,
      moreFragments,
      headerLen,
      src,
      dst,
      protocol,
      id,
      protocol,
      nowMs,
    );
  }

  /**
   * Take the IPv6 fragment at `off`, whose header is `h`, with the extension headers walked up to the fragment
   * header. Returns as addIpv4 does; the payload then begins with the header that `outProtocol` names, which may be
   * another extension header. FragLength and FragTooLong are worth an ICMPv6 parameter problem of code 0 (RFC 8200
   * §4.5, pointing at the payload length and at the fragment offset), Frag6Chain see `chainIncomplete`.
   */
  addIpv6(view: DataView, off: number, h: Ipv6Header, nowMs: number): number {
    const payloadOff = off + h.transportOff;
    if (h.fragmentOffset === 0) {
      const chain = checkHeaderChain(view, payloadOff, h.transportLen, h.protocol);
      this.chainIncomplete = chain === 0;
      if (chain <= 0) return DropReason.Frag6Chain;
    }
    return this.#add(
      view,
      payloadOff,
      h.transportLen,
      h.fragmentOffset,
      h.moreFragments,
      h.transportOff,
      h.src,
      h.dst,
      NO_PROTOCOL,
      h.fragmentId,
      h.protocol,
      nowMs,
    );
  }

  /** When onTimeout is due (monotonic ms), or Infinity. */
  nextTimeoutMs(): number {
    let next = Number.POSITIVE_INFINITY;
    if (this.#timers4.head >= 0) next = this.#at(this.#timers4.head).deadlineMs;
    if (this.#timers6.head >= 0) next = Math.min(next, this.#at(this.#timers6.head).deadlineMs);
    return next;
  }

  /**
   * Give up the datagrams whose time is up. Those whose first part was seen wait for takeExpired, until the next
   * call of this at most.
   */
  onTimeout(nowMs: number): void {
    while (this.#expired.head >= 0) this.#release(this.#expired.head);
    this.#expire(this.#timers4, nowMs);
    this.#expire(this.#timers6, nowMs);
  }

  /** The next datagram to be told about with time exceeded. `out` and the bytes it names are valid until the next call. */
  takeExpired(out: ExpiredFragment): boolean {
    const slot = this.#expired.head;
    if (slot < 0) return false;
    const d = this.#at(slot);
    out.isV4 = d.src.isV4;
    out.src.copyFrom(d.src);
    out.dst.copyFrom(d.dst);
    out.off = this.#quoteOff;
    out.len = d.copyQuote(this.#slab.bytes, this.#quoteOff, out.isV4 ? QUOTE4_MAX : QUOTE6_MAX);
    this.#release(slot);
    return true;
  }

  #add(
    view: DataView,
    off: number,
    len: number,
    start: number,
    more: boolean,
    headerLen: number,
    src: IpAddress,
    dst: IpAddress,
    keyProtocol: number,
    id: number,
    protocol: number,
    nowMs: number,
  ): number {
    // RFC 791 §3.2, RFC 8200 §4.5: every part but the last is a multiple of 8 bytes. An empty part says nothing.
    if (len <= 0 || (more && (len & 7) !== 0)) return DropReason.FragLength;
    if (lengthField(headerLen + start + len, src) > MAX_LENGTH) return DropReason.FragTooLong;
    // RFC 3128 §5: such a part exists only to rewrite a TCP header's flags.
    if (start === 8 && protocol === PROTOCOL_TCP) return DropReason.FragTiny;
    const hash = hashKey(src, dst, keyProtocol, id);
    let slot = this.#find(hash, src, dst, keyProtocol, id);
    if (slot >= 0) {
      const known = this.#at(slot);
      if (known.dropReason < 0) return known.dropReason;
      const fits = known.check(view, off, len, start, more);
      if (fits === 0) return 0;
      if (fits < 0) return this.#giveUp(slot, fits);
      if (known.partCount >= this.#maxParts) return this.#giveUp(slot, DropReason.FragLimit);
    }

    const bytes = PART_OVERHEAD + len + (start === 0 ? headerLen : 0);
    const group = start === 0 || (slot >= 0 && this.#at(slot).group === FIRST) ? FIRST : LOOSE;
    if (!this.#makeRoom(group, slot, bytes))
      return slot >= 0 ? this.#giveUp(slot, DropReason.FragLimit) : DropReason.FragLimit;
    if (slot < 0) slot = this.#open(hash, src, dst, keyProtocol, id, group, nowMs);
    const d = this.#at(slot);
    if (d.group !== group) this.#move(slot, group);
    else this.#list(group).touch(slot);
    // A datagram without parts has none that could not fit; for one with parts, check was asked above.
    if (d.partCount === 0) d.check(view, off, len, start, more);
    d.store(view, off, len, start, more, headerLen);
    if (start === 0) d.protocol = protocol;
    this.#bytesHeld[group] = (this.#bytesHeld[group] as number) + bytes;
    if (!d.isWhole()) return 0;

    // The header that counts for the length of the whole is the first part's, which may be longer than this one's.
    if (lengthField(d.firstHeaderLen + d.totalLen, src) > MAX_LENGTH)
      return this.#giveUp(slot, DropReason.FragTooLong);
    d.copyPayload(this.#slab.bytes, this.outOff);
    this.outLen = d.totalLen;
    this.outProtocol = d.protocol;
    this.#release(slot);
    return 1;
  }

  /**
   * Displace members of `group` until one more datagram (or the one at `slot`, if it is there or moves there) can
   * keep `bytes` more. False when that is not possible even alone.
   */
  #makeRoom(group: number, slot: number, bytes: number): boolean {
    const list = this.#list(group);
    const maxDatagrams = this.#maxDatagrams[group] as number;
    const maxBytes = this.#maxBytes[group] as number;
    const own = slot >= 0 ? this.#at(slot).bytesHeld : 0;
    if (own + bytes > maxBytes) return false;
    const inside = slot >= 0 && this.#at(slot).group === group;
    const moreBytes = inside ? bytes : own + bytes;
    const moreSlots = inside ? 0 : 1;
    while (
      list.length + moreSlots > maxDatagrams ||
      (this.#bytesHeld[group] as number) + moreBytes > maxBytes
    ) {
      const oldest = list.head === slot ? list.after(slot) : list.head;
      this.#release(oldest);
    }
    return true;
  }

  #open(
    hash: number,
    src: IpAddress,
    dst: IpAddress,
    keyProtocol: number,
    id: number,
    group: number,
    nowMs: number,
  ): number {
    let slot = this.#freeSlots.pop() ?? -1;
    if (slot < 0) {
      slot = this.#datagrams.length;
      this.#datagrams.push(new FragmentedDatagram());
    }
    const d = this.#at(slot);
    d.src.copyFrom(src);
    d.dst.copyFrom(dst);
    d.keyProtocol = keyProtocol;
    d.id = id;
    d.hash = hash;
    d.deadlineMs = nowMs + (src.isV4 ? TIMEOUT4_MS : TIMEOUT6_MS);
    d.group = group;
    const bucket = hash & (this.#buckets.length - 1);
    this.#chain[slot] = this.#buckets[bucket] as number;
    this.#buckets[bucket] = slot;
    this.#list(group).push(slot);
    this.#timers(d).push(slot);
    return slot;
  }

  /** Free the parts and remember the datagram as given up. Returns `reason`. */
  #giveUp(slot: number, reason: number): number {
    const d = this.#at(slot);
    this.#makeRoom(DROPPED, -1, 0);
    this.#bytesHeld[d.group] = (this.#bytesHeld[d.group] as number) - d.bytesHeld;
    d.dropParts();
    d.dropReason = reason;
    this.#move(slot, DROPPED);
    return reason;
  }

  #move(slot: number, group: number): void {
    const d = this.#at(slot);
    this.#list(d.group).remove(slot);
    this.#list(group).push(slot);
    this.#bytesHeld[d.group] = (this.#bytesHeld[d.group] as number) - d.bytesHeld;
    this.#bytesHeld[group] = (this.#bytesHeld[group] as number) + d.bytesHeld;
    d.group = group;
  }

  #expire(timers: SlotList, nowMs: number): void {
    for (let slot = timers.head; slot >= 0; slot = timers.head) {
      const d = this.#at(slot);
      if (d.deadlineMs > nowMs) return;
      if (d.dropReason < 0 || d.firstHeaderLen < 0) {
        this.#release(slot);
        continue;
      }
      timers.remove(slot);
      this.#unhash(slot);
      d.expired = true;
      this.#expired.push(slot);
    }
  }

  #release(slot: number): void {
    const d = this.#at(slot);
    if (d.expired) {
      this.#expired.remove(slot);
    } else {
      this.#timers(d).remove(slot);
      this.#unhash(slot);
    }
    this.#list(d.group).remove(slot);
    this.#bytesHeld[d.group] = (this.#bytesHeld[d.group] as number) - d.bytesHeld;
    d.clear();
    this.#freeSlots.push(slot);
  }

  #find(hash: number, src: IpAddress, dst: IpAddress, keyProtocol: number, id: number): number {
    let slot = this.#buckets[hash & (this.#buckets.length - 1)] as number;
    while (slot >= 0) {
      const d = this.#at(slot);
      if (
        d.hash === hash &&
        d.id === id &&
        d.keyProtocol === keyProtocol &&
        d.src.equals(src) &&
        d.dst.equals(dst)
      )
        return slot;
      slot = this.#chain[slot] as number;
    }
    return -1;
  }

  #unhash(slot: number): void {
    const bucket = this.#at(slot).hash & (this.#buckets.length - 1);
    if (this.#buckets[bucket] === slot) {
      this.#buckets[bucket] = this.#chain[slot] as number;
      return;
    }
    let before = this.#buckets[bucket] as number;
    while (this.#chain[before] !== slot) before = this.#chain[before] as number;
    this.#chain[before] = this.#chain[slot] as number;
  }

  #at(slot: number): FragmentedDatagram {
    return this.#datagrams[slot] as FragmentedDatagram;
  }

  #list(group: number): SlotList {
    return this.#groups[group] as SlotList;
  }

  #timers(d: FragmentedDatagram): SlotList {
    return d.src.isV4 ? this.#timers4 : this.#timers6;
  }
}

/** What the whole says of its length, of `length` bytes in all: IPv6 leaves out its own header and that of the fragment. */
function lengthField(length: number, { isV4 }: IpAddress): number {
  return isV4 ? length : length - IPV6_HEADER_LEN - IPV6_FRAGMENT_HEADER_LEN;
}

/** Uneven mixing is good enough: the table is so small that even one single chain is walked in about a microsecond. */
function hashKey(src: IpAddress, dst: IpAddress, keyProtocol: number, id: number): number {
  let h = Math.imul(src.w3 ^ id, 0x9e3779b1);
  h = Math.imul((h ^ (h >>> 15)) + dst.w3, 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 13)) + src.w2 + keyProtocol, 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 16)) + src.w1 + dst.w2, 0x27d4eb2f);
  return (h ^ (h >>> 15)) >>> 0;
}
