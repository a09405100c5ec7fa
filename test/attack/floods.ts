/**
 * Floods of hazards, by name: the packets that the sender repeats, and what it changes in each so that they are not all
 * the same. Ids are those of docs/hazards.md.
 */
import {
  ALLOWED4,
  arp,
  DNS4,
  frame,
  GATEWAY4,
  GUEST_MAC,
  GUEST6,
  ipBytes,
  ipv4,
  ipv6,
  ndp,
  optionsHeader,
  pattern,
  SYN,
  TCP,
  tcp,
  tcpOptions,
  tcpSegment,
  UDP,
  URG,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

export interface Flood {
  name: string;
  /** Frames, sent in turns. */
  frames: () => Buffer[];
}

const COUNT = 4096;
const QUERY = Buffer.from('000001000001000000000000076578616d706c6503636f6d0000010001', 'hex');

function many(make: (i: number) => Buffer): () => Buffer[] {
  return () => Array.from({ length: COUNT }, (_, i) => make(i));
}

const port = (i: number): number => 1024 + ((i * 13) % 60_000);

export const floods: readonly Flood[] = [
  {
    name: 'A-05 metadata service',
    frames: many((i) => frame(tcp({ dst: '169.254.169.254', srcPort: port(i), flags: SYN }))),
  },
  {
    name: 'T-22 SYN to a closed port',
    frames: many((i) => frame(tcp({ dst: ALLOWED4, srcPort: port(i), dstPort: 1, flags: SYN }))),
  },
  {
    name: 'T-22 SYN to silence',
    frames: many((i) =>
      frame(tcp({ dst: `203.0.113.${i & 127}`, srcPort: port(i), dstPort: 80 + (i >> 7), flags: SYN })),
    ),
  },
  {
    name: 'T-02 options, T-18 URG',
    frames: many((i) =>
      frame(
        tcp({
          dst: ALLOWED4,
          srcPort: port(i),
          flags: URG | 16,
          urgent: i,
          options: Buffer.from([2, 0, 5, 255]),
        }),
      ),
    ),
  },
  {
    name: 'F-05 first parts',
    frames: many((i) =>
      frame(ipv4({ id: i, mf: true, protocol: UDP }, udpDatagram({ dstPort: 9 }, pattern(1000)))),
    ),
  },
  {
    name: 'F-05 middle parts',
    frames: many((i) => frame(ipv4({ id: i, offset: 1400, mf: true, protocol: TCP }, pattern(1000)))),
  },
  {
    name: 'I-03 LAND, I-04 spoofed',
    frames: many((i) =>
      frame(
        i % 2 === 0
          ? tcp({ src: ALLOWED4, dst: ALLOWED4, srcPort: 80 })
          : udp({ src: `20.0.${i >> 8}.${i & 255}` }),
      ),
    ),
  },
  {
    name: 'S-02 header chains, S-03',
    frames: many((i) =>
      frame(
        ipv6(
          { next: 60 },
          Buffer.concat([
            optionsHeader(60, Buffer.from([0x80 | (i & 63), 4, 0, 0, 0, 0])),
            optionsHeader(59, Buffer.alloc(6)),
          ]),
        ),
      ),
    ),
  },
  {
    name: 'S-07 solicitations',
    frames: many((i) =>
      frame(ndp(GUEST6, 'ff02::1:ff00:1', 135, 0, ipBytes(`fd00::${(i + 1).toString(16)}`))),
    ),
  },
  {
    name: 'E-04 ARP',
    frames: many((i) =>
      arp({ op: 1 + (i & 1), senderIp: `10.0.2.${101 + (i % 100)}`, senderMac: GUEST_MAC }),
    ),
  },
  {
    name: 'C-04 closed UDP ports',
    frames: many((i) => frame(udp({ dst: GATEWAY4, dstPort: port(i) }, pattern(64)))),
  },
  {
    name: 'U-04 source ports',
    frames: many((i) => frame(udp({ dst: ALLOWED4, srcPort: port(i), dstPort: 9 }, pattern(64)))),
  },
  { name: 'U-04 DNS', frames: many((i) => frame(udp({ dst: DNS4, srcPort: port(i), dstPort: 53 }, QUERY))) },
  {
    name: 'E-01, T-01 garbage',
    frames: many((i) =>
      frame(
        ipv4(
          { protocol: TCP },
          tcpSegment({ dataOffset: i & 15, options: tcpOptions({ mss: i }) }).subarray(0, i % 24),
        ),
      ),
    ),
  },
];
