/** Hazards I: the IPv4 header. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  AT_IP4_SRC,
  AT_IP4_SUM,
  AT_IP6_SRC,
  AT_TRANSPORT4,
  AT_TRANSPORT6,
  type Decoded,
  echo,
  frame,
  GATEWAY4,
  GUEST4,
  type Ip4Fields,
  icmp,
  internetSum,
  ipv4,
  pattern,
  putLong,
  putWord,
  TCP,
  tcp,
  tcpSegment,
  UDP,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

const data = udpDatagram({ dstPort: 9 }, Buffer.from('data'));
const packet = (f: Ip4Fields, payload: Buffer = data): Buffer =>
  frame(ipv4({ protocol: UDP, ...f }, payload));

function isUnreachable(d: Decoded | undefined, code: number): void {
  assert.equal(d?.icmpType, 3);
  assert.equal(d?.icmpCode, code);
  assert.equal(d?.src, GATEWAY4);
}

describe('hazards I: IPv4 header', () => {
  test('I-01, RQ-50 (RFC 791, RFC 1122 §3.2.1): header lengths and total lengths that cannot be', () => {
    const lab = new Lab();
    for (let ihl = 0; ihl < 5; ihl++) lab.expectDrop('ip4.malformed', `IHL ${ihl}`, packet({ ihl }));
    for (let ihl = 9; ihl < 16; ihl++)
      lab.expectDrop('ip4.malformed', `IHL ${ihl} in 32 bytes`, packet({ ihl }));
    lab.expectDrop(
      'ip4.malformed',
      'header longer than the total length',
      packet({ ihl: 6, totalLength: 20 }),
    );
    // Every total length but those from the header's to the packet's.
    const drops = lab.delta(() => {
      const flood = lab.flood(65_536, [packet({})], (f, i) =>
        putWord(f, 16, i >= 20 && i <= 32 ? 0 : i, AT_IP4_SUM),
      );
      assert.equal(flood.answers, 0);
    });
    assert.equal(drops['drop.ip4.malformed'], 65_536);
    lab.check();
  });

  test('I-01: a total length below what was captured cuts the rest off', () => {
    const lab = new Lab();
    lab.inject(Buffer.concat([packet({}), pattern(10)]));
    assert.equal(lab.kernel.datagrams[0]?.payload.toString(), 'data');
    lab.check();
  });

  test('I-02, RQ-50 (RFC 1122 §3.2.1.2): wrong header checksum', () => {
    const lab = new Lab();
    const right = internetSum(ipv4({ checksum: 0 }, data).subarray(0, 20));
    const drops = lab.delta(() => {
      const flood = lab.flood(65_535, [packet({})], (f, i) => f.writeUInt16BE(right ^ (i + 1), AT_IP4_SUM));
      assert.equal(flood.answers, 0);
    });
    assert.equal(drops['drop.ip4.csum'], 65_535, 'every sum but the right one');
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('I-02: source routes are dropped, options that end behind the header too', () => {
    const lab = new Lab();
    const option = (...bytes: number[]) =>
      packet({ options: Buffer.concat([Buffer.from(bytes), Buffer.alloc((4 - (bytes.length & 3)) & 3)]) });
    for (const type of [131, 137]) {
      lab.expectDrop('ip4.srcroute', `${type} empty`, option(type, 3, 4));
      lab.expectDrop('ip4.srcroute', `${type}`, option(type, 11, 4, 127, 0, 0, 1, 192, 0, 2, 1));
    }
    for (const bytes of [
      [7, 0, 0, 0],
      [7, 1, 0, 0],
      [7, 5, 4, 0],
      [68, 40, 5, 0],
      [1, 1, 1, 7],
      [7, 255, 4, 0],
    ])
      lab.expectDrop('ip4.option', bytes.join(' '), option(...bytes));
    lab.check();
  });

  test('I-02: other options are ignored and do not come back', () => {
    const lab = new Lab();
    const options = [
      Buffer.alloc(40, 1),
      Buffer.from([68, 8, 5, 0, 0, 0, 0, 0]),
      // A timestamp option that is full and has overflowed 15 times.
      Buffer.from([68, 8, 9, 0xf0, 1, 2, 3, 4]),
      Buffer.from([68, 12, 13, 0xf1, 10, 0, 2, 100, 1, 2, 3, 4]),
      Buffer.from([7, 7, 4, 0, 0, 0, 0, 0]),
      Buffer.from([148, 4, 0, 0]),
    ];
    for (const list of options) lab.inject(packet({ options: list }));
    assert.equal(lab.kernel.datagrams.length, options.length);
    // `decode` refuses every header of ours that has options.
    const [reply] = lab.inject(
      frame(
        ipv4({ protocol: 1, options: Buffer.alloc(40, 1), dst: GATEWAY4 }, echo(GATEWAY4, 1, 1).subarray(20)),
      ),
    );
    assert.equal(reply?.icmpType, 0);
    lab.check();
  });

  test('I-03, RQ-50 (RFC 1122 §3.2.1.3): sources that cannot be get no reply of any kind', () => {
    const lab = new Lab();
    const sources = [
      '0.0.0.0',
      '255.255.255.255',
      '127.0.0.1',
      '224.0.0.1',
      '10.0.2.255',
      '10.0.2.0',
      '10.0.2.2',
      '10.0.2.3',
    ];
    for (const src of sources) {
      for (const p of [
        tcp({ src }),
        udp({ src }),
        icmp({ src }),
        tcp({ src, dst: '10.0.2.2' }),
        udp({ src, dst: '10.0.2.2', dstPort: 9 }),
      ])
        lab.expectDrop('ip4.src', src, frame(p));
    }
    lab.check();
  });

  test('I-03: source equal to destination (LAND), with every protocol, and UDP from 0.0.0.0:0', () => {
    const lab = new Lab();
    for (const address of [GUEST4, GATEWAY4, ALLOWED4, '10.0.2.3']) {
      const both = { src: address, dst: address };
      for (const p of [
        tcp({ ...both, srcPort: 80, dstPort: 80 }),
        udp({ ...both, srcPort: 80, dstPort: 80 }),
        icmp(both),
      ])
        lab.expectDrop('ip4.src', address, frame(p));
    }
    lab.expectDrop('ip4.src', '0.0.0.0:0', frame(udp({ src: '0.0.0.0', srcPort: 0 })));
    lab.check();
  });

  const strangers: [string, Buffer[], string, (f: Buffer, i: number) => void][] = [
    [
      'IPv4',
      [frame(tcp({ src: '20.0.0.0' })), frame(udp({ src: '20.0.0.0' }))],
      'drop.ip4.spoof',
      (f, i) => putLong(f, AT_IP4_SRC, 0x14000000 + i, AT_IP4_SUM, AT_TRANSPORT4 + (i % 2 === 0 ? 16 : 6)),
    ],
    [
      'IPv6',
      [
        frame(tcp({ src: '2001:db8:77::', dst: ALLOWED6 })),
        frame(udp({ src: '2001:db8:77::', dst: ALLOWED6 })),
      ],
      'drop.ip6.spoof',
      (f, i) => putLong(f, AT_IP6_SRC + 12, i, AT_TRANSPORT6 + (i % 2 === 0 ? 16 : 6)),
    ],
  ];
  for (const [family, templates, drop, change] of strangers) {
    test(`I-04 (${family}): 2^20 packets from as many strangers cost nothing, and the guest's flows live on`, () => {
      const lab = new Lab();
      const peer = lab.connect(ALLOWED4, 7);
      const open = lab.kernel.open;
      const drops = lab.delta(() => assert.equal(lab.flood(2 ** 20, templates, change).answers, 0));
      assert.equal(drops[drop], 2 ** 20);
      assert.equal(lab.kernel.open, open);
      assert.ok(peer.sendData(pattern(5000)).equals(pattern(5000)));
      lab.check();
    });
  }

  test('I-05: other protocols are refused and never looked into', () => {
    const lab = new Lab();
    const inner = udp({ dst: ALLOWED4, dstPort: 9 });
    let nested = inner;
    for (let i = 0; i < 16; i++) nested = ipv4({ protocol: 4 }, nested);
    for (let protocol = 0; protocol < 256; protocol++) {
      if (protocol === 1 || protocol === TCP || protocol === UDP) continue;
      for (const payload of [inner, nested, Buffer.alloc(0)]) {
        const [error, ...rest] = lab.inject(packet({ protocol }, payload));
        isUnreachable(error, 2);
        assert.deepEqual(rest, []);
        lab.advance(200);
      }
    }
    assert.deepEqual(lab.kernel.reached, []);
    // In fragments the same, once it is whole.
    const parts = [0, 24].map((at) =>
      packet(
        { protocol: 4, id: 9, offset: at, mf: at === 0 },
        nested.subarray(at, at === 0 ? 24 : undefined),
      ),
    );
    isUnreachable(lab.inject(...parts)[0], 2);
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('I-05, RQ-60 (RFC 1812 §4.2.2.9, §5.3.1): hop limits 0 and 1', () => {
    const lab = new Lab();
    lab.expectDrop('ip4.ttl', 'TTL 0', packet({ ttl: 0 }));
    const [error] = lab.inject(packet({ ttl: 1 }));
    assert.equal(error?.icmpType, 11);
    assert.equal(error?.src, GATEWAY4);
    // To our own addresses one hop is enough.
    const [answer] = lab.send(icmp({ dst: GATEWAY4, ttl: 1 }));
    assert.equal(answer?.icmpType, 0);
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('I-01: no part of a packet that was cut at any length reaches the host', () => {
    const lab = new Lab();
    for (const [protocol, body] of [
      [UDP, data],
      [TCP, tcpSegment({})],
      [1, echo(ALLOWED4, 1, 1).subarray(20)],
    ] as const) {
      const f = frame(ipv4({ protocol }, body));
      for (let n = 14; n < f.length; n++)
        lab.expectDrop(n < 34 ? 'link.short' : 'ip4.malformed', `${protocol} cut at ${n}`, f.subarray(0, n));
    }
    lab.check();
  });
});
