/**
 * Floods of hazards, by name: the frames that the sender repeats. Each covers a family of rows of docs/hazards.md, whose ids
 * are in its name.
 */
import {
  ACK,
  ALLOWED4,
  ALLOWED6,
  arp,
  arpBody,
  DNS4,
  DNS6,
  echo,
  ethernet,
  FIN,
  fragmentHeader,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  GUEST4,
  GUEST6,
  ICMP,
  ICMPV6,
  icmp,
  ipBytes,
  ipv4,
  ipv6,
  ndp,
  optionsHeader,
  PSH,
  pattern,
  RST,
  SYN,
  TCP,
  type TcpFields,
  tcp,
  tcpOptions,
  tcpSegment,
  UDP,
  URG,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

/** A station of the guest's link that its kernel knows nothing of: what is sent to it is answered by nobody. */
export const STATION = '10.0.2.101';

/** Ports of the host: servers that send for ever and that echo. */
export interface Ports {
  source: number;
  echo: number;
  udpEcho: number;
}

/** A connection from STATION to the host, through the handshake: the next number of either side. */
export interface Connection {
  srcPort: number;
  dstPort: number;
  seq: number;
  ack: number;
}

/** What a flood can be made of. */
export interface Ground {
  ports: Ports;
  connect(dstPort: number, options: Buffer, window: number): Connection;
}

export interface Flood {
  name: string;
  /** Frames, sent in turns. */
  frames: (ground: Ground) => Buffer[];
}

const COUNT = 4096;
const QUERY = Buffer.from('000001000001000000000000076578616d706c6503636f6d0000010001', 'hex');
const NONE = Buffer.alloc(0);

function many(make: (i: number) => Buffer): () => Buffer[] {
  return () => Array.from({ length: COUNT }, (_, i) => make(i));
}

/** One kind after the other. */
function mixed(...kinds: ((i: number) => Buffer)[]): () => Buffer[] {
  return many((i) => (kinds[i % kinds.length] as (i: number) => Buffer)(i));
}

const port = (i: number): number => 1024 + ((i * 13) % 60_000);

function segment(c: Connection, f: TcpFields, payload: Buffer = NONE): Buffer {
  return frame(
    tcp(
      {
        src: STATION,
        dst: ALLOWED4,
        srcPort: c.srcPort,
        dstPort: c.dstPort,
        seq: c.seq,
        ack: c.ack,
        flags: ACK,
        ...f,
      },
      payload,
    ),
  );
}

function part6(id: number, offset: number, mf: boolean, data: Buffer, next = UDP): Buffer {
  return frame(ipv6({ next: 44 }, Buffer.concat([fragmentHeader(next, offset, mf, id), data])));
}

/** A whole datagram in fragments. */
function cut(id: number, protocol: number, dst: string, body: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; at += 1440) {
    const mf = at + 1440 < body.length;
    parts.push(frame(ipv4({ id, offset: at, mf, protocol, dst }, body.subarray(at, at + 1440))));
  }
  return parts;
}

export const floods: readonly Flood[] = [
  {
    name: 'E-01 to E-03 odd frames',
    frames: mixed(
      (i) => frame(udp({})).subarray(0, 14 + (i % 20)),
      (i) => ethernet(i, pattern(46)),
      (i) =>
        ethernet(
          0x8100,
          Buffer.concat([...Array.from({ length: i % 9 }, () => Buffer.from([0, 1, 0x81, 0])), udp({})]),
        ),
      (i) => ethernet(0x88f8, pattern(i % 21)),
      (i) => ethernet(0x0806, arpBody({ hlen: i, plen: i >> 3 }).subarray(0, i % 29)),
      (i) => frame(udp({}), GUEST_MAC, `52:54:00:00:00:${(i & 255).toString(16).padStart(2, '0')}`),
    ),
  },
  {
    name: 'E-04, S-06, S-07 neighbours',
    frames: mixed(
      (i) => arp({ op: 1 + ((i >> 2) & 1), senderIp: `10.0.2.${101 + (i % 100)}`, senderMac: GUEST_MAC }),
      (i) => arp({ targetIp: `10.0.2.${i & 255}` }),
      (i) => frame(ndp(GUEST6, 'ff02::1:ff00:1', 135, 0, ipBytes(`fd00::${(i + 1).toString(16)}`))),
      (i) => frame(ndp(GUEST6, 'ff02::1', 136, 0x20000000, ipBytes(i % 8 === 3 ? GATEWAY6 : GUEST6))),
      (i) => frame(ndp(GUEST6, GATEWAY6, 135, 0, ipBytes(GATEWAY6), i % 3 === 0 ? 255 : i & 255)),
      () => frame(ndp(GUEST6, 'ff02::2', 133, 0, NONE)),
    ),
  },
  {
    name: 'A-04, A-05 closed addresses',
    frames: mixed(
      (i) => frame(tcp({ dst: '169.254.169.254', srcPort: port(i) })),
      (i) => frame(udp({ dst: '169.254.169.254', srcPort: port(i) })),
      (i) => frame(echo('169.254.169.254', i, 1)),
      (i) => frame(tcp({ dst: GATEWAY4, srcPort: port(i), dstPort: port(i * 7) })),
      (i) => frame(tcp({ dst: GATEWAY6, srcPort: port(i), dstPort: port(i * 7) })),
      (i) => frame(tcp({ dst: `::ffff:127.0.0.${i & 255}`, srcPort: port(i) })),
      (i) => frame(tcp({ dst: '127.0.0.1', srcPort: port(i), dstPort: i })),
    ),
  },
  {
    name: 'I-01 to I-05 headers',
    frames: mixed(
      (i) => frame(ipv4({ ihl: i & 15 }, udpDatagram({}))),
      (i) => frame(ipv4({ totalLength: i * 16 }, udpDatagram({}))),
      (i) => frame(ipv4({ checksum: i }, udpDatagram({}))),
      (i) => frame(ipv4({ options: Buffer.from([i & 1 ? 131 : 7, i & 63, 4, 0]) }, udpDatagram({}))),
      () => frame(tcp({ src: ALLOWED4, dst: ALLOWED4, srcPort: 80 })),
      (i) => frame(udp({ src: `20.0.${i >> 8}.${i & 255}` })),
      (i) => frame(ipv4({ protocol: i & 255 }, udp({}))),
      (i) => frame(ipv4({ ttl: i & 1 }, udpDatagram({ srcPort: port(i) }))),
    ),
  },
  {
    name: 'S-01 to S-05 IPv6 headers',
    frames: mixed(
      (i) =>
        frame(
          ipv6(
            { next: 60 },
            Buffer.concat([
              optionsHeader(60, Buffer.from([0x80 | (i & 63), 4, 0, 0, 0, 0])),
              optionsHeader(59, Buffer.alloc(6)),
            ]),
          ),
        ),
      () =>
        frame(
          ipv6(
            { next: 60 },
            Buffer.concat(Array.from({ length: 150 }, () => optionsHeader(60, Buffer.alloc(6)))),
          ),
        ),
      (i) => frame(ipv6({ payloadLength: i * 16 }, udpDatagram({ dst: ALLOWED6 }))),
      (i) =>
        frame(ipv6({ next: 43 }, Buffer.concat([Buffer.from([UDP, 2, i, 1 + (i & 3)]), Buffer.alloc(20)]))),
      (i) => frame(ipv6({ next: i & 255 }, pattern(40))),
      (i) => frame(udp({ src: 'fe80::77', dst: ALLOWED6, srcPort: port(i) })),
      (i) => frame(tcp({ dst: `ff0e::${i.toString(16)}`, src: GUEST6 })),
    ),
  },
  {
    name: 'F-05 first parts',
    frames: many((i) =>
      frame(ipv4({ id: i, mf: true, protocol: UDP }, udpDatagram({ dstPort: 9 }, pattern(1000)))),
    ),
  },
  {
    name: 'F-05 first parts, IPv6',
    frames: many((i) => part6(i, 0, true, udpDatagram({ dst: ALLOWED6 }, pattern(1000)))),
  },
  {
    name: 'F-05 middle parts',
    frames: mixed(
      (i) => frame(ipv4({ id: i, offset: 1400, mf: true, protocol: TCP }, pattern(1000))),
      (i) => part6(i, 1400, true, pattern(1000), TCP),
    ),
  },
  {
    name: 'F-01 to F-06 overlaps, tiny',
    frames: mixed(
      (i) => frame(ipv4({ id: i >> 3, mf: true, protocol: UDP }, pattern(40))),
      (i) => frame(ipv4({ id: i >> 3, offset: 24, protocol: UDP }, pattern(8 * (1 + (i & 7))))),
      (i) => frame(ipv4({ id: i & 15, offset: 8 * (i >> 4), mf: true, protocol: UDP }, pattern(8))),
      (i) => frame(ipv4({ id: i, offset: 65_528, protocol: UDP }, pattern(1400))),
      (i) => part6(i >> 3, 0, true, pattern(40)),
      (i) => part6(i >> 3, 32, (i & 1) === 0, pattern(8 * (1 + (i & 7)))),
      (i) => part6(i, 0, true, Buffer.concat([fragmentHeader(UDP, 0, true, i), pattern(64)]), 44),
    ),
  },
  {
    name: 'T-22 SYN to a closed port',
    frames: mixed(
      (i) => frame(tcp({ dst: ALLOWED4, srcPort: port(i), dstPort: 1 })),
      (i) => frame(tcp({ dst: ALLOWED6, srcPort: port(i), dstPort: 1 })),
    ),
  },
  {
    name: 'T-22 SYN to silence',
    frames: mixed(
      (i) => frame(tcp({ dst: `203.0.113.${i & 127}`, srcPort: port(i), dstPort: 80 + (i >> 7) })),
      (i) =>
        frame(
          tcp({ dst: `2001:db8:dead::${(i & 127).toString(16)}`, srcPort: port(i), dstPort: 80 + (i >> 7) }),
        ),
    ),
  },
  {
    name: 'T-22, T-23 SYN to a server',
    frames: ({ ports }) =>
      Array.from({ length: COUNT }, (_, i) =>
        frame(
          tcp({
            src: i % 2 === 0 ? STATION : GUEST4,
            dst: ALLOWED4,
            srcPort: port(i),
            dstPort: ports.echo,
            seq: i * 77_777,
          }),
        ),
      ),
  },
  {
    name: 'T-01, T-02, T-04, T-18 odd',
    frames: mixed(
      (i) =>
        frame(
          tcp({
            dst: ALLOWED4,
            srcPort: port(i),
            flags: URG | ACK,
            urgent: i,
            options: Buffer.from([2, 0, 5, 255]),
          }),
        ),
      (i) =>
        frame(
          ipv4(
            { protocol: TCP },
            tcpSegment({ dataOffset: i & 15, options: tcpOptions({ mss: i }) }).subarray(0, i % 24),
          ),
        ),
      (i) => frame(tcp({ dst: ALLOWED6, srcPort: port(i), flags: i & 255 & ~SYN })),
      (i) => frame(tcp({ dst: ALLOWED4, srcPort: port(i), flags: SYN | (i & 1 ? FIN : RST) })),
      (i) => frame(tcp({ dst: ALLOWED4, srcPort: port(i), checksum: i, flags: ACK })),
      (i) => frame(tcp({ dst: ALLOWED4, srcPort: i & 1 ? 0 : port(i), dstPort: 0 })),
    ),
  },
  {
    name: 'T-07 to T-09 challenges',
    frames: ({ ports, connect }) => {
      const list = Array.from({ length: 16 }, () => connect(ports.echo, tcpOptions({ mss: 1460 }), 65_535));
      return Array.from({ length: COUNT }, (_, i) => {
        const c = list[i & 15] as Connection;
        const kinds: TcpFields[] = [
          { flags: RST, seq: c.seq + 1 + (i % 60_000) },
          { flags: SYN, seq: c.seq + i },
          { ack: c.ack + 1 + i },
          { ack: c.ack - 100_000 - i },
          { seq: c.seq + 100_000_000 + i },
        ];
        return segment(c, kinds[(i >> 4) % kinds.length] as TcpFields);
      });
    },
  },
  {
    name: 'T-11, T-12 windows, probes',
    frames: ({ ports, connect }) => {
      const full = connect(ports.source, tcpOptions({ mss: 1460, scale: 7 }), 0);
      const talk = connect(ports.echo, tcpOptions({ mss: 1460 }), 65_535);
      return Array.from({ length: COUNT }, (_, i) => {
        // The window of a sender that has much to send, opened a little and shut again; and probes of ours.
        if (i % 3 === 0) return segment(full, { window: i % 2 });
        if (i % 3 === 1) return segment(talk, { seq: talk.seq - 1 });
        return segment(full, { seq: full.seq - 1 }, Buffer.alloc(1));
      });
    },
  },
  {
    name: 'T-14 SACK',
    frames: ({ ports, connect }) => {
      const c = connect(ports.source, tcpOptions({ mss: 216, sack: true, scale: 7 }), 65_535);
      return Array.from({ length: COUNT }, (_, i) => {
        const options = Buffer.alloc(36);
        options.set([1, 1, 5, 34]);
        for (let k = 0; k < 4; k++) {
          const at = 216 * (1 + 2 * ((i * 7 + k * 501) % 2000));
          options.writeUInt32BE((c.ack + at) >>> 0, 4 + 8 * k);
          options.writeUInt32BE((c.ack + at + 216) >>> 0, 8 + 8 * k);
        }
        return segment(c, { options });
      });
    },
  },
  {
    name: 'T-10, T-15 scattered bytes',
    frames: ({ ports, connect }) => {
      const list = Array.from({ length: 8 }, () =>
        connect(ports.echo, tcpOptions({ mss: 1460, sack: true }), 65_535),
      );
      return Array.from({ length: COUNT }, (_, i) => {
        const c = list[i & 7] as Connection;
        const n = i >> 3;
        // Shuffled: 167 has no factor in common with 512.
        return segment(c, { seq: c.seq + 1 + 2 * ((n * 167) % 512), flags: ACK | PSH }, Buffer.alloc(1));
      });
    },
  },
  {
    name: 'U-01, U-06 odd datagrams',
    frames: mixed(
      (i) => frame(ipv4({ protocol: UDP }, udpDatagram({ length: i }, pattern(20)))),
      (i) => frame(udp({ dst: ALLOWED6, checksum: i }, pattern(20))),
      (i) => frame(udp({ srcPort: i & 1 ? 0 : port(i), dstPort: i & 1 ? 9 : 0 })),
      (i) => frame(udp({ dst: `239.1.${i >> 8}.${i & 255}`, dstPort: 9 }, pattern(100))),
      (i) => frame(udp({ dst: '10.0.2.255', dstPort: port(i) }, pattern(100))),
      (i) => frame(udp({ dst: `ff02::${i.toString(16)}`, dstPort: 5353 }, pattern(100))),
    ),
  },
  {
    name: 'U-04 source ports',
    frames: many((i) => frame(udp({ dst: ALLOWED4, srcPort: port(i), dstPort: 9 }, pattern(64)))),
  },
  {
    name: 'U-04 source ports, IPv6',
    frames: many((i) => frame(udp({ dst: ALLOWED6, srcPort: port(i), dstPort: 9 }, pattern(64)))),
  },
  {
    name: 'U-02, U-03 echoed datagrams',
    frames: ({ ports }) =>
      Array.from({ length: COUNT }, (_, i) =>
        frame(
          udp(
            { src: STATION, dst: ALLOWED4, srcPort: 5000 + (i & 7), dstPort: ports.udpEcho },
            pattern(i % 3 === 0 ? 0 : 700 * (i % 3)),
          ),
        ),
      ),
  },
  {
    name: 'U-04 DNS',
    frames: many((i) => frame(udp({ dst: i & 1 ? DNS6 : DNS4, srcPort: port(i), dstPort: 53 }, QUERY))),
  },
  {
    name: 'D-01, D-02, D-06 odd names',
    frames: mixed(
      (i) => frame(udp({ dst: DNS4, srcPort: port(i), dstPort: 53 }, QUERY.subarray(0, i % 30))),
      (i) =>
        frame(
          udp(
            { dst: DNS4, srcPort: port(i), dstPort: 53 },
            Buffer.concat([QUERY.subarray(0, 12), Buffer.from([0xc0, 12 + (i & 7), 0, 1, 0, 1])]),
          ),
        ),
      (i) =>
        frame(
          udp(
            { dst: DNS6, srcPort: port(i), dstPort: 53 },
            Buffer.concat([QUERY.subarray(0, 12), Buffer.from([64 + (i & 127)]), Buffer.alloc(600, 97)]),
          ),
        ),
      (i) => {
        const q = Buffer.from(QUERY);
        q[2] = i & 255;
        return frame(udp({ dst: DNS4, srcPort: i & 1 ? 53 : port(i), dstPort: 53 }, q));
      },
      (i) => {
        const b = Buffer.alloc(300 - (i % 290));
        b.set([1, 1, 6, 0].slice(0, b.length));
        return frame(udp({ dst: '255.255.255.255', srcPort: 68, dstPort: 67 }, b));
      },
      (i) =>
        frame(
          udp({ dst: GATEWAY4, srcPort: port(i), dstPort: 69 }, Buffer.from('\0\x01/etc/passwd\0octet\0')),
        ),
    ),
  },
  {
    name: 'C-01 echo identifiers',
    frames: mixed(
      (i) => frame(echo(ALLOWED4, i * 13, 1, pattern(56))),
      (i) => frame(echo(ALLOWED6, i * 13, 1, pattern(56))),
      (i) => frame(echo(GATEWAY4, i, 1, pattern(1400))),
      (i) => frame(icmp({ dst: ALLOWED4, checksum: i }, pattern(i & 63))),
      (i) => frame(echo(`203.0.113.${i & 127}`, i, 1)),
    ),
  },
  {
    name: 'C-01 fragmented echo',
    frames: () =>
      Array.from({ length: 64 }, (_, i) =>
        cut(i, ICMP, GATEWAY4, echo(GATEWAY4, i, 1, pattern(65_000)).subarray(20)),
      ).flat(),
  },
  {
    name: 'C-03, C-04 errors',
    frames: mixed(
      (i) => frame(udp({ dst: GATEWAY4, dstPort: port(i) }, pattern(64))),
      (i) => frame(udp({ dst: GATEWAY6, dstPort: port(i) }, pattern(64))),
      (i) => frame(icmp({ dst: ALLOWED4, type: 3, code: i & 15, rest: i }, tcp({ dstPort: 80 }))),
      (i) => frame(icmp({ dst: ALLOWED6, type: 1 + (i & 3), rest: i }, tcp({ dst: ALLOWED6 }))),
      (i) => frame(icmp({ dst: GATEWAY4, type: 13 + (i & 3) }, pattern(20))),
      (i) => frame(ipv6({ next: ICMPV6 }, pattern(i & 31))),
    ),
  },
];
