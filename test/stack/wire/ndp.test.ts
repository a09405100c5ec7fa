import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import {
  emitNeighborAdvertisement,
  emitNeighborSolicitation,
  emitRouterAdvertisement,
  ND_NA_OVERRIDE,
  ND_NA_ROUTER,
  ND_NA_SOLICITED,
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_ROUTER_SOLICITATION,
  NdpMessage,
  parseNdp,
  RouterAdvertisement,
} from '../../../src/stack/wire/ndp.ts';
import { assertWritesAll, bytes, copyOf, parseExact, truncations } from './wire-fixture.ts';

const m = new NdpMessage();
const parse = (v: DataView, o: number, l: number) => parseNdp(v, o, l, 255, 0, m);
const TARGET = 'fd000000000000000000000000000002';
const NS = bytes(`87 00 0000 00000000 ${TARGET} 01 01 525400123456`);
const NA = bytes(`88 00 0000 e0000000 ${TARGET} 02 01 52550a000202`);
const RS = bytes('85 00 0000 00000000 01 01 525400123456');

describe('parseNdp', () => {
  test('NS, NA and RS', () => {
    assert.equal(parseExact(NS, parse), 0);
    assert.deepEqual([m.type, m.target.toString(), m.flags], [ND_NEIGHBOR_SOLICITATION, 'fd00::2', 0]);
    assert.deepEqual([m.sourceLinkHi, m.sourceLinkLo, m.targetLinkHi], [0x5254, 0x00123456, -1]);
    assert.equal(parseExact(NA, parse), 0);
    assert.deepEqual([m.type, m.target.toString()], [ND_NEIGHBOR_ADVERTISEMENT, 'fd00::2']);
    assert.equal(m.flags, ND_NA_ROUTER | ND_NA_SOLICITED | ND_NA_OVERRIDE);
    assert.deepEqual([m.sourceLinkHi, m.targetLinkHi, m.targetLinkLo], [-1, 0x5255, 0x0a000202]);
    assert.equal(parseExact(RS, parse), 0);
    assert.deepEqual([m.type, m.target.toString(), m.flags], [ND_ROUTER_SOLICITATION, '::', 0]);
    assert.deepEqual([m.sourceLinkHi, m.sourceLinkLo, m.targetLinkHi], [0x5254, 0x00123456, -1]);
  });

  test('a message without options', () => {
    assert.equal(parseExact(NS.subarray(0, 24), parse), 0);
    assert.deepEqual([m.sourceLinkHi, m.targetLinkHi], [-1, -1]);
    assert.equal(parseExact(RS.subarray(0, 8), parse), 0);
  });

  test('every truncation except at an option boundary is nd.malformed', () => {
    for (const [data, base] of [
      [NS, 24],
      [NA, 24],
      [RS, 8],
    ] as const) {
      const results = truncations(data, parse);
      for (const [len, r] of results.entries()) {
        const whole = len === base || len === data.length;
        assert.equal(r, whole ? 0 : DropReason.NdMalformed, `${len} of ${data.length}`);
      }
    }
  });

  test('S-06: hop limit, code, multicast and mapped target', () => {
    for (const hopLimit of [0, 64, 254]) {
      assert.equal(
        parseExact(NS, (v, o, l) => parseNdp(v, o, l, hopLimit, 0, m)),
        DropReason.NdMalformed,
      );
    }
    assert.equal(
      parseExact(NS, (v, o, l) => parseNdp(v, o, l, 255, 1, m)),
      DropReason.NdMalformed,
    );
    assert.equal(parseExact(copyOf(NS, { 8: 0xff }), parse), DropReason.NdMalformed);
    const mapped = Uint8Array.from(NS);
    mapped.set(bytes('00000000000000000000ffff0a000202'), 8);
    assert.equal(parseExact(mapped, parse), DropReason.NdMalformed);
  });

  test('S-06: option lengths', () => {
    const withOption = (...option: number[]) => parseExact([...NS.subarray(0, 24), ...option], parse);
    const zeros = (n: number) => new Array<number>(n).fill(0);
    assert.equal(withOption(1, 0, ...zeros(6)), DropReason.NdMalformed, 'length 0');
    assert.equal(withOption(14, 0, ...zeros(6)), DropReason.NdMalformed, 'length 0 of an unknown option');
    assert.equal(withOption(14, 2, ...zeros(6)), DropReason.NdMalformed, 'past the end');
    assert.equal(withOption(1, 2, ...zeros(14)), DropReason.NdMalformed, 'two units');
    assert.equal(withOption(1, 31, ...zeros(246)), DropReason.NdMalformed, '31 units');
    assert.equal(withOption(1, 1, 1, 0, 0, 0, 0, 1), DropReason.NdMalformed, 'group MAC');
    assert.equal(withOption(14, 2, ...zeros(14)), 0, 'unknown options are skipped');
    assert.equal(withOption(14, 1, ...zeros(6), 1, 1, 2, 0, 0, 0, 0, 9), 0);
    assert.deepEqual([m.sourceLinkHi, m.sourceLinkLo], [0x0200, 9]);
    assert.equal(withOption(25, 1, ...zeros(6)), DropReason.NdMalformed, 'RDNSS without address');
    assert.equal(withOption(25, 2, ...zeros(14)), DropReason.NdMalformed, 'RDNSS with even length');
    assert.equal(withOption(25, 3, ...zeros(22)), 0);
  });

  test('S-06: router advertisement, redirect and other types from the guest are nd.ignored', () => {
    for (const type of [134, 137, 130, 128, 1]) {
      assert.equal(parseExact(copyOf(NS, { 0: type }), parse), DropReason.NdIgnored);
    }
  });
});

describe('emit', () => {
  const target = parseIpAddress('fd00::2');

  test('neighbour advertisement and solicitation, with and without the link-layer option', () => {
    const flags = ND_NA_ROUTER | ND_NA_SOLICITED | ND_NA_OVERRIDE;
    const na = (hi: number) =>
      assertWritesAll(32, (v, o) => emitNeighborAdvertisement(v, o, target, flags, hi, 0x0a000202));
    const ns = (hi: number) =>
      assertWritesAll(32, (v, o) => emitNeighborSolicitation(v, o, target, hi, 0x00123456));
    assert.deepEqual(na(0x5255), NA);
    assert.deepEqual(na(-1), NA.subarray(0, 24));
    assert.deepEqual(ns(0x5254), NS);
    assert.deepEqual(ns(-1), NS.subarray(0, 24));
  });

  test('router advertisement with every option, byte by byte', () => {
    const ra = new RouterAdvertisement();
    ra.routerLifetime = 1800;
    ra.macHi = 0x5255;
    ra.macLo = 0x0a000202;
    ra.mtu = 65520;
    ra.prefix.copyFrom(parseIpAddress('fd00::'));
    ra.prefixLength = 64;
    ra.validLifetime = 0xffffffff;
    ra.preferredLifetime = 14400;
    ra.rdnss = [parseIpAddress('fd00::3'), parseIpAddress('2001:db8::53')];
    ra.rdnssLifetime = 3600;
    const want = `86 00 0000 40 00 0708 00000000 00000000
      01 01 52550a000202
      05 01 0000 0000fff0
      03 04 40 c0 ffffffff 00003840 00000000 fd000000000000000000000000000000
      19 05 0000 00000e10 fd000000000000000000000000000003 20010db8000000000000000000000053`;
    assert.deepEqual(
      assertWritesAll(120, (v, o) => emitRouterAdvertisement(v, o, ra)),
      bytes(want),
    );
    ra.autonomous = false;
    assert.equal(assertWritesAll(120, (v, o) => emitRouterAdvertisement(v, o, ra))[35], 0x80);
  });

  test('router advertisement without options', () => {
    const out = assertWritesAll(16, (v, o) => emitRouterAdvertisement(v, o, new RouterAdvertisement()));
    assert.deepEqual(out, bytes('86000000 40000000 00000000 00000000'));
  });
});
