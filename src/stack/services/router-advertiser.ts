/**
 * The router side of IPv6 autoconfiguration: router advertisements, RFC 4861 §6.2, RFC 8106 (DNS), RFC 4862.
 *
 * Advertisements go to all nodes three times at start, 16 s apart, and then at random times of 200 to 600 s; a
 * solicitation is answered at once. The start is when the guest asks, or has a link-local address that it may use: a
 * default route before that would have programs choose ::1 as their source, and wait for answers that never come. A guest
 * that is silent has no use for it. RFC 4861 §6.2.6 has answers delayed by 0 to 500 ms, so that several routers do not
 * speak at once; on this link there is only one, and a guest waits for the answer before it has an address, so the
 * delay chosen is 0. Answers go to the solicitor alone when it has an address already; answers to all nodes keep 3 s
 * from one another, answers to one 100 ms.
 *
 * Left out on purpose: a last advertisement with lifetime 0 when we stop (the link goes away with us).
 */
import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { Rng } from '../rng.ts';
import { IpAddress } from '../wire/address.ts';
import { DropReason } from '../wire/drop-reason.ts';
import { icmp6Checksum, setIcmpChecksum } from '../wire/icmp.ts';
import { IPV6_MIN_MTU, type Ipv6Header } from '../wire/ipv6.ts';
import {
  emitRouterAdvertisement,
  ND_ROUTER_SOLICITATION,
  NdpMessage,
  parseNdp,
  RouterAdvertisement,
} from '../wire/ndp.ts';
import type { SearchDomains } from '../wire/search-domains.ts';

/** Seconds; 3 × MaxRtrAdvInterval (RFC 4861 §6.2.1), also for RDNSS (RFC 8106 §5.1). */
const ROUTER_LIFETIME = 1800;
/** Seconds; RFC 4861 §6.2.1: 30 days and 7 days. */
const VALID_LIFETIME = 2_592_000;
const PREFERRED_LIFETIME = 604_800;
/** MinRtrAdvInterval and MaxRtrAdvInterval. */
const MIN_INTERVAL_MS = 200_000;
const MAX_INTERVAL_MS = 600_000;
/** RFC 4861 §10. */
const MAX_INITIAL_INTERVAL_MS = 16_000;
const MAX_INITIAL_ADVERTISEMENTS = 3;
const MIN_DELAY_BETWEEN_MS = 3_000;
const MIN_UNICAST_GAP_MS = 100;
/** A second (RFC 4862 §5.1, RetransTimer) after its last probe an address is a host's own, and a moment for the host. */
const PROBE_MS = 1_500;

/** The only prefix length with which hosts configure themselves (RFC 4862 §5.5.3, RFC 7421). */
const AUTONOMOUS_PREFIX_LENGTH = 64;

export class RouterAdvertiser {
  /** Source of every advertisement. Its hop limit must be 255 (RFC 4861 §4.2). */
  readonly src: IpAddress;
  /** Where the advertisement written last goes to. */
  readonly dst: IpAddress = new IpAddress();
  readonly #rng: Rng;
  readonly #message: RouterAdvertisement = new RouterAdvertisement();
  readonly #solicitation: NdpMessage = new NdpMessage();
  #nextMs = Number.POSITIVE_INFINITY;
  #multicastMs = Number.NEGATIVE_INFINITY;
  #unicastMs = Number.NEGATIVE_INFINITY;
  #initialLeft = MAX_INITIAL_ADVERTISEMENTS;
  #started = false;
  /** There is a network to tell of. */
  #hasNetwork = false;

  /**
   * @param mtu bytes of the link's IP packets
   * @param rdnss the DNS servers to announce; may be empty
   * @param search domains for short names, followed; null = none
   * @param managed addresses are to be had by DHCPv6
   */
  constructor(
    own: OwnAddresses,
    mtu: number,
    rdnss: readonly IpAddress[],
    rng: Rng,
    search: SearchDomains | null = null,
    managed = false,
  ) {
    this.src = own.linkLocal6;
    this.#rng = rng;
    const m = this.#message;
    m.hopLimit = 64;
    m.managed = managed;
    m.routerLifetime = ROUTER_LIFETIME;
    m.macHi = own.macHi;
    m.macLo = own.macLo;
    this.changeMtu(mtu);
    this.#take(own);
    m.validLifetime = VALID_LIFETIME;
    m.preferredLifetime = PREFERRED_LIFETIME;
    m.rdnss = rdnss;
    m.rdnssLifetime = ROUTER_LIFETIME;
    m.search = search;
  }

  /** The link has got another MTU; the next advertisement says so. None below what IPv6 needs (RFC 8200 §5). */
  changeMtu(mtu: number): void {
    this.#message.mtu = mtu < IPV6_MIN_MTU ? 0 : mtu;
  }

  /** These are the addresses from now on: the next advertisement, which tells of them, is due at once. */
  changeAddresses(own: OwnAddresses, nowMs: number): void {
    this.#take(own);
    this.#initialLeft = MAX_INITIAL_ADVERTISEMENTS;
    if (this.#started) this.#nextMs = nowMs;
  }

  #take(own: OwnAddresses): void {
    const m = this.#message;
    this.#hasNetwork = !own.network6.isUnspecified;
    maskPrefix(own.network6, own.prefix6, m.prefix);
    m.prefixLength = own.prefix6;
    m.autonomous = own.prefix6 === AUTONOMOUS_PREFIX_LENGTH;
  }

  /** The guest uses its link-local address: the first advertisement is due at once, if there was none. */
  start(nowMs: number): void {
    if (!this.#started) this.#nextMs = nowMs;
    this.#started = true;
  }

  /** The guest looks whether an address is anybody else's: when that is over it will be there to be told. */
  onProbe(nowMs: number): void {
    if (!this.#started) this.#nextMs = nowMs + PROBE_MS;
  }

  /** When onTimeout is due (monotonic ms); Infinity before there is anything to start from. */
  nextTimeoutMs(): number {
    return this.#hasNetwork ? this.#nextMs : Number.POSITIVE_INFINITY;
  }

  /** Write the advertisement that is due to `out` at `outOff`, for `dst`; its length, or 0 when none is due. */
  onTimeout(nowMs: number, out: DataView, outOff: number): number {
    if (nowMs < this.nextTimeoutMs()) return 0;
    return this.#multicast(nowMs, out, outOff);
  }

  /**
   * Take the router solicitation of `len` bytes at `off`: an ICMPv6 message whose checksum was verified, in a packet with
   * the header `ip`. Returns the length of the advertisement written to `out` at `outOff`, for `dst`; 0 when it will
   * follow with onTimeout; negative: drop reason.
   */
  onSolicitation(
    view: DataView,
    off: number,
    len: number,
    ip: Ipv6Header,
    nowMs: number,
    out: DataView,
    outOff: number,
  ): number {
    if (len < 2) return DropReason.NdMalformed;
    const reason = parseNdp(view, off, len, ip.hopLimit, view.getUint8(off + 1), this.#solicitation);
    if (reason < 0) return reason;
    if (this.#solicitation.type !== ND_ROUTER_SOLICITATION || !this.#hasNetwork) return DropReason.NdIgnored;
    if (ip.src.isUnspecified) {
      // RFC 4861 §6.1.1.
      if (this.#solicitation.sourceLinkHi >= 0) return DropReason.NdMalformed;
      const earliestMs = this.#multicastMs + MIN_DELAY_BETWEEN_MS;
      if (nowMs >= earliestMs) return this.#multicast(nowMs, out, outOff);
      this.#nextMs = Math.min(this.#nextMs, earliestMs);
      return 0;
    }
    if (nowMs < this.#unicastMs + MIN_UNICAST_GAP_MS) return DropReason.IcmpLimit;
    this.#unicastMs = nowMs;
    if (!this.#started) this.start(nowMs + MAX_INITIAL_INTERVAL_MS);
    this.dst.copyFrom(ip.src);
    return this.#emit(out, outOff);
  }

  #multicast(nowMs: number, out: DataView, outOff: number): number {
    this.#started = true;
    this.#multicastMs = nowMs;
    if (this.#initialLeft > 0) this.#initialLeft--;
    let interval = MIN_INTERVAL_MS + (this.#rng.u32() / 0x1_0000_0000) * (MAX_INTERVAL_MS - MIN_INTERVAL_MS);
    if (this.#initialLeft > 0) interval = Math.min(interval, MAX_INITIAL_INTERVAL_MS);
    this.#nextMs = nowMs + interval;
    this.dst.set(0xff020000, 0, 0, 1);
    return this.#emit(out, outOff);
  }

  #emit(out: DataView, outOff: number): number {
    const length = emitRouterAdvertisement(out, outOff, this.#message);
    setIcmpChecksum(out, outOff, icmp6Checksum(out, outOff, length, this.src, this.dst));
    return length;
  }
}

function maskPrefix(address: IpAddress, bits: number, out: IpAddress): void {
  out.set(
    maskWord(address.w0, bits),
    maskWord(address.w1, bits - 32),
    maskWord(address.w2, bits - 64),
    maskWord(address.w3, bits - 96),
  );
}

function maskWord(word: number, bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? word : (word & (0xffffffff << (32 - bits))) >>> 0;
}
