import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { emitIpv4, Ipv4Header, parseIpv4 } from '../../../src/stack/wire/ipv4.ts';
import { assertWritesAll, bytes, copyOf, naiveChecksum, parseExact, truncations } from './wire-fixture.ts';

const h = new Ipv4Header();
const parse = (v: DataView, o: number, l: number) => parseIpv4(v, o, l, h);

/** A packet with these option bytes (padded to a multiple of 4 with EOL) and `payload` bytes, with a right checksum. */
function packet(options: number[], payload = 8, changes: Record<number, number> = {}): Uint8Array {
  const padded = [...options];
  while (padded.length % 4 !== 0) padded.push(0);
  const headerLen = 20 + padded.length;
  const total = headerLen + payload;
  const head = bytes('45000000 1234 4000 40 11 0000 0a000264 c0000201');
  let out: Uint8Array = Uint8Array.from([...head, ...padded, ...new Array(payload).fill(0xab)]);
  out[0] = 0x40 | (headerLen >> 2);
  out[2] = total >> 8;
  out[3] = total & 255;
  out = copyOf(out, changes);
  const sum = naiveChecksum(out.subarray(0, headerLen));
  if (!(10 in changes)) {
    out[10] = sum >> 8;
    out[11] = sum & 255;
  }
  return out;
}

describe('parseIpv4', () => {
  test('reads every field of a known packet', () => {
    const wire = bytes('4500 0054 a6f2 4000 4001 0000 0a000002 ac100a63');
    const sum = naiveChecksum(wire);
    const data = Uint8Array.from([
      ...copyOf(wire, { 10: sum >> 8, 11: sum & 255 }),
      ...new Array(64).fill(0),
    ]);
    assert.equal(parseExact(data, parse), 0);
    assert.equal(h.headerLen, 20);
    assert.equal(h.totalLen, 84);
    assert.equal(h.id, 0xa6f2);
    assert.deepEqual([h.dontFragment, h.moreFragments, h.fragmentOffset], [true, false, 0]);
    assert.deepEqual([h.ttl, h.protocol, h.tos], [64, 1, 0]);
    assert.deepEqual([h.src.toString(), h.dst.toString()], ['10.0.0.2', '172.16.10.99']);
  });

  test('fragment offset is in bytes', () => {
    assert.equal(parseExact(packet([], 8, { 6: 0x3f, 7: 0xff }), parse), 0);
    assert.deepEqual([h.dontFragment, h.moreFragments, h.fragmentOffset], [false, true, 65528]);
  });

  test('every truncation is a drop and reads nothing behind the end', () => {
    const data = packet([1, 1, 1, 1]);
    const results = truncations(data, parse);
    assert.equal(results.pop(), 0);
    assert.ok(results.every((r, len) => r === (len < 20 ? DropReason.LinkShort : DropReason.Ip4Malformed)));
  });

  test('E-01: version nibble 0, 5, 6 and 15', () => {
    for (const nibble of [0, 5, 6, 15]) {
      assert.equal(parseExact(packet([], 8, { 0: (nibble << 4) | 5 }), parse), DropReason.IpVersion);
    }
  });

  test('I-01: header and total lengths that cannot be', () => {
    const plain = (changes: Record<number, number>, payload = 8) =>
      parseExact(packet([], payload, changes), parse);
    for (let ihl = 0; ihl <= 4; ihl++)
      assert.equal(plain({ 0: 0x40 | ihl }), DropReason.Ip4Malformed, `IHL ${ihl}`);
    assert.equal(plain({ 0: 0x48 }), DropReason.Ip4Malformed, 'IHL over the total length');
    for (const total of [0, 1, 19])
      assert.equal(plain({ 3: total }), DropReason.Ip4Malformed, `total ${total}`);
    assert.equal(plain({ 3: 29 }), DropReason.Ip4Malformed, 'one more than captured');
    assert.equal(plain({ 2: 255, 3: 255 }), DropReason.Ip4Malformed);
    assert.equal(plain({ 3: 20 }), 0, 'trailing bytes are allowed');
    assert.equal(h.totalLen, 20);
    assert.equal(plain({ 3: 23 }), 0);
    assert.equal(h.totalLen, 23);
  });

  test('I-02: any single wrong bit of the header is found', () => {
    const data = packet([]);
    for (let bit = 0; bit < 160; bit++) {
      const i = bit >> 3;
      const result = parseExact(copyOf(data, { [i]: (data[i] ?? 0) ^ (1 << (bit & 7)) }), parse);
      assert.ok(result < 0, `bit ${bit}`);
      if (i >= 4) assert.equal(result, DropReason.Ip4Csum, `bit ${bit}`);
    }
  });

  const options: [string, number[], number][] = [
    ['loose source route', [131, 3, 4], DropReason.Ip4SrcRoute],
    ['strict source route', [137, 3, 4], DropReason.Ip4SrcRoute],
    ['source route behind NOPs', [1, 1, 1, 131, 7, 4, 1, 2, 3, 4], DropReason.Ip4SrcRoute],
    ['length 0', [7, 0, 0, 0], DropReason.Ip4Option],
    ['length 1', [7, 1, 0, 0], DropReason.Ip4Option],
    ['length one past the end', [7, 5, 0, 0], DropReason.Ip4Option],
    ['length 255', [68, 255, 5, 0], DropReason.Ip4Option],
    ['kind without length at the end', [1, 1, 1, 7], DropReason.Ip4Option],
    ['length exactly to the end', [7, 4, 4, 0], 0],
    ['full timestamp option', [68, 8, 9, 0xf1, 0, 0, 0, 0], 0],
    ['router alert', [148, 4, 0, 0], 0],
    ['40 bytes of NOP', new Array(40).fill(1), 0],
    ['EOL then garbage', [0, 131, 0, 7], 0],
  ];
  for (const [name, list, want] of options) {
    test(`I-02: options: ${name}`, () => assert.equal(parseExact(packet(list), parse), want));
  }
});

describe('emitIpv4', () => {
  test('round trip of random headers; every byte written; checksum right', () => {
    const u8 = fc.nat(255);
    const u16 = fc.nat(65535);
    const u32 = fc.integer({ min: 0, max: 0xffffffff });
    const offset = fc.nat(8191).map((n) => n * 8);
    fc.assert(
      fc.property(
        u8,
        fc.integer({ min: 20, max: 1500 }),
        u16,
        fc.boolean(),
        fc.boolean(),
        offset,
        u8,
        u8,
        u32,
        u32,
        (tos, totalLen, id, df, mf, fragmentOffset, ttl, protocol, src, dst) => {
          const p = new Ipv4Header();
          Object.assign(p, {
            tos,
            totalLen,
            id,
            dontFragment: df,
            moreFragments: mf,
            fragmentOffset,
            ttl,
            protocol,
            headerLen: 20,
          });
          p.src.setV4(src);
          p.dst.setV4(dst);
          const out = assertWritesAll(20, (v, o) => emitIpv4(v, o, p));
          assert.equal(naiveChecksum(out), 0);
          assert.equal(parseExact([...out, ...new Uint8Array(totalLen - 20)], parse), 0);
          assert.deepEqual(h, p);
        },
      ),
    );
  });

  test('known bytes', () => {
    const p = new Ipv4Header();
    p.totalLen = 40;
    p.dontFragment = true;
    p.ttl = 64;
    p.protocol = 6;
    p.src.copyFrom(parseIpAddress('10.0.2.2'));
    p.dst.copyFrom(parseIpAddress('10.0.2.100'));
    p.headerLen = 60; // not read
    const out = assertWritesAll(20, (v, o) => emitIpv4(v, o, p));
    assert.deepEqual(out, bytes('45000028 00004000 4006 226b 0a000202 0a000264'));
  });
});
