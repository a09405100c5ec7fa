/**
 * Who is who on the guest's link: the addresses at which the stack itself answers, and those it gives the guest.
 */
import { IpAddress, parseIpAddress } from '../wire/address.ts';
import { isGroupMac, parseMac } from '../wire/ethernet.ts';

/** Our router address on the link (RFC 4291 §2.5.6); the peers use the same. */
const ROUTER_LINK_LOCAL = 'fe80::2';

/** Locally administered, unicast; the IPv4 gateway follows as the lower 32 bits, as libslirp does it. */
const MAC_HI = 0x5255;

/**
 * Who is who on the guest's link. Addresses as text, prefixes in bits of their own family. Where the guest's network is
 * the host's too, gateway and DNS addresses may be missing (empty), and the guest's own address.
 */
export interface AddressPlan {
  /** False: the guest has no IPv4. */
  ipv4?: boolean;
  guest4: string;
  prefix4: number;
  /** First of the addresses that DHCP gives out. */
  lease4: string;
  gateway4: string;
  dns4: string;
  ipv6: boolean;
  guest6: string;
  prefix6: number;
  gateway6: string;
  dns6: string;
  /** Ours, if it is not the usual one. */
  linkLocal6?: string;
  /** What the guest has besides `guest4` and `guest6`. */
  further?: readonly string[];
}

export interface LinkManners {
  /** As text, or empty: made from the gateway's address. */
  mac?: string;
  /** See `proxies`. */
  proxyNeighbors?: boolean;
  /** See `mayBeGuest`. */
  anySource?: boolean;
  /** See `GuestBehavior`. */
  sharedNetwork?: boolean;
  isHop?: boolean;
}

export class OwnAddresses {
  /** Our MAC address: upper 16 and lower 32 bits. */
  readonly macHi: number;
  readonly macLo: number;
  readonly gateway4: IpAddress;
  readonly dns4: IpAddress;
  /** The guest's address by plan (not ours). */
  readonly guest4: IpAddress;
  /** Bits of the IPv4 prefix, 0 to 32: `inPrefix` wants 96 more. */
  prefix4: number;
  /** First address that DHCP gives out. */
  readonly lease4: IpAddress;
  /** The addresses of a family that the guest does not have are unspecified, and so are those that the plan leaves out. */
  readonly gateway6: IpAddress;
  readonly dns6: IpAddress;
  readonly linkLocal6: IpAddress;
  readonly guest6: IpAddress;
  prefix6: number;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** We are a router on the way: a hop limit is one less behind us. */
  readonly isHop: boolean;
  readonly #sharedNetwork: boolean;
  #further: readonly IpAddress[];
  readonly #standIns: IpAddress[] = [];
  readonly #claimed: IpAddress[] = [];
  /** Addresses of the guest's that are not on the link. */
  readonly #beyond: IpAddress[] = [];
  readonly #proxyNeighbors: boolean;
  readonly #anySource: boolean;

  /** Reads the plan. Throws RangeError for text that is no address of the family it should be of. */
  constructor(plan: AddressPlan, manners: LinkManners = {}) {
    const {
      mac = '',
      proxyNeighbors = false,
      anySource = false,
      sharedNetwork = false,
      isHop = true,
    } = manners;
    this.#proxyNeighbors = proxyNeighbors;
    this.#anySource = anySource;
    this.#sharedNetwork = sharedNetwork;
    this.isHop = isHop;
    this.ipv4 = plan.ipv4 ?? true;
    this.gateway4 = parseFamily(plan.gateway4, true);
    this.dns4 = parseFamily(plan.dns4, true);
    this.guest4 = parseFamily(plan.guest4, true);
    this.prefix4 = plan.prefix4;
    this.lease4 = parseFamily(plan.lease4, true);
    const { hi, lo } = mac === '' ? { hi: MAC_HI, lo: this.gateway4.w3 } : parseOwnMac(mac);
    this.macHi = hi;
    this.macLo = lo;
    this.ipv6 = plan.ipv6;
    this.gateway6 = plan.ipv6 ? parseFamily(plan.gateway6, false) : new IpAddress();
    this.dns6 = plan.ipv6 ? parseFamily(plan.dns6, false) : new IpAddress();
    this.linkLocal6 = plan.ipv6 ? parseFamily(plan.linkLocal6 ?? ROUTER_LINK_LOCAL, false) : new IpAddress();
    this.guest6 = plan.ipv6 ? parseFamily(plan.guest6, false) : new IpAddress();
    this.prefix6 = plan.prefix6;
    this.#further = (plan.further ?? []).map(parseIpAddress);
  }

  /**
   * The addresses of the same families, but those for DNS, are these from now on, for all who have borrowed them. Throws
   * RangeError as the constructor does, and nothing has changed then.
   */
  change(plan: AddressPlan): void {
    const now = new OwnAddresses(plan);
    this.gateway4.copyFrom(now.gateway4);
    this.guest4.copyFrom(now.guest4);
    this.prefix4 = now.prefix4;
    this.lease4.copyFrom(now.lease4);
    this.gateway6.copyFrom(now.gateway6);
    this.linkLocal6.copyFrom(now.linkLocal6);
    this.guest6.copyFrom(now.guest6);
    this.prefix6 = now.prefix6;
    this.#further = now.#further;
  }

  /** Is this an address at which the stack itself answers? */
  owns(addr: IpAddress): boolean {
    if (this.#sharedNetwork) return this.ipv6 && addr.equals(this.linkLocal6);
    if (addr.isV4) return addr.equals(this.gateway4) || addr.equals(this.dns4);
    return (
      this.ipv6 && (addr.equals(this.gateway6) || addr.equals(this.dns6) || addr.equals(this.linkLocal6))
    );
  }

  /** Is this ours, or one that stands for an address of the host's? Echo requests are answered there. */
  answersEcho(addr: IpAddress): boolean {
    if (this.owns(addr)) return true;
    for (let i = 0; i < this.#standIns.length; i++)
      if (addr.equals(this.#standIns[i] as IpAddress)) return true;
    return false;
  }

  /** These, and no others from now on, stand for addresses of the host's. */
  setStandIns(addresses: readonly IpAddress[]): void {
    this.#standIns.length = 0;
    this.#standIns.push(...addresses);
  }

  /** Does the guest find us there (ARP, neighbour discovery): our own, those that stand for others, and of remote forwards? */
  answersFor(addr: IpAddress): boolean {
    if (this.answersEcho(addr)) return true;
    for (let i = 0; i < this.#claimed.length; i++)
      if (addr.equals(this.#claimed[i] as IpAddress)) return true;
    return false;
  }

  /**
   * Is this an address that we answer for on the link because we answer for all that are no host's of the link? Which
   * ones the guest uses besides the planned ones, the neighbour table knows.
   */
  proxies(addr: IpAddress): boolean {
    return (
      this.#proxyNeighbors &&
      !addr.isUnspecified &&
      !addr.isGroup &&
      !addr.isLoopback &&
      !addr.equals(this.guest4) &&
      !addr.equals(this.guest6)
    );
  }

  /** A remote forward listens at `addr`; claims of the same address add up. */
  claim(addr: IpAddress): void {
    if (!addr.isUnspecified && !addr.isMulticast && !this.owns(addr)) this.#claimed.push(addr.clone());
  }

  disclaim(addr: IpAddress): void {
    const index = this.#claimed.findIndex((claimed) => claimed.equals(addr));
    if (index >= 0) this.#claimed.splice(index, 1);
  }

  /**
   * We speak to the guest from `addr` too, and it must find us there. Never forgotten: flows outlive their forward.
   */
  speakFrom(addr: IpAddress): void {
    if (this.onLink(addr) && !this.answersFor(addr)) this.claim(addr);
  }

  /**
   * A local forward leads to `addr`. If that is not on the link, the guest has it elsewhere and speaks from it. Never
   * forgotten: flows outlive their forward.
   */
  expect(addr: IpAddress): void {
    if (!this.onLink(addr) && !this.#isBeyond(addr)) this.#beyond.push(addr.clone());
  }

  /** Who has `addr`, where it is not on the link: the guest's planned address of the same family. */
  guestFor(addr: IpAddress): IpAddress {
    return addr.isV4 ? this.guest4 : this.guest6;
  }

  /** Can a host with this address be on the guest's link (in its prefix, or link-local in IPv6)? */
  onLink(addr: IpAddress): boolean {
    // A gateway beyond the network is reached all the same, where that is the host's.
    const within4 = this.#sharedNetwork ? this.guest4 : this.gateway4;
    if (addr.isV4) return addr.inPrefix(within4, 96 + this.prefix4);
    return this.ipv6 && (addr.isLinkLocal || addr.inPrefix(this.network6, this.prefix6));
  }

  /** An address of the guest's IPv6 network; unspecified: it has none but the link's. */
  get network6(): IpAddress {
    return this.#sharedNetwork ? this.guest6 : this.gateway6;
  }

  /** Can nobody have this address but the guest, or its neighbours on the link? */
  isInside(addr: IpAddress): boolean {
    if (!this.#sharedNetwork) return this.onLink(addr);
    if (addr.equals(this.guest4) || addr.equals(this.guest6)) return true;
    for (let i = 0; i < this.#further.length; i++)
      if (addr.equals(this.#further[i] as IpAddress)) return true;
    return false;
  }

  /** Whom the guest hears when we say something ourselves; unspecified: nobody. */
  speaker(isV4: boolean): IpAddress {
    if (isV4) return this.gateway4;
    return this.gateway6.isUnspecified ? this.linkLocal6 : this.gateway6;
  }

  /** The broadcast or network address of the guest's own IPv4 network, or the old form of it, 0.0.0.0 (RFC 1122 §3.3.6). */
  isLinkBroadcast(addr: IpAddress): boolean {
    if (!addr.isV4) return false;
    if (addr.isUnspecified) return true;
    if (!this.onLink(addr) || this.prefix4 >= 31) return false;
    const hostMask = 0xffffffff >>> this.prefix4;
    const host = addr.w3 & hostMask;
    return host === 0 || host === (hostMask | 0);
  }

  /** May the guest speak from this address: one on the link or of a forward, or with `anySource` any that a host can have? */
  mayBeGuest(addr: IpAddress): boolean {
    if (!this.#anySource) return this.onLink(addr) || this.#isBeyond(addr);
    return !addr.isUnspecified && !addr.isGroup && !addr.isLoopback && (addr.isV4 || this.ipv6);
  }

  #isBeyond(addr: IpAddress): boolean {
    for (let i = 0; i < this.#beyond.length; i++) if (addr.equals(this.#beyond[i] as IpAddress)) return true;
    return false;
  }
}

/** A group address cannot be ours. */
function parseOwnMac(text: string): { hi: number; lo: number } {
  const mac = parseMac(text);
  if (isGroupMac(mac.hi)) throw new RangeError(`not the MAC address of one station: ${text}`);
  return mac;
}

function parseFamily(text: string, v4: boolean): IpAddress {
  if (text === '') return v4 ? new IpAddress().setV4(0) : new IpAddress();
  const address = parseIpAddress(text);
  if (address.isV4 !== v4) throw new RangeError(`${text} is not an ${v4 ? 'IPv4' : 'IPv6'} address`);
  return address;
}
