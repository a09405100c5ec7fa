/** Frames into a whole guest: the ingress path with everything behind it, DNS with its answers, DHCP. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  arp,
  DNS4,
  DNS6,
  echo,
  ethernet,
  fragmentHeader,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  GUEST6,
  icmp,
  internetSum,
  ipBytes,
  ipv4,
  ipv6,
  macBytes,
  ndp,
  optionsHeader,
  pattern,
  SYN,
  TCP,
  tcp,
  tcpOptions,
  tcpSegment,
  UDP,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';
import { type Change, changes, mutate, type Target } from './target.ts';

const QUESTION = Buffer.from('03777777076578616d706c6503636f6d0000010001', 'hex');
const QUERY = Buffer.concat([
  Buffer.from('000701000001000000000001', 'hex'),
  QUESTION,
  Buffer.from('0000291000000000000000', 'hex'),
]);

function discover(type: number): Buffer {
  const b = Buffer.alloc(300);
  b.set([1, 1, 6, 0]);
  macBytes(GUEST_MAC).copy(b, 28);
  b.writeUInt32BE(0x63825363, 236);
  b.set([53, 1, type, 50, 4, 10, 0, 2, 100, 55, 3, 1, 3, 6, 255], 240);
  return ethernet(
    0x0800,
    udp({ src: '0.0.0.0', dst: '255.255.255.255', srcPort: 68, dstPort: 67 }, b),
    GUEST_MAC,
    'ff:ff:ff:ff:ff:ff',
  );
}

const udp4 = udpDatagram({ dstPort: 9 }, pattern(100));
const udp6 = udpDatagram({ dst: ALLOWED6, dstPort: 9 }, pattern(100));

/** Good frames of every kind that the stack knows; the number in a case chooses one. */
const seeds: readonly Buffer[] = [
  frame(tcp({ flags: SYN, options: tcpOptions({ mss: 1460, scale: 7, sack: true, ts: [1, 0] }) })),
  frame(tcp({ dst: ALLOWED6, flags: SYN, options: tcpOptions({ mss: 1440 }) })),
  frame(tcp({ flags: 16, ack: 5 }, pattern(60))),
  frame(tcp({ dst: ALLOWED6, flags: 25, ack: 5 }, pattern(60))),
  frame(udp({ dstPort: 7 }, pattern(40))),
  frame(udp({ dst: ALLOWED6, dstPort: 7 }, pattern(40))),
  frame(udp({ dst: GATEWAY4, dstPort: 99 })),
  frame(udp({ dst: DNS4, dstPort: 53 }, QUERY)),
  frame(udp({ dst: DNS6, dstPort: 53 }, QUERY)),
  frame(echo(ALLOWED4, 7, 1, pattern(56))),
  frame(echo(GATEWAY6, 7, 1, pattern(56))),
  frame(icmp({ type: 3, code: 4, rest: 576 }, tcp({}))),
  frame(icmp({ dst: ALLOWED6, type: 2, rest: 1280 }, tcp({ dst: ALLOWED6 }))),
  arp({}),
  arp({ op: 2, targetIp: '10.0.2.100' }),
  frame(
    ndp(
      GUEST6,
      GATEWAY6,
      135,
      0,
      Buffer.concat([ipBytes(GATEWAY6), Buffer.from([1, 1, 82, 84, 0, 18, 52, 86])]),
    ),
  ),
  frame(ndp('fe80::1234', 'ff02::2', 133, 0, Buffer.from([1, 1, 82, 84, 0, 18, 52, 86]))),
  frame(
    ndp(
      GUEST6,
      GATEWAY6,
      136,
      0x60000000,
      Buffer.concat([ipBytes(GUEST6), Buffer.from([2, 1, 82, 84, 0, 18, 52, 86])]),
    ),
  ),
  discover(1),
  discover(3),
  frame(ipv4({ id: 1, mf: true }, udp4.subarray(0, 56))),
  frame(ipv4({ id: 1, offset: 56 }, udp4.subarray(56))),
  frame(ipv4({ id: 2, mf: true, protocol: TCP }, tcpSegment({}))),
  frame(ipv6({ next: 44 }, Buffer.concat([fragmentHeader(UDP, 0, true, 1), udp6.subarray(0, 56)]))),
  frame(ipv6({ next: 44 }, Buffer.concat([fragmentHeader(UDP, 56, false, 1), udp6.subarray(56)]))),
  frame(
    ipv6(
      { next: 0 },
      Buffer.concat([
        optionsHeader(60, Buffer.from([1, 4, 0, 0, 0, 0])),
        optionsHeader(UDP, Buffer.from([5, 2, 0, 0])),
        udp6,
      ]),
    ),
  ),
  frame(ipv6({ next: 43 }, Buffer.concat([Buffer.from([UDP, 0, 0, 0, 0, 0, 0, 0]), udp6]))),
  frame(ipv4({ options: Buffer.from([148, 4, 0, 0]) }, udp4)),
];

interface Step {
  seed: number;
  changes: Change[];
  /** Where changes begin: the frame, the packet, or what is in it. */
  from: number;
  /** Make the checksums good again, so that what lies behind them is reached. */
  repair: boolean;
  waitMs: number;
}

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    seed: fc.nat(seeds.length - 1),
    changes,
    from: fc.constantFrom(0, 14, 34, 54),
    repair: fc.boolean(),
    waitMs: fc.oneof({ weight: 20, arbitrary: fc.constant(0) }, fc.constantFrom(1, 100, 5000, 65_000)),
  }),
  { minLength: 1, maxLength: 12 },
);

/** The IPv4 header's and the transport's checksums of `f`, as far as it still is what it was. */
function repair(f: Buffer): Buffer {
  const out = Buffer.from(f);
  if (out.length < 34) return out;
  const v6 = out.readUInt16BE(12) === 0x86dd;
  const header = v6 ? 40 : ((out[14] as number) & 15) * 4;
  if (!v6 && header >= 20 && 14 + header <= out.length) {
    out.writeUInt16BE(0, 24);
    out.writeUInt16BE(internetSum(out.subarray(14, 14 + header)), 24);
  }
  const protocol = out[v6 ? 20 : 23] as number;
  const field = ({ 1: 2, 6: 16, 17: 6, 58: 2 } as Record<number, number>)[protocol];
  const at = 14 + header;
  if (field === undefined || at + field + 2 > out.length) return out;
  out.writeUInt16BE(0, at + field);
  const body = out.subarray(at);
  const pseudo = Buffer.alloc(4);
  pseudo[1] = protocol;
  pseudo.writeUInt16BE(body.length & 0xffff, 2);
  const addresses = out.subarray(v6 ? 22 : 26, v6 ? 54 : 34);
  const sum = protocol === 1 ? internetSum(body) : internetSum(addresses, pseudo, body);
  out.writeUInt16BE(sum, at + field);
  return out;
}

/** One lab for many cases: state that builds up is what floods are made of. */
const CASES_PER_LAB = 100;
let lab: Lab | null = null;
let cases = 0;

function freshLab(): Lab {
  if (lab === null || cases++ % CASES_PER_LAB === 0) lab = new Lab({ seed: cases, measureHeap: false });
  return lab;
}

function checkBounds(l: Lab): void {
  assert.deepEqual(l.errors, [], 'an exception');
  l.checkCounters();
  l.checkReach();
  l.kernel.forget();
  assert.ok(l.slab.pagesUsed <= l.slab.pageCount / 2, `${l.slab.pagesUsed} pages`);
  assert.ok(l.gauge('tcp.flows') <= CASES_PER_LAB * 12 && l.gauge('udp.flows') <= 4096);
}

export const ingressTarget: Target<Step[]> = {
  name: 'ingress',
  arbitrary: steps,
  run(input) {
    const l = freshLab();
    for (const step of input) {
      const changed = mutate(seeds[step.seed] as Buffer, step.changes, step.from);
      // A read of nothing is not a frame.
      if (changed.length === 0) continue;
      // `take` verifies every frame that comes back: lengths, checksums, no marker.
      l.inject(step.repair ? repair(changed) : changed);
      if (step.waitMs > 0) l.advance(step.waitMs);
    }
    checkBounds(l);
    // G-1: still serving.
    const port = l.port();
    const reply = l
      .send(udp({ srcPort: port, dstPort: 7 }, Buffer.from('alive')))
      .find((d) => d.dstPort === port);
    assert.equal(reply?.payload.toString(), 'alive');
  },
};

interface DnsCase {
  query: Change[];
  answers: Change[][];
  tcp: boolean;
}

export const dnsTarget: Target<DnsCase> = {
  name: 'dns',
  arbitrary: fc.record({ query: changes, answers: fc.array(changes, { maxLength: 5 }), tcp: fc.boolean() }),
  run(input) {
    const l = freshLab();
    l.kernel.forget();
    const port = l.port();
    const out = l.send(
      udp({ dst: DNS4, srcPort: port, dstPort: 53 }, mutate(QUERY, input.query).subarray(0, 1400)),
    );
    assert.ok(out.length <= 1);
    const asked = l.kernel.datagrams.find((d) => d.port === 53 && d.address === '203.0.113.53');
    if (asked !== undefined) {
      for (const list of input.answers) {
        const good = Buffer.from(asked.payload);
        good[2] = (good[2] as number) | 0x80;
        asked.file.deliver(asked, mutate(good, list).subarray(0, 60_000));
        l.run();
        for (const d of l.take()) assert.equal(d.dstPort, port, 'an answer to somebody else');
      }
    }
    checkBounds(l);
    l.advance(5000);
    assert.equal(l.gauge('dns.outstanding'), 0);
  },
};
