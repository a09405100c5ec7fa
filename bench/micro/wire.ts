/** Parsers and emitters of the wire room, on the bytes of a real packet. */
import {
  ETHERTYPE_IPV4,
  EthernetHeader,
  emitEthernet,
  parseEthernet,
} from '../../src/stack/wire/ethernet.ts';
import { emitIpv4, Ipv4Header, parseIpv4 } from '../../src/stack/wire/ipv4.ts';
import { emitIpv6, Ipv6Header, parseIpv6 } from '../../src/stack/wire/ipv6.ts';
import { emitTcp, PROTOCOL_TCP, parseTcp, TCP_SYN, TcpHeader } from '../../src/stack/wire/tcp.ts';
import { emitUdp, parseUdp, UdpHeader } from '../../src/stack/wire/udp.ts';
import { emitVnet, parseVnet, VnetHeader } from '../../src/stack/wire/vnet-header.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import {
  dataHeader,
  GUEST_MAC_HI,
  GUEST_MAC_LO,
  GUEST_PORT,
  guest4,
  guest6,
  REMOTE_PORT,
  remote4,
  remote6,
} from './fixture.ts';

const SPACING = 256;

export function wireCases(): CaseGroup {
  const view = new DataView(new ArrayBuffer(16 * SPACING));
  let next = 0;
  const place = (): number => SPACING * next++;

  const ethernetAt = place();
  const ethernet = new EthernetHeader();
  emitEthernet(view, ethernetAt, 0x5255, 0x0a000202, GUEST_MAC_HI, GUEST_MAC_LO, ETHERTYPE_IPV4);

  const ip4At = place();
  const ip4 = new Ipv4Header();
  ip4.totalLen = 1500;
  ip4.ttl = 64;
  ip4.protocol = PROTOCOL_TCP;
  ip4.src.copyFrom(guest4);
  ip4.dst.copyFrom(remote4);
  emitIpv4(view, ip4At, ip4);
  const ip4Out = new Ipv4Header();

  const ip6At = place();
  const ip6 = new Ipv6Header();
  ip6.payloadLen = 1460;
  ip6.nextHeader = PROTOCOL_TCP;
  ip6.hopLimit = 64;
  ip6.src.copyFrom(guest6);
  ip6.dst.copyFrom(remote6);
  emitIpv6(view, ip6At, ip6);
  const ip6Out = new Ipv6Header();

  const data = dataHeader();
  const dataAt = place();
  const dataLength = emitTcp(view, dataAt, data);
  const syn = dataHeader();
  syn.flags = TCP_SYN;
  syn.mss = 1460;
  syn.sackPermitted = true;
  syn.windowScale = 7;
  const synAt = place();
  const synLength = emitTcp(view, synAt, syn);
  const sack = dataHeader();
  sack.sackCount = 3;
  for (let i = 0; i < 3; i++) {
    sack.sackLeft[i] = 0xe0000000 + 4096 * i;
    sack.sackRight[i] = 0xe0000000 + 4096 * i + 1448;
  }
  const sackAt = place();
  const sackLength = emitTcp(view, sackAt, sack);
  const tcp = new TcpHeader();

  const udpAt = place();
  emitUdp(view, udpAt, GUEST_PORT, REMOTE_PORT, 1408, 0xabcd);
  const udp = new UdpHeader();

  const vnetAt = place();
  const vnet = new VnetHeader();
  vnet.flags = 1;
  vnet.gsoType = 1;
  vnet.hdrLen = 66;
  vnet.gsoSize = 1448;
  vnet.csumStart = 34;
  vnet.csumOffset = 16;
  emitVnet(view, vnetAt, vnet);
  const vnetOut = new VnetHeader();

  const scratch = place();
  const c = (name: string, run: () => void): Case => ({ group: 'wire', name, run });
  return {
    cases: [
      c('parse ethernet', () => keep(parseEthernet(view, ethernetAt, 1514, ethernet))),
      c('emit ethernet', () => {
        emitEthernet(view, scratch, GUEST_MAC_HI, GUEST_MAC_LO, 0x5255, 0x0a000202, ETHERTYPE_IPV4);
      }),
      c('parse vnet', () => keep(parseVnet(view, vnetAt, 65000, vnetOut))),
      c('emit vnet', () => emitVnet(view, scratch, vnet)),
      c('parse ipv4', () => keep(parseIpv4(view, ip4At, 1500, ip4Out))),
      c('emit ipv4', () => keep(emitIpv4(view, scratch, ip4))),
      c('parse ipv6', () => keep(parseIpv6(view, ip6At, 1500, ip6Out))),
      c('emit ipv6', () => keep(emitIpv6(view, scratch, ip6))),
      c('parse tcp, timestamps', () => keep(parseTcp(view, dataAt, dataLength, tcp))),
      c('parse tcp, SYN options', () => keep(parseTcp(view, synAt, synLength, tcp))),
      c('parse tcp, 3 SACK blocks', () => keep(parseTcp(view, sackAt, sackLength, tcp))),
      c('parse tcp, rejected', () => keep(parseTcp(view, dataAt, 12, tcp))),
      c('emit tcp, timestamps', () => keep(emitTcp(view, scratch, data))),
      c('emit tcp, 3 SACK blocks', () => keep(emitTcp(view, scratch, sack))),
      c('parse udp', () => keep(parseUdp(view, udpAt, 1408, udp))),
      c('emit udp', () => emitUdp(view, scratch, REMOTE_PORT, GUEST_PORT, 1408, 0xabcd)),
    ],
  };
}
