/**
 * DHCPv4 server for the guest's link: RFC 2131, RFC 2132. A pure function of requests: it keeps the leases, the caller
 * sends the replies.
 *
 * The first client gets the plan's first lease (by default the guest address, because forwarded ports lead there);
 * further ones get the addresses behind it, 16 in all. We are the only authority on the link, so a client that asks for an address it
 * cannot have is told so at once. Nothing reads a clock: leases are renewed for 24 h whenever asked, and when all
 * addresses are taken the client that was not heard of for longest loses its own.
 *
 * Left out on purpose: relays (a guest's link has none: giaddr set is ignored), client identifiers (the hardware address
 * is the key), plain BOOTP, and everything a network boot would need.
 */
import type { OwnAddresses } from '../ip/own-addresses.ts';
import { IpAddress } from '../wire/address.ts';
import {
  BOOTREQUEST,
  DHCP_ACK,
  DHCP_DECLINE,
  DHCP_DISCOVER,
  DHCP_FLAG_BROADCAST,
  DHCP_INFORM,
  DHCP_NAK,
  DHCP_OFFER,
  DHCP_RELEASE,
  DHCP_REQUEST,
  DhcpMessage,
  DhcpReply,
  emitDhcpReply,
  parseDhcp,
} from '../wire/dhcp.ts';
import { isGroupMac } from '../wire/ethernet.ts';
import { SearchDomains } from '../wire/search-domains.ts';

/** Addresses in the pool. */
const POOL_SIZE = 16;
/** Seconds. */
const LEASE_SECONDS = 86_400;
/** RFC 2131 §3.3. */
const FOR_EVER = 0xffffffff;
const BROADCAST_IP = 0xffffffff;
const ANY_IP = -1;
const NO_SERVERS: readonly number[] = [];
const NO_NAME = new Uint8Array(0);

export interface DhcpManners {
  /** The first address is whoever's who asks, for ever. */
  oneLease?: boolean;
  /** The client's name, and the same in full, or empty. */
  hostname?: string;
  fqdn?: string;
}

/** One address of the pool and who has it. */
class Lease {
  ip = 0;
  /** Upper 16 bits of the client's hardware address; -1 = free. */
  macHi = -1;
  macLo = 0;
  /** A client found the address in use by somebody else (RFC 2131 §4.3.3): given out again last. */
  declined = false;
  /** Counts up with every use: the smallest was not heard of for longest. */
  lastUse = 0;
}

export class DhcpServer {
  /** Where the reply written last goes to, as an IPv4 address; 255.255.255.255 for everybody. */
  replyIp: number = BROADCAST_IP;
  /** … and at which MAC address. It may not answer ARP for `replyIp` yet (RFC 2131 §4.1). */
  replyMacHi = 0xffff;
  replyMacLo = 0xffffffff;

  #serverIp = 0;
  #subnetMask = 0;
  #network = 0;
  readonly #dns: readonly number[];
  readonly #search: SearchDomains | null;
  readonly #oneLease: boolean;
  readonly #hostname: Uint8Array;
  readonly #fqdn: SearchDomains = new SearchDomains();
  #mtu: number;
  readonly #pool: Lease[] = [];
  readonly #message: DhcpMessage = new DhcpMessage();
  readonly #reply: DhcpReply = new DhcpReply();
  #uses = 0;

  /**
   * @param mtu bytes of the link's IP packets
   * @param dns the DNS servers to announce, as 32-bit values; may be empty
   * @param search domains for short names, followed; null = none
   */
  constructor(
    own: OwnAddresses,
    mtu: number,
    dns: readonly number[],
    search: SearchDomains | null = null,
    { oneLease = false, hostname = '', fqdn = '' }: DhcpManners = {},
  ) {
    this.#oneLease = oneLease;
    this.#hostname = new TextEncoder().encode(hostname);
    this.#fqdn.set([fqdn]);
    this.#dns = dns;
    this.#search = search;
    this.#mtu = mtu;
    this.changeAddresses(own);
  }

  /** These are the addresses from now on: nobody has a lease. */
  changeAddresses(own: OwnAddresses): void {
    this.#serverIp = own.gateway4.w3;
    this.#subnetMask = own.prefix4 === 0 ? 0 : (0xffffffff << (32 - own.prefix4)) >>> 0;
    this.#network = (own.lease4.w3 & this.#subnetMask) >>> 0;
    this.#pool.length = 0;
    const address = new IpAddress();
    for (let ip = own.lease4.w3, i = 0; i < (this.#oneLease ? 1 : POOL_SIZE); ip++, i++) {
      if (ip !== own.lease4.w3 && (!this.#isHost(ip) || own.owns(address.setV4(ip)))) continue;
      const lease = new Lease();
      lease.ip = ip;
      this.#pool.push(lease);
    }
  }

  /** The link has got another MTU. */
  changeMtu(mtu: number): void {
    this.#mtu = mtu;
  }

  /**
   * Take the UDP payload of `len` bytes at `off` that a guest sent to port 67. Returns the length of the reply written to
   * `out` at `outOff` (at least 900 bytes of room), which goes from port 67 of the gateway to port 68 of `replyIp`; 0 when
   * the message gets none; negative: drop reason.
   */
  handle(view: DataView, off: number, len: number, out: DataView, outOff: number): number {
    // Who has no address has nothing to give.
    if (this.#serverIp === 0) return 0;
    const m = this.#message;
    const reason = parseDhcp(view, off, len, m);
    if (reason < 0) return reason;
    if (m.op !== BOOTREQUEST || m.giaddr !== 0 || isGroupMac(m.chaddrHi)) return 0;
    switch (m.messageType) {
      case DHCP_DISCOVER:
        return this.#onDiscover(m, out, outOff);
      case DHCP_REQUEST:
        return this.#onRequest(m, out, outOff);
      case DHCP_INFORM:
        // RFC 2131 §4.3.5: configuration only; the address is the client's own affair.
        return this.#isHost(m.ciaddr) ? this.#answer(m, DHCP_ACK, 0, 0, out, outOff) : 0;
      case DHCP_DECLINE:
        return this.#giveBack(m, m.requestedIp, true);
      case DHCP_RELEASE:
        return this.#giveBack(m, m.ciaddr, false);
      default:
        return 0;
    }
  }

  #onDiscover(m: DhcpMessage, out: DataView, outOff: number): number {
    const lease = this.#leaseOf(m) ?? this.#choose(m.requestedIp);
    this.#bind(lease, m);
    return this.#answer(m, DHCP_OFFER, lease.ip, this.#leaseSeconds, out, outOff);
  }

  /** RFC 2131 §4.3.2: which of the four kinds of request it is shows in the fields that are set. */
  #onRequest(m: DhcpMessage, out: DataView, outOff: number): number {
    const mine = this.#leaseOf(m);
    if (m.serverId !== 0 && m.serverId !== this.#serverIp) {
      // The client took another server's offer: ours is free again.
      if (mine !== null) mine.macHi = -1;
      return 0;
    }
    const wanted = m.requestedIp !== 0 ? m.requestedIp : m.ciaddr;
    let granted = mine;
    if (mine === null) {
      // Nobody remembers leases when we were started anew. A client that uses an address goes on with it (renewing),
      // one that only remembers an address gets it if nothing better is free for it (init-reboot).
      const lease = this.#freeLease(wanted);
      const renewing = m.ciaddr !== 0;
      if (lease !== null && m.serverId === 0 && (renewing || this.#choose(wanted) === lease)) granted = lease;
    }
    if (granted === null || granted.ip !== wanted) return this.#answer(m, DHCP_NAK, 0, 0, out, outOff);
    this.#bind(granted, m);
    return this.#answer(m, DHCP_ACK, granted.ip, this.#leaseSeconds, out, outOff);
  }

  get #leaseSeconds(): number {
    return this.#oneLease ? FOR_EVER : LEASE_SECONDS;
  }

  #giveBack(m: DhcpMessage, ip: number, declined: boolean): number {
    const lease = this.#leaseOf(m);
    if (lease === null || lease.ip !== ip || (m.serverId !== 0 && m.serverId !== this.#serverIp)) return 0;
    lease.macHi = -1;
    lease.declined = declined;
    lease.lastUse = ++this.#uses;
    return 0;
  }

  #answer(
    m: DhcpMessage,
    messageType: number,
    yiaddr: number,
    leaseSeconds: number,
    out: DataView,
    outOff: number,
  ): number {
    const r = this.#reply;
    const full = messageType !== DHCP_NAK;
    r.messageType = messageType;
    r.xid = m.xid;
    r.flags = m.flags;
    // RFC 2131 table 3: ciaddr is repeated in an ACK only.
    r.ciaddr = messageType === DHCP_ACK ? m.ciaddr : 0;
    r.yiaddr = yiaddr;
    r.chaddrHi = m.chaddrHi;
    r.chaddrLo = m.chaddrLo;
    r.serverId = this.#serverIp;
    r.leaseSeconds = leaseSeconds;
    r.subnetMask = full ? this.#subnetMask : 0;
    r.broadcast = full ? (this.#network | ~this.#subnetMask) >>> 0 : 0;
    r.router = full ? this.#serverIp : 0;
    r.routerIsBeyond = full && (this.#serverIp & this.#subnetMask) >>> 0 !== this.#network;
    r.hostname = full ? this.#hostname : NO_NAME;
    r.fqdn = full ? this.#fqdn.names : NO_NAME;
    r.dns = full ? this.#dns : NO_SERVERS;
    r.search = full ? this.#search : null;
    r.mtu = full ? this.#mtu : 0;

    // RFC 2131 §4.1. A NAK goes to all, since the client's address is wrong.
    const toAll = !full || (m.ciaddr === 0 && (m.flags & DHCP_FLAG_BROADCAST) !== 0);
    this.replyIp = toAll ? BROADCAST_IP : m.ciaddr !== 0 ? m.ciaddr : yiaddr;
    this.replyMacHi = toAll ? 0xffff : m.chaddrHi;
    this.replyMacLo = toAll ? 0xffffffff : m.chaddrLo;
    return emitDhcpReply(out, outOff, r);
  }

  #bind(lease: Lease, m: DhcpMessage): void {
    lease.macHi = m.chaddrHi;
    lease.macLo = m.chaddrLo;
    lease.declined = false;
    lease.lastUse = ++this.#uses;
  }

  #leaseOf(m: DhcpMessage): Lease | null {
    if (this.#oneLease) return this.#pool[0] as Lease;
    for (let i = 0; i < this.#pool.length; i++) {
      const lease = this.#pool[i] as Lease;
      if (lease.macHi === m.chaddrHi && lease.macLo === m.chaddrLo) return lease;
    }
    return null;
  }

  /** The free lease of this address, or of any for `ANY_IP`. */
  #freeLease(ip: number): Lease | null {
    for (let i = 0; i < this.#pool.length; i++) {
      const lease = this.#pool[i] as Lease;
      if ((ip === ANY_IP || lease.ip === ip) && lease.macHi < 0 && !lease.declined) return lease;
    }
    return null;
  }

  /** The address for a new client: the first, else the wanted one, else any free one, else the longest unused. */
  #choose(wanted: number): Lease {
    const first = this.#pool[0] as Lease;
    const free = this.#freeLease(first.ip) ?? this.#freeLease(wanted) ?? this.#freeLease(ANY_IP);
    if (free !== null) return free;
    let oldest = first;
    for (let i = 1; i < this.#pool.length; i++) {
      const lease = this.#pool[i] as Lease;
      if (lease.lastUse < oldest.lastUse) oldest = lease;
    }
    return oldest;
  }

  /** Can the address be a host's: in our network, neither its first (the network) nor its last (broadcast)? */
  #isHost(ip: number): boolean {
    const host = (ip & ~this.#subnetMask) >>> 0;
    return (ip & this.#subnetMask) >>> 0 === this.#network && host !== 0 && host !== ~this.#subnetMask >>> 0;
  }
}
