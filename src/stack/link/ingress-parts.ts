/** What the way of a packet into the stack needs: the parts that answer, and who takes over what they do not. */
import type { Slab } from '../buffer/slab.ts';
import type { Counters } from '../counters.ts';
import type { Icmp } from '../icmp/icmp.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { Reassembler } from '../ip/reassembly.ts';
import type { NeighborTable } from '../neighbor/cache.ts';
import type { RateLimit } from '../rate-limit.ts';
import type { DhcpServer } from '../services/dhcp-server.ts';
import type { Dhcpv6Server } from '../services/dhcpv6-server.ts';
import type { RouterAdvertiser } from '../services/router-advertiser.ts';
import type { TcpHeader } from '../wire/tcp.ts';
import type { UdpHeader } from '../wire/udp.ts';
import type { Egress } from './egress.ts';
import type { Link } from './link.ts';
import type { Packet } from './packet.ts';

/** Where the flows take over. Everything passed is borrowed until return. */
export interface IngressHandler {
  /** A TCP segment with good ports and checksum; `p.offset` is its header, the payload follows it. */
  onTcp(p: Packet, h: TcpHeader): void;
  /** A datagram, also to port 0; the payload is `h.length` - 8 bytes behind the header at `p.offset`. */
  onUdp(p: Packet, h: UdpHeader): void;
  /** An echo request to an address that is not ours. */
  onEcho(p: Packet): void;
  /**
   * An ICMP error "unreachable" about a packet of ours; its quote begins behind the ICMP header at `p.offset`. Whether it
   * meant anything.
   */
  onUnreachable(p: Packet, code: number): boolean;
}

export interface IngressParts {
  slab: Slab;
  link: Link;
  own: OwnAddresses;
  neighbors: NeighborTable;
  reassembler: Reassembler;
  icmp: Icmp;
  egress: Egress;
  /** Null: not offered. */
  dhcp: DhcpServer | null;
  dhcpv6?: Dhcpv6Server | null;
  ra: RouterAdvertiser | null;
  /** Echo requests to all addresses are answered here, this many; null: those to our own, without a limit. */
  echoLimit?: RateLimit | null;
  handler: IngressHandler;
  counters: Counters;
  /** Frames that come from our own MAC address are taken as well. */
  sharedMac: boolean;
  /** Neighbour solicitations are not answered. */
  silentNdp?: boolean;
}
