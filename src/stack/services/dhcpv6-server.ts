/**
 * DHCPv6 server for the guest's link (RFC 8415): whoever asks gets the guest's one address, for ever. A pure function of requests;
 * the caller sends the answers.
 *
 * Left out on purpose: releases and refusals, which change nothing (the client gives up by itself), prefixes, rapid commit and
 * reconfiguration.
 */
import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { IpAddress } from '../wire/address.ts';
import {
  DHCPV6_ADVERTISE,
  DHCPV6_CONFIRM,
  DHCPV6_INFORMATION_REQUEST,
  DHCPV6_REBIND,
  DHCPV6_RENEW,
  DHCPV6_REPLY,
  DHCPV6_REQUEST,
  DHCPV6_SOLICIT,
  Dhcpv6Message,
  Dhcpv6Reply,
  emitDhcpv6Reply,
  isOurServerId,
  parseDhcpv6,
} from '../wire/dhcpv6.ts';
import { SearchDomains } from '../wire/search-domains.ts';

export class Dhcpv6Server {
  readonly #own: OwnAddresses;
  readonly #message = new Dhcpv6Message();
  readonly #reply = new Dhcpv6Reply();

  /**
   * @param dns the DNS servers to announce, followed; may be empty
   * @param search domains for short names, followed; null = none
   * @param fqdn the client's name, or empty
   */
  constructor(own: OwnAddresses, dns: readonly IpAddress[], search: SearchDomains | null, fqdn: string) {
    this.#own = own;
    const r = this.#reply;
    r.macHi = own.macHi;
    r.macLo = own.macLo;
    r.dns = dns;
    r.search = search;
    const name = new SearchDomains();
    name.set([fqdn]);
    r.fqdn = name.names;
  }

  /**
   * Take the UDP payload of `len` bytes at `off` that a guest sent to port 547. Returns the length of the answer written to
   * `out` at `outOff` (at least 800 bytes of room), for port 546 of whoever has asked; 0: there is none; negative: drop reason.
   */
  handle(view: DataView, off: number, len: number, out: DataView, outOff: number): number {
    const { guest6 } = this.#own;
    // Who has no address has nothing to give.
    if (guest6.isUnspecified) return 0;
    const m = this.#message;
    const reason = parseDhcpv6(view, off, len, guest6, m);
    if (reason < 0) return reason;
    if (!this.#isForUs(view, m)) return 0;
    const r = this.#reply;
    const isInformation = m.type === DHCPV6_INFORMATION_REQUEST;
    r.type = m.type === DHCPV6_SOLICIT ? DHCPV6_ADVERTISE : DHCPV6_REPLY;
    // A client that has not been told yet may hope for what it likes.
    r.isForeign = m.isForeign && m.type !== DHCPV6_SOLICIT;
    r.address = isInformation ? null : guest6;
    return emitDhcpv6Reply(view, m, out, outOff, r);
  }

  /** RFC 8415 §16: which ids a message must have, and must not. */
  #isForUs(view: DataView, m: Dhcpv6Message): boolean {
    const { macHi, macLo } = this.#own;
    const isOurs = m.serverIdLength > 0 && isOurServerId(view, m, macHi, macLo);
    const isNamed = m.clientIdLength > 0;
    switch (m.type) {
      case DHCPV6_SOLICIT:
      case DHCPV6_CONFIRM:
      case DHCPV6_REBIND:
        return isNamed && m.serverIdLength === 0;
      case DHCPV6_REQUEST:
      case DHCPV6_RENEW:
        return isNamed && isOurs;
      case DHCPV6_INFORMATION_REQUEST:
        return !m.hasAddresses && (m.serverIdLength === 0 || isOurs);
      default:
        return false;
    }
  }
}
