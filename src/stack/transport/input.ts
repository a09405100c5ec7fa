/** TCP and UDP of what comes in: headers and checksums; DHCP and DHCPv6 are answered here, the rest is for the flows. */
import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { Egress } from '../link/egress.ts';
import type { IngressHandler, IngressParts } from '../link/ingress-parts.ts';
import { hasGoodSum, type Packet } from '../link/packet.ts';
import type { DhcpServer } from '../services/dhcp-server.ts';
import type { Dhcpv6Server } from '../services/dhcpv6-server.ts';
import { IpAddress, parseIpAddress } from '../wire/address.ts';
import { foldSum, pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';
import { DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT } from '../wire/dhcpv6.ts';
import { DropReason } from '../wire/drop-reason.ts';
import { PROTOCOL_TCP, parseTcp, TcpHeader } from '../wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, parseUdp, UDP_HEADER_LEN, UdpHeader } from '../wire/udp.ts';

export const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
/** All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1). */
const ALL_DHCP_SERVERS = parseIpAddress('ff02::1:2');

export class TransportInput {
  readonly #slab: Slab;
  readonly #own: OwnAddresses;
  readonly #egress: Egress;
  readonly #dhcp: DhcpServer | null;
  readonly #dhcpv6: Dhcpv6Server | null;
  readonly #handler: IngressHandler;
  readonly #counters: Counters;
  readonly #tcp = new TcpHeader();
  readonly #udp = new UdpHeader();
  readonly #address = new IpAddress();

  constructor(parts: IngressParts) {
    this.#slab = parts.slab;
    this.#own = parts.own;
    this.#egress = parts.egress;
    this.#dhcp = parts.dhcp;
    this.#dhcpv6 = parts.dhcpv6 ?? null;
    this.#handler = parts.handler;
    this.#counters = parts.counters;
  }

  /** A TCP segment; 0 or a drop reason. */
  receiveTcp(p: Packet): number {
    const h = this.#tcp;
    this.#counters.add(Counter.RxTcp, 1);
    const reason = parseTcp(this.#slab.view, p.offset, p.length, h);
    if (reason < 0) return reason;
    if (!p.checksumGood && !hasGoodSum(this.#slab.view, p, PROTOCOL_TCP)) return DropReason.TcpCsum;
    if (p.dst.isGroup || this.#own.isLinkBroadcast(p.dst)) return DropReason.PolicyGroup;
    this.#handler.onTcp(p, h);
    return 0;
  }

  /** A UDP datagram; 0 or a drop reason. */
  receiveUdp(p: Packet): number {
    const h = this.#udp;
    this.#counters.add(Counter.RxUdp, 1);
    const reason = parseUdp(this.#slab.view, p.offset, p.length, h);
    if (reason < 0) return reason;
    if (h.checksum === 0) {
      if (!p.isV4) return DropReason.UdpCsum0;
    } else if (!p.checksumGood) {
      // RFC 768: the sum covers the length the UDP header states.
      p.length = h.length;
      if (!hasGoodSum(this.#slab.view, p, PROTOCOL_UDP)) return DropReason.UdpCsum;
    }
    if (h.dstPort === DHCP_SERVER_PORT && p.isV4 && this.#dhcp !== null) {
      if (p.dst.w3 === 0xffffffff || p.dst.equals(this.#own.gateway4)) {
        return this.#receiveDhcp(p, this.#dhcp);
      }
    }
    if (h.dstPort === DHCPV6_SERVER_PORT && !p.isV4 && this.#dhcpv6 !== null) {
      if (p.dst.equals(ALL_DHCP_SERVERS) || p.dst.equals(this.#own.linkLocal6))
        return this.#receiveDhcpv6(p, this.#dhcpv6);
    }
    if (p.dst.isGroup || this.#own.isLinkBroadcast(p.dst)) return DropReason.UdpGroup;
    if (h.srcPort === 0) return DropReason.UdpPort0;
    this.#handler.onUdp(p, h);
    return 0;
  }

  #receiveDhcpv6(p: Packet, dhcpv6: Dhcpv6Server): number {
    const h = this.#udp;
    const view = this.#slab.view;
    const egress = this.#egress;
    const at = egress.transport + UDP_HEADER_LEN;
    const size = dhcpv6.handle(view, p.offset + UDP_HEADER_LEN, h.length - UDP_HEADER_LEN, view, at);
    if (size <= 0) return size;
    const out = egress.beginUdp(this.#own.linkLocal6, DHCPV6_SERVER_PORT, p.src, DHCPV6_CLIENT_PORT);
    out.headLength += size;
    // Who asks for an address need not be a neighbour yet.
    out.macHi = p.macHi;
    out.macLo = p.macLo;
    egress.send();
    return 0;
  }

  #receiveDhcp(p: Packet, dhcp: DhcpServer): number {
    const h = this.#udp;
    const view = this.#slab.view;
    const at = this.#egress.transport + UDP_HEADER_LEN;
    const size = dhcp.handle(view, p.offset + UDP_HEADER_LEN, h.length - UDP_HEADER_LEN, view, at);
    if (size <= 0) return size;
    const to = this.#address.setV4(dhcp.replyIp);
    const total = UDP_HEADER_LEN + size;
    emitUdp(view, this.#egress.transport, DHCP_SERVER_PORT, DHCP_CLIENT_PORT, total, 0);
    const pseudo = pseudoHeaderSum(this.#own.gateway4, to, PROTOCOL_UDP, total);
    const sum = ~foldSum(sumBytes(view, this.#egress.transport, total, pseudo)) & 0xffff;
    view.setUint16(this.#egress.transport + 6, sum === 0 ? 0xffff : sum);
    const { gateway4 } = this.#own;
    const out = this.#egress.begin(gateway4, to, PROTOCOL_UDP);
    out.headLength = total;
    // The client may not answer ARP yet (RFC 2131 §4.1).
    out.macHi = dhcp.replyMacHi;
    out.macLo = dhcp.replyMacLo;
    this.#egress.send();
    return 0;
  }
}
