import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { emitIpv6, Ipv6Header, parseIpv6, walkExtensionHeaders } from '../../../src/stack/wire/ipv6.ts';
import { assertWritesAll, bytes, copyOf, OFF, parseExact, place, truncations } from './wire-fixture.ts';

const h = new Ipv6Header();
const parse = (v: DataView, o: number, l: number) => parseIpv6(v, o, l, h);

const UNICAST = 'fd000000000000000000000000000002';
const ALL_NODES = 'ff020000000000000000000000000001';

/** A packet with `payload` behind the fixed header; `next` names its first header. */
function packet(
  next: number,
  payload: number[],
  dst: string = UNICAST,
  payloadLen = payload.length,
): Uint8Array {
  const head = bytes(`60000000 0000 00 40 fd000000000000000000000000000100 ${dst}`);
  return Uint8Array.from([...copyOf(head, { 4: payloadLen >> 8, 5: payloadLen & 255, 6: next }), ...payload]);
}

const UDP = [0, 53, 0, 53, 0, 8, 0, 0];
/** A destination or hop-by-hop header holding `options`, padded with Pad1. */
function options(next: number, list: number[]): number[] {
  const padded = [...list];
  while ((padded.length + 2) % 8 !== 0) padded.push(0);
  return [next, (padded.length + 2) / 8 - 1, ...padded];
}
const fragment = (next: number, offset: number, more: boolean, id = 7): number[] => [
  next,
  0,
  offset >> 8,
  (offset & 0xf8) | (more ? 1 : 0),
  0,
  0,
  0,
  id,
];
const icmpDue = () => [h.icmpCode, h.problemPointer];

describe('parseIpv6', () => {
  test('reads every field', () => {
    const data = copyOf(packet(17, UDP), { 0: 0x6a, 1: 0xb5, 2: 0x43, 3: 0x21 });
    assert.equal(parseExact(data, parse), 0);
    assert.deepEqual(
      [h.trafficClass, h.flowLabel, h.payloadLen, h.nextHeader, h.hopLimit],
      [0xab, 0x54321, 8, 17, 64],
    );
    assert.deepEqual([h.src.toString(), h.dst.toString()], ['fd00::100', 'fd00::2']);
    assert.deepEqual([h.protocol, h.transportOff, h.transportLen, h.isFragment], [17, 40, 8, false]);
    assert.deepEqual([h.unknownNextHeaderOff, h.icmpCode], [6, -1]);
  });

  test('every truncation is a drop and reads nothing behind the end', () => {
    const data = packet(0, [
      ...options(60, [5, 2, 0, 0]),
      ...options(44, []),
      ...fragment(17, 0, false),
      ...UDP,
    ]);
    const results = truncations(data, parse);
    assert.equal(results.pop(), 0);
    assert.ok(results.every((r, len) => r === (len < 40 ? DropReason.LinkShort : DropReason.Ip6Length)));
  });

  test('E-01: version nibble', () => {
    for (const first of [0x00, 0x45, 0x50, 0xf0]) {
      assert.equal(parseExact(copyOf(packet(17, UDP), { 0: first }), parse), DropReason.IpVersion);
    }
  });

  test('mapped addresses on the wire are ip6.addr', () => {
    const mapped = '00000000000000000000ffff0a000202';
    assert.equal(parseExact(packet(17, UDP, mapped), parse), DropReason.Ip6Addr);
    const source = packet(17, UDP);
    source.set(bytes(mapped), 8);
    assert.equal(parseExact(source, parse), DropReason.Ip6Addr);
  });

  test('S-01: payload length 0, jumbo option, too much, trailing bytes', () => {
    assert.equal(parseExact(packet(17, []), parse), DropReason.Ip6Length);
    assert.equal(parseExact(packet(17, UDP, UNICAST, 0), parse), DropReason.Ip6Length);
    for (const value of [
      [0, 0, 0, 0],
      [0, 0, 255, 255],
      [0, 1, 0, 0],
      [255, 255, 255, 255],
    ]) {
      const jumbo = [...options(17, [0xc2, 4, ...value]), ...UDP];
      assert.equal(parseExact(packet(0, jumbo, UNICAST, 0), parse), DropReason.Ip6Jumbo);
      assert.equal(parseExact(packet(0, jumbo), parse), DropReason.Ip6Jumbo);
    }
    assert.equal(
      parseExact(packet(0, [17, 9, 0xc2, 4, 0, 1, 0, 0], UNICAST, 0), parse),
      DropReason.Ip6Length,
    );
    for (let extra = 1; extra <= 40; extra++) {
      assert.equal(parseExact(packet(17, UDP, UNICAST, 8 + extra), parse), DropReason.Ip6Length, `+${extra}`);
    }
    assert.equal(parseExact(packet(17, [...UDP, 1, 2, 3], UNICAST, 8), parse), 0);
    assert.equal(h.transportLen, 8);
  });

  test('S-02: at most 8 extension headers', () => {
    for (const count of [1, 7, 8, 9, 63, 64, 200]) {
      const chain = Array.from({ length: count }, (_, i) => options(i === count - 1 ? 17 : 60, [])).flat();
      const result = parseExact(packet(60, [...chain, ...UDP]), parse);
      assert.equal(result, count <= 8 ? 0 : DropReason.Ip6Chain, `${count} headers`);
      if (count <= 8) assert.deepEqual([h.transportOff, h.transportLen, h.protocol], [40 + 8 * count, 8, 17]);
    }
  });

  test('S-02: at most 512 bytes of them', () => {
    for (const [size, want] of [
      [256, 0],
      [264, DropReason.Ip6Chain],
    ] as const) {
      const big = options(60, new Array(254).fill(0));
      const rest = options(17, new Array(size - 2).fill(0));
      assert.equal(parseExact(packet(60, [...big, ...rest, ...UDP]), parse), want);
    }
  });

  test('S-02: hop-by-hop only first: 4/1 at the octet that named it', () => {
    assert.equal(
      parseExact(packet(60, [...options(0, []), ...options(17, []), ...UDP]), parse),
      DropReason.Ip6Chain,
    );
    assert.deepEqual(icmpDue(), [1, 40]);
    assert.equal(
      parseExact(packet(0, [...options(0, []), ...options(17, []), ...UDP]), parse),
      DropReason.Ip6Chain,
    );
    assert.deepEqual(icmpDue(), [1, 40]);
    parseExact(packet(0, [...options(0, []), ...options(17, []), ...UDP], ALL_NODES), parse);
    assert.deepEqual(icmpDue(), [-1, -1], 'no answer to multicast');
  });

  test('S-02: header length past the packet', () => {
    assert.equal(parseExact(packet(60, [17, 255, 0, 0, 0, 0, 0, 0]), parse), DropReason.Ip6Chain);
    assert.equal(
      parseExact(packet(60, [17, 1, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0]), parse),
      DropReason.Ip6Chain,
    );
    assert.equal(parseExact(packet(60, [17, 0, 0, 0, 0, 0, 0]), parse), DropReason.Ip6Chain);
    assert.equal(parseExact(packet(60, [17, 0, 0, 0, 0, 0, 0, 0]), parse), 0);
    assert.equal(h.transportLen, 0);
  });

  test('S-02, S-04: every next-header value: unknown ones are left for the caller with their pointer', () => {
    for (let next = 0; next < 256; next++) {
      const result = parseExact(packet(60, [...options(next, []), 17, ...new Array(15).fill(0)]), parse);
      if (next === 0) assert.equal(result, DropReason.Ip6Chain);
      else if (next === 59) assert.equal(result, DropReason.Ip6NoNext);
      else {
        assert.equal(result, 0, `next ${next}`);
        if (next === 60 || next === 43 || next === 44)
          assert.deepEqual([h.protocol, h.transportOff], [17, 56]);
        else assert.deepEqual([h.protocol, h.unknownNextHeaderOff, h.transportOff], [next, 40, 48]);
      }
    }
  });

  test('S-03: Pad1, PadN and skipped options', () => {
    for (const list of [
      [],
      [1, 0],
      [1, 1, 9],
      [1, 4, 1, 2, 3, 4],
      [0x1e, 2, 0, 0],
      [5, 2, 0, 0],
      [0x3f, 0],
      [1, 4, 0, 0, 0, 0],
    ]) {
      assert.equal(parseExact(packet(60, [...options(17, list), ...UDP]), parse), 0, JSON.stringify(list));
    }
    const padN255 = options(17, [1, 255, ...new Array(255).fill(0)]);
    assert.equal(parseExact(packet(60, [...padN255, ...UDP]), parse), 0);
  });

  test('S-03: lengths past the header are ip6.option without an answer', () => {
    for (const list of [
      [1, 5, 0, 0, 0, 0],
      [0x1e, 5, 0, 0, 0, 0],
      [0, 0, 0, 0, 1, 1],
      [0, 0, 0, 0, 0, 0xde],
      [0xde, 255, 0, 0, 0, 0],
      [1, 255, 0, 0, 0, 0],
    ]) {
      assert.equal(
        parseExact(packet(60, [17, 0, ...list, ...UDP]), parse),
        DropReason.Ip6Option,
        JSON.stringify(list),
      );
      assert.deepEqual(icmpDue(), [-1, -1]);
    }
  });

  test('S-03: action bits of unknown options, to unicast and multicast (RFC 8200 §4.2)', () => {
    const run = (type: number, dst: string) => {
      const result = parseExact(packet(0, [...options(17, [1, 0, type, 0]), ...UDP], dst), parse);
      return [result, ...icmpDue()];
    };
    assert.deepEqual(run(0x1e, UNICAST), [0, -1, -1]);
    assert.deepEqual(run(0x5e, UNICAST), [DropReason.Ip6Option, -1, -1]);
    assert.deepEqual(run(0x9e, UNICAST), [DropReason.Ip6Option, 2, 44]);
    assert.deepEqual(run(0xde, UNICAST), [DropReason.Ip6Option, 2, 44]);
    assert.deepEqual(run(0x1e, ALL_NODES), [0, -1, -1]);
    assert.deepEqual(run(0x5e, ALL_NODES), [DropReason.Ip6Option, -1, -1]);
    assert.deepEqual(run(0x9e, ALL_NODES), [DropReason.Ip6Option, 2, 44]);
    assert.deepEqual(run(0xde, ALL_NODES), [DropReason.Ip6Option, -1, -1]);
    assert.equal(parseExact(packet(17, UDP), parse), 0, 'the next packet is not affected');
    assert.deepEqual(icmpDue(), [-1, -1]);
  });

  test('S-04: routing headers pass only with nothing left', () => {
    for (const type of [0, 2, 3, 4, 253]) {
      const rh = (left: number) => packet(43, [17, 0, type, left, 0, 0, 0, 0, ...UDP]);
      assert.equal(parseExact(rh(0), parse), 0);
      assert.equal(parseExact(rh(1), parse), DropReason.Ip6Rh);
      assert.deepEqual(icmpDue(), [0, 42]);
    }
  });
});

describe('fragments (RFC 8200 §4.5)', () => {
  test('a fragment ends the walk behind its header', () => {
    const data = packet(60, [...options(44, []), ...fragment(60, 1432, true, 9), ...UDP]);
    assert.equal(parseExact(data, parse), 0);
    assert.deepEqual(
      [h.isFragment, h.fragmentHeaderOff, h.fragmentOffset, h.moreFragments, h.fragmentId],
      [true, 48, 1432, true, 9],
    );
    assert.deepEqual([h.protocol, h.transportOff, h.transportLen, h.unknownNextHeaderOff], [60, 56, 8, 48]);
  });

  test('the last fragment may have any length', () => {
    assert.equal(parseExact(packet(44, [...fragment(17, 8, false), 1, 2, 3]), parse), 0);
    assert.deepEqual([h.isFragment, h.moreFragments, h.transportLen], [true, false, 3]);
  });

  test('F-06: an atomic fragment is a whole packet (RFC 6946)', () => {
    assert.equal(parseExact(packet(44, [...fragment(60, 0, false), ...options(17, []), ...UDP]), parse), 0);
    assert.deepEqual([h.isFragment, h.protocol, h.transportOff, h.transportLen], [false, 17, 56, 8]);
    assert.equal(h.fragmentHeaderOff, 40);
  });

  test('F-06: nested fragment headers are frag6.chain', () => {
    const nested = packet(44, [...fragment(44, 0, false), ...fragment(17, 0, false), ...UDP]);
    assert.equal(parseExact(nested, parse), DropReason.Frag6Chain);
    const real = packet(44, [...fragment(44, 0, false), ...fragment(17, 0, true), ...UDP]);
    assert.equal(parseExact(real, parse), DropReason.Frag6Chain);
  });

  test('F-04: a part that is not the last and not a multiple of 8: 4/0 at the payload length', () => {
    assert.equal(parseExact(packet(44, [...fragment(17, 0, true), 1, 2, 3]), parse), DropReason.FragLength);
    assert.deepEqual(icmpDue(), [0, 4]);
  });

  test('F-02: a part that ends beyond 65535: 4/0 at the offset field', () => {
    assert.equal(
      parseExact(packet(44, [...fragment(17, 65528, false), ...UDP]), parse),
      DropReason.FragTooLong,
    );
    assert.deepEqual(icmpDue(), [0, 42]);
    assert.equal(parseExact(packet(44, [...fragment(17, 65528, false), 1, 2, 3, 4, 5, 6, 7]), parse), 0);
  });

  test('a stale fragment does not show in the next packet', () => {
    parseExact(packet(44, [...fragment(17, 8, true), ...UDP]), parse);
    assert.equal(parseExact(packet(17, UDP), parse), 0);
    assert.deepEqual(
      [h.isFragment, h.fragmentHeaderOff, h.fragmentOffset, h.moreFragments],
      [false, -1, 0, false],
    );
  });

  test('walkExtensionHeaders re-walks what reassembly puts together', () => {
    const rewalk = (first: number, payload: number[]) => {
      const data = packet(60, [...options(first, []), ...payload]);
      h.dst.copyFrom(parseIpAddress('fd00::2'));
      return walkExtensionHeaders(place(data, 0), OFF, data.length, first, 40, 48, true, h);
    };
    assert.equal(rewalk(60, [...options(17, []), ...UDP]), 0);
    assert.deepEqual([h.protocol, h.transportOff, h.transportLen, h.unknownNextHeaderOff], [17, 56, 8, 48]);
    assert.equal(rewalk(44, [...fragment(17, 0, false), ...UDP]), DropReason.Frag6Chain, 'nested');
    assert.equal(rewalk(60, [17, 3, 0, 0, 0, 0, 0, 0]), DropReason.Frag6Chain, 'incomplete chain');
    assert.equal(rewalk(60, [17, 0]), DropReason.Frag6Chain, 'incomplete chain');
    assert.equal(
      rewalk(0, [...options(17, []), ...UDP]),
      DropReason.Ip6Chain,
      'hop-by-hop behind a fragment header',
    );
  });
});

describe('emitIpv6', () => {
  test('round trip of random headers; every byte written', () => {
    const u32 = fc.integer({ min: 0x20000000, max: 0xffffffff });
    fc.assert(
      fc.property(
        fc.nat(255),
        fc.nat(0xfffff),
        fc.integer({ min: 1, max: 200 }),
        fc.nat(255),
        u32,
        u32,
        u32,
        u32,
        (trafficClass, flowLabel, payloadLen, hopLimit, a, b, c, d) => {
          const p = new Ipv6Header();
          Object.assign(p, { trafficClass, flowLabel, payloadLen, hopLimit, nextHeader: 6, protocol: 6 });
          p.transportLen = payloadLen;
          p.unknownNextHeaderOff = 6;
          p.src.set(a, b, c, d);
          p.dst.set(d, c, b, a);
          const out = assertWritesAll(40, (v, o) => emitIpv6(v, o, p));
          assert.equal(parseExact([...out, ...new Uint8Array(payloadLen)], parse), 0);
          assert.deepEqual(h, p);
        },
      ),
    );
  });
});
