/**
 * Random and mutated bytes through every parser: the result is a number in the range of drop reasons (or an offset), nothing
 * is thrown, and nothing behind `len` is read, because the view ends there and an over-read would throw.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '../../../src/stack/wire/address.ts';
import { ArpPacket, parseArp } from '../../../src/stack/wire/arp.ts';
import { DhcpMessage, parseDhcp } from '../../../src/stack/wire/dhcp.ts';
import { Dhcpv6Message, parseDhcpv6 } from '../../../src/stack/wire/dhcpv6.ts';
import {
  DnsHeader,
  ednsUdpSize,
  hasQuestion,
  parseDnsHeader,
  questionEnd,
} from '../../../src/stack/wire/dns.ts';
import { dropReasonNames } from '../../../src/stack/wire/drop-reason.ts';
import { EthernetHeader, parseEthernet } from '../../../src/stack/wire/ethernet.ts';
import { IcmpHeader, parseIcmp } from '../../../src/stack/wire/icmp.ts';
import { Ipv4Header, parseIpv4 } from '../../../src/stack/wire/ipv4.ts';
import { Ipv6Header, parseIpv6 } from '../../../src/stack/wire/ipv6.ts';
import { NdpMessage, parseNdp } from '../../../src/stack/wire/ndp.ts';
import { parseTcp, TcpHeader } from '../../../src/stack/wire/tcp.ts';
import { parseUdp, UdpHeader } from '../../../src/stack/wire/udp.ts';
import { bytes, naiveChecksum, parseExact } from './wire-fixture.ts';

type Parse = (view: DataView, off: number, len: number) => number;

const ip4 = new Ipv4Header();
const ip6 = new Ipv6Header();
const tcp = new TcpHeader();
const udp = new UdpHeader();
const eth = new EthernetHeader();
const arp = new ArpPacket();
const icmp = new IcmpHeader();
const ndp = new NdpMessage();
const dhcp = new DhcpMessage();
const dhcpv6 = new Dhcpv6Message();
const anyAddress = new IpAddress();
const dns = new DnsHeader();

const ip4Invariant: Parse = (v, o, l) => {
  const r = parseIpv4(v, o, l, ip4);
  if (r === 0) assert.ok(ip4.headerLen >= 20 && ip4.headerLen <= ip4.totalLen && ip4.totalLen <= l);
  return r;
};
const ip6Invariant: Parse = (v, o, l) => {
  const r = parseIpv6(v, o, l, ip6);
  if (r === 0) {
    assert.ok(ip6.transportOff >= 40 && ip6.transportOff <= 40 + 512 + 8 && ip6.transportLen >= 0);
    assert.equal(ip6.transportOff + ip6.transportLen, 40 + ip6.payloadLen);
    assert.equal(v.getUint8(o + ip6.unknownNextHeaderOff), ip6.protocol);
    assert.equal(ip6.icmpCode, -1);
  } else if (ip6.icmpCode >= 0) {
    assert.ok(ip6.icmpCode <= 2 && ip6.problemPointer >= 4 && ip6.problemPointer < l);
  }
  return r;
};
const tcpInvariant: Parse = (v, o, l) => {
  const r = parseTcp(v, o, l, tcp);
  if (r === 0)
    assert.ok(tcp.headerLen >= 20 && tcp.headerLen <= 60 && tcp.headerLen <= l && tcp.sackCount <= 4);
  return r;
};

const HEAD6 = '60000000 0000 2c 40 fd000000000000000000000000000100 fd000000000000000000000000000002';
/** Parser, a valid start that random bytes are laid behind and over, and how to repair what must be right to get deeper. */
const parsers: [string, Parse, string, (data: Uint8Array) => void][] = [
  ['parseEthernet', (v, o, l) => parseEthernet(v, o, l, eth), '', () => {}],
  ['parseArp', (v, o, l) => parseArp(v, o, l, arp), '0001 0800 0604 0001', () => {}],
  ['parseIpv4', ip4Invariant, '4f000000 12340000 4006 0000 0a000264 c0000201', repairIpv4],
  ['parseIpv6', ip6Invariant, HEAD6, repairIpv6],
  ['parseTcp', tcpInvariant, '80000050 00000001 00000002 f010 ffff 0000 0000', () => {}],
  ['parseUdp', (v, o, l) => parseUdp(v, o, l, udp), '80000035 0008 0000', () => {}],
  ['parseIcmp', (v, o, l) => parseIcmp(v, o, l, icmp), '', () => {}],
  [
    'parseNdp',
    (v, o, l) => parseNdp(v, o, l, 255, 0, ndp),
    `87000000 00000000 ${'fd'.repeat(16)} 0101`,
    () => {},
  ],
  [
    'parseDhcpv6',
    (v, o, l) => parseDhcpv6(v, o, l, anyAddress, dhcpv6),
    `03000001 000100040001 0001 0003002800000001${'00'.repeat(8)}00050018${'00'.repeat(24)}`,
    () => {},
  ],
  ['parseDhcp', (v, o, l) => parseDhcp(v, o, l, dhcp), `010106${'00'.repeat(233)} 63825363 350101`, () => {}],
  ['parseDnsHeader', (v, o, l) => parseDnsHeader(v, o, l, dns), '', () => {}],
  ['questionEnd', questionEnd, '12340100 0001 0000 0000 0001', () => {}],
  ['ednsUdpSize', ednsUdpSize, '12340100 0001 0000 0000 0001 0161 00 0001 0001', () => {}],
  [
    'hasQuestion',
    (v, o, l) => {
      const end = questionEnd(v, o, l);
      return end < 0 ? end : Number(hasQuestion(v, o, end, v, o, l));
    },
    '12340100 0001 0000 0000 0001',
    () => {},
  ],
];

function repairIpv4(data: Uint8Array): void {
  if (data.length < 20) return;
  data[0] = 0x45 + ((data[1] ?? 0) % 11);
  data[2] = data.length >> 8;
  data[3] = data.length & 255;
  data[10] = 0;
  data[11] = 0;
  const sum = naiveChecksum(data.subarray(0, Math.min(data.length, ((data[0] ?? 0) & 15) * 4)));
  data[10] = sum >> 8;
  data[11] = sum & 255;
}

function repairIpv6(data: Uint8Array): void {
  if (data.length < 48) return;
  const kinds = [0, 43, 44, 60, 17];
  data[0] = 0x60;
  data[4] = (data.length - 40) >> 8;
  data[5] = (data.length - 40) & 255;
  data[6] = kinds[(data[6] ?? 0) % 5] ?? 0;
  // Short headers with known types, so that the walk gets past the first one.
  for (let i = 40; i + 8 <= data.length; i += 8) {
    if ((data[i + 1] ?? 0) < 200) data[i + 1] = 0;
    data[i] = kinds[(data[i] ?? 0) % 5] ?? 0;
  }
}

describe('random bytes', () => {
  for (const [name, parse, start, repair] of parsers) {
    const check = (data: Uint8Array) => {
      const r = parseExact(data, parse);
      assert.ok(Number.isInteger(r) && r > -dropReasonNames.length && r <= 65535, `result ${r}`);
    };

    test(`${name} never throws on noise`, () => {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), check), { numRuns: 300 });
    });

    test(`${name} never throws on a valid start with mutations`, () => {
      const head = bytes(start);
      const mutations = fc.array(fc.tuple(fc.nat(500), fc.nat(255)), { maxLength: 4 });
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), mutations, fc.boolean(), (tail, changes, fix) => {
          const data = Uint8Array.from([...head, ...tail]);
          for (const [at, value] of changes) if (data.length > 0) data[at % data.length] = value;
          if (fix) repair(data);
          check(data);
        }),
        { numRuns: 600 },
      );
    });
  }
});
