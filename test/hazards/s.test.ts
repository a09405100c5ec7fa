/** Hazards S: IPv6 and neighbour discovery. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED6,
  AT_TRANSPORT6,
  type Decoded,
  DNS6,
  fragmentHeader,
  frame,
  GATEWAY6,
  GUEST_MAC,
  GUEST6,
  ICMP_SUM,
  ICMPV6,
  type Ip,
  type Ip6Fields,
  icmp,
  ipBytes,
  ipv6,
  macBytes,
  ndp,
  OUR_MAC,
  optionsHeader,
  pattern,
  putLong,
  tcp,
  UDP,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

const data = udpDatagram({ dst: ALLOWED6, dstPort: 9 }, Buffer.from('data'));
const packet = (f: Ip6Fields, payload: Buffer = data): Buffer => frame(ipv6({ next: UDP, ...f }, payload));
const PAD4 = Buffer.from([1, 4, 0, 0, 0, 0]);

function isProblem(d: Decoded | undefined, code: number, pointer: number): void {
  assert.deepEqual([d?.icmpType, d?.icmpCode, d?.icmpRest], [4, code, pointer]);
}

/** The link-layer address option of neighbour discovery. */
function linkOption(type: number, units = 1): Buffer {
  const option = Buffer.alloc(Math.max(8, units * 8));
  option[0] = type;
  option[1] = units;
  macBytes(GUEST_MAC).copy(option, 2);
  return option;
}

const solicitedNode = (target: Ip): Ip =>
  `ff02::1:ff${ipBytes(target).subarray(13, 14).toString('hex')}:${ipBytes(target).subarray(14).toString('hex')}`;

function solicit(
  target: Ip,
  options: { src?: Ip; dst?: Ip; hops?: number; code?: number; body?: Buffer } = {},
): Buffer {
  const src = options.src ?? GUEST6;
  const body =
    options.body ?? Buffer.concat([ipBytes(target), src === '::' ? Buffer.alloc(0) : linkOption(1)]);
  return frame(
    ndp(src, options.dst ?? solicitedNode(target), 135, 0, body, options.hops ?? 255, options.code ?? 0),
  );
}

describe('hazards S: IPv6', () => {
  test('S-01: payload lengths that cannot be, and bytes behind the packet', () => {
    const lab = new Lab();
    for (let more = 1; more <= 40; more++)
      lab.expectDrop('ip6.length', `${more} too many`, packet({ payloadLength: data.length + more }));
    const drops65535 = lab.delta(() => {
      const flood = lab.flood(65_535 - data.length, [packet({})], (f, i) =>
        f.writeUInt16BE(data.length + 1 + i, 18),
      );
      assert.equal(flood.answers, 0);
    });
    assert.equal(drops65535['drop.ip6.length'], 65_535 - data.length, 'every length that is too large');
    lab.inject(Buffer.concat([packet({}), pattern(11)]));
    assert.equal(lab.kernel.datagrams[0]?.payload.toString(), 'data');
    // Length 0 without a jumbo option: nothing behind the header counts.
    const drops = lab.delta(() => lab.inject(packet({ payloadLength: 0 })));
    assert.equal(Object.keys(drops).filter((name) => name.startsWith('drop.')).length, 1);
    assert.equal(lab.kernel.datagrams.length, 1);
    lab.check();
  });

  test('S-01: jumbograms are not supported, whatever length they state', () => {
    for (const size of [0, 65535, 65536, 0xffffffff]) {
      const lab = new Lab();
      const option = Buffer.from([0xc2, 4, 0, 0, 0, 0]);
      option.writeUInt32BE(size, 2);
      const body = Buffer.concat([optionsHeader(UDP, option), data]);
      for (const payloadLength of [0, body.length]) {
        const drops = lab.delta(() => {
          for (const d of lab.inject(packet({ next: 0, payloadLength }, body))) assert.equal(d.icmpType, 4);
        });
        assert.equal(
          Object.keys(drops).filter((name) => name.startsWith('drop.ip6.')).length,
          1,
          JSON.stringify(drops),
        );
      }
      assert.deepEqual(lab.kernel.reached, []);
      lab.check();
    }
  });

  test('S-02, RQ-61 (RFC 8200 §4.1): at most 8 extension headers and 512 bytes of them', () => {
    const lab = new Lab({ device: { mtu: 9000 } });
    const chain = (count: number, size = 0): Buffer => {
      let body = data;
      for (let i = count - 1; i >= 0; i--) {
        const next = i === count - 1 ? UDP : 60;
        body = Buffer.concat([
          optionsHeader(
            next,
            size === 0 ? PAD4 : Buffer.concat([Buffer.from([1, size - 4]), Buffer.alloc(size - 4)]),
          ),
          body,
        ]);
      }
      return body;
    };
    for (let count = 1; count <= 8; count++) lab.inject(packet({ next: 60 }, chain(count)));
    assert.equal(lab.kernel.datagrams.length, 8);
    for (let count = 9; count <= 200; count++)
      lab.expectDrop('ip6.chain', `${count} headers`, packet({ next: 60 }, chain(count)));
    lab.expectDrop('ip6.chain', '3 headers of 200 bytes', packet({ next: 60 }, chain(3, 200)));
    lab.check();
  });

  test('S-02: a hop-by-hop header that is not first, or twice; lengths that reach behind the packet', () => {
    const lab = new Lab();
    const late = Buffer.concat([optionsHeader(0, PAD4), optionsHeader(UDP, PAD4), data]);
    for (const next of [60, 0]) {
      const drops = lab.delta(() => isProblem(lab.inject(packet({ next }, late))[0], 1, 40));
      assert.equal(drops['drop.ip6.chain'] ?? drops['drop.ip6.proto'], 1, JSON.stringify(drops));
    }
    for (const length of [1, 2, 255]) {
      const drops = lab.delta(() => lab.inject(packet({ next: 60 }, optionsHeader(UDP, PAD4, length))));
      assert.equal(drops['drop.ip6.chain'], 1, `length byte ${length}`);
    }
    // One byte short.
    const body = Buffer.concat([optionsHeader(60, PAD4), optionsHeader(UDP, PAD4)]);
    const drops = lab.delta(() => lab.inject(packet({ next: 60 }, body.subarray(0, 15))));
    assert.equal(drops['drop.ip6.chain'], 1);
    lab.check();
  });

  test('S-02: every next-header value ends in a drop, an answer or the protocol', () => {
    const lab = new Lab();
    const known = new Set([0, 6, 17, 43, 44, 58, 59, 60]);
    for (let next = 0; next < 256; next++) {
      lab.advance(1000);
      const out = lab.inject(packet({ next }, Buffer.alloc(40)));
      if (!known.has(next)) isProblem(out[0], 1, 6);
    }
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('S-03: padding of every kind passes; lengths behind the header do not', () => {
    const lab = new Lab();
    const with_ = (options: Buffer): Buffer =>
      packet({ next: 60 }, Buffer.concat([optionsHeader(UDP, options), data]));
    const good = [
      Buffer.from([0]),
      Buffer.alloc(6, 0),
      Buffer.from([1, 0]),
      Buffer.from([1, 1, 0]),
      Buffer.from([1, 4, 0, 0, 0, 0]),
    ];
    for (const options of good) lab.inject(with_(options));
    assert.equal(lab.kernel.datagrams.length, good.length);
    for (const options of [
      [1, 255, 0, 0, 0, 0],
      [1, 5, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 1],
      [5, 250, 0, 0, 0, 0],
    ]) {
      const drops = lab.delta(() => lab.inject(with_(Buffer.from(options))));
      assert.equal(drops['drop.ip6.option'], 1, options.join(' '));
    }
    assert.equal(lab.kernel.datagrams.length, good.length);
    lab.check();
  });

  test('S-03, RQ-61 (RFC 8200 §4.2): unknown options are dealt with by their action bits', () => {
    const lab = new Lab();
    const with_ = (type: number, dst: Ip): Buffer =>
      packet(
        { next: 60, dst },
        Buffer.concat([
          optionsHeader(UDP, Buffer.from([type, 4, 0, 0, 0, 0])),
          udpDatagram({ dst, dstPort: 9 }),
        ]),
      );
    // Pad1, PadN, and the jumbo payload, which has a test of its own.
    const known = new Set([0, 1, 0xc2]);
    for (let type = 0; type < 256; type++) {
      if (known.has(type)) continue;
      lab.advance(200);
      const before = lab.kernel.datagrams.length;
      const action = type >>> 6;
      if (action === 0) {
        lab.inject(with_(type, ALLOWED6));
        assert.equal(lab.kernel.datagrams.length, before + 1, `${type}: skipped`);
      } else if (action === 1) {
        lab.expectDrop('ip6.option', `${type}: dropped`, with_(type, ALLOWED6));
      } else {
        const drops = lab.delta(() => isProblem(lab.inject(with_(type, ALLOWED6))[0], 2, 42));
        assert.equal(drops['drop.ip6.option'], 1, `${type}`);
      }
      // To a group only 10 is answered.
      lab.advance(200);
      const reached = lab.kernel.reached.length;
      const out = lab.inject(with_(type, 'ff02::1'));
      if (action === 2) isProblem(out[0], 2, 42);
      else assert.deepEqual(out, [], `${type} to a group`);
      assert.equal(lab.kernel.reached.length, reached);
    }
    lab.check();
  });

  test('S-03: a bad packet never affects the next one of its batch', () => {
    const lab = new Lab();
    const bad = packet(
      { next: 60 },
      Buffer.concat([optionsHeader(UDP, Buffer.from([1, 255, 0, 0, 0, 0])), data]),
    );
    lab.flood(20_000, [bad, packet({})]);
    assert.equal(lab.kernel.datagrams.length, 10_000);
    assert.ok(lab.kernel.datagrams.every((d) => d.payload.toString() === 'data'));
    lab.check();
  });

  test('S-04, RQ-62 (RFC 5095, RFC 8200 §4.4): routing headers, ESP, AH, mobility, no next header', () => {
    const lab = new Lab();
    const routing = (type: number, left: number): Buffer =>
      packet(
        { next: 43 },
        Buffer.concat([Buffer.from([UDP, 2, type, left, 0, 0, 0, 0]), ipBytes('fd00::77'), data]),
      );
    for (let type = 0; type < 256; type++) {
      for (const left of [1, 2, 127, 255]) {
        lab.advance(200);
        const drops = lab.delta(() => isProblem(lab.inject(routing(type, left))[0], 0, 42));
        assert.equal(drops['drop.ip6.rh'], 1);
      }
    }
    assert.deepEqual(lab.kernel.reached, []);
    for (let type = 0; type < 256; type++) lab.inject(routing(type, 0));
    assert.equal(lab.kernel.datagrams.length, 256, 'no segments left: passed over (RFC 8200 §4.4)');
    for (const next of [50, 51, 135]) {
      lab.advance(1000);
      isProblem(lab.inject(packet({ next }, Buffer.alloc(40)))[0], 1, 6);
    }
    lab.expectDrop('ip6.nonext', '59', packet({ next: 59 }, Buffer.alloc(40)));
    lab.expectDrop('ip6.length', '59 with nothing: as S-01 has it', packet({ next: 59 }, Buffer.alloc(0)));
    lab.check();
  });

  test('S-05: destinations that are no global unicast address never become a host connect', () => {
    const lab = new Lab({ allow: ['any://[::]/0'], policy: { enableRouting: true, enableHost: true } });
    lab.mayReach = (address) => !/^(fe[89ab]|ff|::$)/.test(address);
    for (const dst of ['fe80::1', 'ff02::1', 'ff02::fb', 'ff0e::1', '::']) {
      for (const p of [tcp({ dst }), udp({ dst, dstPort: 9 }), icmp({ dst })]) lab.send(p);
      assert.deepEqual(lab.kernel.reached, [], dst);
    }
    for (const [dst, reason] of [
      ['fe80::1', 'ip6.scope'],
      ['fe80::5efe:7f00:1', 'ip6.scope'],
      ['::', 'ip6.addr'],
    ] as const) {
      for (const p of [tcp({ dst }), udp({ dst, dstPort: 9 }), icmp({ dst })])
        lab.expectDrop(reason, dst, frame(p));
    }
    // Our own is there for those on the link.
    assert.equal(lab.send(icmp({ dst: 'fe80::2' }, Buffer.alloc(8)))[0]?.icmpType, 129);
    // Site-local was given back (RFC 3879): a unicast address like others.
    lab.send(tcp({ dst: 'fec0::1' }));
    assert.equal(lab.kernel.reached.length, 1);
    lab.check();
  });

  test('S-05: sources: groups, nobody, ourselves, link-local to the outside', () => {
    const lab = new Lab();
    for (const src of ['ff02::1', 'ff0e::1', GATEWAY6, DNS6, 'fe80::2', '::1', ALLOWED6])
      for (const p of [
        tcp({ src, dst: ALLOWED6 }),
        udp({ src, dst: ALLOWED6 }),
        icmp({ src, dst: ALLOWED6 }),
      ])
        lab.expectDrop('ip6.addr', src, frame(p));
    for (const p of [
      tcp({ src: '::', dst: ALLOWED6 }),
      udp({ src: '::', dst: ALLOWED6 }),
      icmp({ src: '::', dst: ALLOWED6 }),
    ])
      lab.expectDrop('ip6.addr', '::', frame(p));
    // Link-local: dropped, and told so (1/2).
    for (const p of [tcp, udp, icmp].map((make) => make({ src: 'fe80::77', dst: ALLOWED6 }))) {
      const told = lab.delta(() => {
        const [answer, ...more] = lab.send(p);
        assert.deepEqual([answer?.dst, answer?.icmpType, answer?.icmpCode, more], ['fe80::77', 1, 2, []]);
      });
      assert.equal(told['drop.ip6.scope'], 1);
    }
    assert.deepEqual(lab.kernel.reached, []);
    lab.expectDrop('ip6.spoof', 'a stranger', frame(udp({ src: '2001:db8:77::1', dst: ALLOWED6 })));
    lab.check();
  });

  test('S-06: neighbour discovery with any field wrong is dropped whole', () => {
    const lab = new Lab();
    const target = ipBytes(GATEWAY6);
    const bad: [string, Buffer][] = [
      ['hop limit 254', solicit(GATEWAY6, { hops: 254 })],
      ['code 1', solicit(GATEWAY6, { code: 1 })],
      [
        'option length 0',
        solicit(GATEWAY6, { body: Buffer.concat([target, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])]) }),
      ],
      [
        'option past the end',
        solicit(GATEWAY6, { body: Buffer.concat([target, linkOption(1, 2).subarray(0, 8)]) }),
      ],
      ['31 units', solicit(GATEWAY6, { body: Buffer.concat([target, linkOption(1, 31).subarray(0, 64)]) })],
      ['a group as target', solicit('ff02::1', { dst: GATEWAY6 })],
      ['no target', solicit(GATEWAY6, { body: Buffer.alloc(0) })],
      ['half a target', solicit(GATEWAY6, { body: target.subarray(0, 8) })],
      ['advertisement, hop limit 64', frame(ndp(GUEST6, GATEWAY6, 136, 0, target, 64))],
      ['router solicitation, hop limit 1', frame(ndp(GUEST6, 'ff02::2', 133, 0, Buffer.alloc(0), 1))],
      ['router solicitation, option length 0', frame(ndp(GUEST6, 'ff02::2', 133, 0, Buffer.alloc(8)))],
    ];
    for (const [what, f] of bad) lab.expectDrop('nd.malformed', what, f);
    for (let hops = 1; hops < 255; hops++)
      lab.expectDrop('nd.malformed', `hop limit ${hops}`, solicit(GATEWAY6, { hops }));
    for (let code = 1; code < 256; code++)
      lab.expectDrop('nd.malformed', `code ${code}`, solicit(GATEWAY6, { code }));
    // The link-layer option of every length but one unit; all of it is there.
    for (let units = 2; units <= 31; units++)
      lab.expectDrop(
        'nd.malformed',
        `${units} units`,
        solicit(GATEWAY6, { body: Buffer.concat([target, linkOption(1, units)]) }),
      );
    const checksum = frame(icmp({ src: GUEST6, dst: GATEWAY6, type: 135, checksum: 1, ttl: 255 }, target));
    lab.expectDrop('icmp.csum', 'checksum', checksum);
    lab.check();
  });

  test('S-06, RQ-69 (RFC 6980 §5): neighbour discovery in fragments', () => {
    const lab = new Lab();
    const message = solicit(GATEWAY6).subarray(54);
    const parts = [0, 16].map((at) =>
      frame(
        ipv6(
          { next: 44, hops: 255, dst: GATEWAY6 },
          Buffer.concat([
            fragmentHeader(ICMPV6, at, at === 0, 7),
            message.subarray(at, at === 0 ? 16 : undefined),
          ]),
        ),
      ),
    );
    const drops = lab.delta(() => assert.deepEqual(lab.inject(...parts), []));
    assert.equal((drops['drop.nd.malformed'] ?? 0) + (drops['drop.icmp.csum'] ?? 0), 1);
    lab.check();
  });

  test('S-06, RQ-70 (RFC 8504 §5): the guest is no router: advertisements, redirects and RDNSS from it change nothing', () => {
    const lab = new Lab();
    const rdnss = Buffer.concat([Buffer.from([25, 2, 0, 0, 255, 255, 255, 255]), Buffer.alloc(8)]);
    lab.expectDrop(
      'nd.ignored',
      'RA',
      frame(ndp('fe80::77', 'ff02::1', 134, 0x40000708, Buffer.concat([Buffer.alloc(8), rdnss]))),
    );
    lab.expectDrop(
      'nd.ignored',
      'redirect',
      frame(ndp('fe80::77', GATEWAY6, 137, 0, Buffer.concat([ipBytes(ALLOWED6), ipBytes(ALLOWED6)]))),
    );
    for (const code of [0, 1, 10000])
      lab.expectDrop(
        'icmp.type',
        `MLD query ${code}`,
        frame(ndp('fe80::77', 'ff02::1', 130, code << 16, Buffer.alloc(16), 1)),
      );
    lab.expectDrop('icmp.type', 'MLDv2 report', frame(ndp('::', 'ff02::16', 143, 0, Buffer.alloc(20), 1)));
    lab.check();
  });

  test('S-07: nobody takes our addresses over; the guest is told who we are once, to either destination', () => {
    const lab = new Lab();
    lab.inject(
      frame(ndp(GUEST6, 'ff02::1', 136, 0x20000000, Buffer.concat([ipBytes(GATEWAY6), linkOption(2)]))),
    );
    for (const target of [GATEWAY6, DNS6, 'fe80::2']) {
      for (const dst of [target, solicitedNode(target)]) {
        const out = lab.inject(solicit(target, { dst }));
        assert.equal(out.length, 1, `${target} at ${dst}`);
        const [reply] = out as [Decoded];
        assert.equal(reply.icmpType, 136);
        assert.equal(reply.dst, GUEST6);
        assert.equal(reply.payload.subarray(0, 16).toString('hex'), ipBytes(target).toString('hex'));
        assert.equal(reply.payload.subarray(18, 24).toString('hex'), OUR_MAC.replaceAll(':', ''));
        assert.equal((reply.icmpRest >>> 29) & 7, 7, 'router, solicited, override');
      }
    }
    lab.check();
  });

  test("S-07, RQ-68 (RFC 4862 §5.4): duplicate address detection: answered for ours, never for the guest's own tentative address", () => {
    const lab = new Lab();
    for (const mine of [GUEST6, 'fd00::77', 'fe80::5054:ff:fe12:3456'])
      lab.expectDrop('nd.ignored', mine, solicit(mine, { src: '::' }));
    const [reply] = lab.inject(solicit(GATEWAY6, { src: '::' }));
    assert.equal(reply?.dst, 'ff02::1');
    assert.equal((reply?.icmpRest ?? 0) >>> 29, 5, 'router and override, not solicited');
    lab.check();
  });

  test('S-07: a million solicitations for as many targets', () => {
    const lab = new Lab();
    const drops = lab.delta(() => {
      const flood = lab.flood(1_000_000, [solicit('fd00::1:0:0')], (f, i) =>
        putLong(f, AT_TRANSPORT6 + 8 + 12, i, AT_TRANSPORT6 + ICMP_SUM),
      );
      assert.equal(flood.answers, 0);
    });
    assert.equal(drops['drop.nd.ignored'], 1_000_000, JSON.stringify(drops));
    lab.check();
  });
});
