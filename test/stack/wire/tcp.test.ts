import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import {
  emitTcp,
  parseTcp,
  TCP_ACK,
  TCP_SYN,
  TcpHeader,
  tcpHeaderLength,
} from '../../../src/stack/wire/tcp.ts';
import { assertWritesAll, bytes, copyOf, parseExact, truncations } from './wire-fixture.ts';

const h = new TcpHeader();
const parse = (v: DataView, o: number, l: number) => parseTcp(v, o, l, h);

/** A segment with these option bytes, padded with EOL, and 3 bytes of data. */
function segment(options: number[]): Uint8Array {
  const padded = [...options];
  while (padded.length % 4 !== 0) padded.push(0);
  const head = copyOf(bytes('8000 01bb fffffff0 80000001 50 12 faf0 abcd 0102'), {
    12: ((20 + padded.length) / 4) << 4,
  });
  return Uint8Array.from([...head, ...padded, 1, 2, 3]);
}
const emit = (p: TcpHeader) => assertWritesAll(60, (v, o) => emitTcp(v, o, p));
/** The option bytes that emitTcp writes. */
const optionsOf = (p: TcpHeader) => Buffer.from(emit(p).subarray(20)).toString('hex');
const block = (left: number, right: number) => [
  left >>> 24,
  (left >>> 16) & 255,
  (left >>> 8) & 255,
  left & 255,
  right >>> 24,
  (right >>> 16) & 255,
  (right >>> 8) & 255,
  right & 255,
];

describe('parseTcp', () => {
  test('reads every field, unsigned', () => {
    assert.equal(parseExact(segment([]), parse), 0);
    assert.deepEqual([h.srcPort, h.dstPort, h.seq, h.ack], [0x8000, 443, 0xfffffff0, 0x80000001]);
    assert.deepEqual([h.headerLen, h.flags, h.window], [20, TCP_SYN | TCP_ACK, 0xfaf0]);
    assert.deepEqual([h.checksum, h.urgent], [0xabcd, 0x0102]);
    assert.deepEqual(
      [h.mss, h.windowScale, h.sackPermitted, h.hasTimestamps, h.sackCount, h.optionError],
      [-1, -1, false, false, 0, false],
    );
  });

  test('T-01: every truncation of the header is tcp.malformed', () => {
    const results = truncations(segment([2, 4, 5, 180]), parse);
    for (const [len, r] of results.entries())
      assert.equal(r, len < 24 ? DropReason.TcpMalformed : 0, `${len}`);
  });

  test('T-01: data offset 0 to 4 and beyond the segment', () => {
    for (let offset = 0; offset < 16; offset++) {
      const result = parseExact(copyOf(segment([]), { 12: offset << 4 }), parse);
      assert.equal(result, offset === 5 ? 0 : DropReason.TcpMalformed, `offset ${offset}`);
    }
  });

  test('reserved bits do not matter', () => {
    assert.equal(parseExact(copyOf(segment([]), { 12: 0x5f }), parse), 0);
    assert.equal(h.headerLen, 20);
  });

  test('Linux SYN options', () => {
    const syn = '0204 05b4 0402 080a 11223344 00000000 01 0303 07';
    assert.equal(parseExact(segment([...bytes(syn)]), parse), 0);
    assert.deepEqual(
      [h.mss, h.sackPermitted, h.hasTimestamps, h.tsVal, h.tsEcr, h.windowScale],
      [1460, true, true, 0x11223344, 0, 7],
    );
    assert.equal(h.optionError, false);
  });

  test('RQ-03: options in any order and alignment', () => {
    const parts = [
      [2, 4, 5, 180],
      [3, 3, 14],
      [4, 2],
      [8, 10, 0xff, 0, 0, 1, 0xff, 0, 0, 2],
      [1],
      [99, 5, 2, 4, 9],
      [254, 2],
    ];
    fc.assert(
      fc.property(fc.shuffledSubarray(parts, { minLength: parts.length }), (order) => {
        assert.equal(parseExact(segment(order.flat()), parse), 0);
        assert.deepEqual(
          [h.mss, h.windowScale, h.sackPermitted, h.hasTimestamps, h.tsVal, h.tsEcr, h.optionError],
          [1460, 14, true, true, 0xff000001, 0xff000002, false],
        );
      }),
    );
  });

  const bad: [string, number[]][] = [
    ['02 00', [2, 0, 0, 0]],
    ['02 01', [2, 1, 0, 0]],
    ['01 02 00 00', [1, 2, 0, 0]],
    ['03 01', [3, 1, 0, 0]],
    ['05 ff', [5, 255, 0, 0]],
    ['08 00', [8, 0, 0, 0]],
    ['ff 00', [255, 0, 0, 0]],
    ['kind without length byte', [1, 1, 1, 2]],
    ['unknown kind without length byte', [1, 1, 1, 77]],
    ['one past the end', [77, 5, 0, 0]],
    ['MSS of 3', [2, 3, 5, 180]],
    ['window scale of 4', [3, 4, 7, 7]],
    ['SACK permitted of 3', [4, 3, 1, 1]],
    ['timestamps of 9', [8, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]],
  ];
  for (const [name, list] of bad) {
    test(`T-02: ${name}: reading stops, the segment stays`, () => {
      const good = [3, 3, 6, 1];
      assert.equal(parseExact(segment([...good, ...list]), parse), 0);
      assert.equal(h.optionError, true);
      assert.equal(h.windowScale, 6, 'what came before stays');
      assert.deepEqual([h.mss, h.sackPermitted, h.hasTimestamps, h.sackCount], [-1, false, false, 0]);
      const behind = [...good, ...list.slice(0, 2), 4, 2];
      if (list[1] === 0) {
        parseExact(segment(behind), parse);
        assert.equal(h.sackPermitted, false, 'nothing behind is read');
      }
    });
  }

  test('T-02: 40 NOPs, EOL then garbage, an option twice', () => {
    assert.equal(parseExact(segment(new Array(40).fill(1)), parse), 0);
    assert.equal(h.optionError, false);
    assert.equal(parseExact(segment([0, 2, 0, 5, 2, 4, 5, 180]), parse), 0);
    assert.deepEqual([h.optionError, h.mss], [false, -1]);
    assert.equal(parseExact(segment([2, 4, 1, 0, 2, 4, 2, 0]), parse), 0);
    assert.deepEqual([h.optionError, h.mss], [false, 512]);
  });

  test('T-14: SACK blocks; a size other than 2+8n is ignored and reading goes on', () => {
    assert.equal(parseExact(segment([1, 1, 5, 18, ...block(0xfffffff0, 16), ...block(32, 48)]), parse), 0);
    assert.equal(h.sackCount, 2);
    assert.deepEqual(
      [h.sackLeft[0], h.sackRight[0], h.sackLeft[1], h.sackRight[1]],
      [0xfffffff0, 16, 32, 48],
    );
    for (const size of [3, 9, 11, 17]) {
      const odd = [5, size, ...new Array(size - 2).fill(7), 3, 3, 6];
      assert.equal(parseExact(segment(odd), parse), 0);
      assert.deepEqual([h.sackCount, h.optionError, h.windowScale], [0, false, 6], `size ${size}`);
    }
    assert.equal(parseExact(segment([5, 2, 3, 3, 6]), parse), 0);
    assert.deepEqual([h.sackCount, h.windowScale], [0, 6]);
    const four = [5, 34, ...block(1, 2), ...block(3, 4), ...block(5, 6), ...block(7, 8)];
    assert.equal(parseExact(segment(four), parse), 0);
    assert.deepEqual([h.sackCount, h.sackRight[3]], [4, 8]);
  });

  test('options of one segment do not show in the next', () => {
    parseExact(
      segment([...bytes('020405b4 0402080a1122334455667788 01030307'), 5, 10, ...block(1, 2)]),
      parse,
    );
    assert.equal(h.sackCount, 1);
    parseExact(segment([2, 0]), parse);
    assert.equal(h.optionError, true);
    assert.equal(parseExact(segment([]), parse), 0);
    assert.deepEqual(
      [h.mss, h.windowScale, h.sackPermitted, h.hasTimestamps, h.tsVal, h.tsEcr, h.sackCount, h.optionError],
      [-1, -1, false, false, 0, 0, 0, false],
    );
  });
});

describe('emitTcp', () => {
  test('the layouts of Linux', () => {
    const p = new TcpHeader();
    assert.equal(optionsOf(p), '');
    p.hasTimestamps = true;
    p.tsVal = 0x11223344;
    p.tsEcr = 0xffffffff;
    assert.equal(optionsOf(p), '0101080a11223344ffffffff');
    p.mss = 1460;
    p.sackPermitted = true;
    p.windowScale = 7;
    assert.equal(optionsOf(p), '020405b40402080a11223344ffffffff01030307');
    p.hasTimestamps = false;
    assert.equal(optionsOf(p), '020405b40101040201030307');
    p.mss = 65495;
    p.windowScale = -1;
    p.sackPermitted = false;
    assert.equal(optionsOf(p), '0204ffd7');
  });

  test('SACK blocks are cut to what fits in 40 bytes', () => {
    const p = new TcpHeader();
    for (let i = 0; i < 4; i++) {
      p.sackLeft[i] = 16 * i;
      p.sackRight[i] = 16 * i + 8;
    }
    p.sackCount = 4;
    assert.equal(tcpHeaderLength(p), 56);
    assert.equal(optionsOf(p).slice(0, 24), '010105220000000000000008');
    p.hasTimestamps = true;
    assert.equal(tcpHeaderLength(p), 20 + 12 + 4 + 24);
    assert.equal(optionsOf(p).slice(24, 32), '0101051a');
    p.mss = 1460;
    p.windowScale = 7;
    assert.equal(tcpHeaderLength(p), 20 + 20 + 4 + 16);
    p.sackCount = 1;
    p.hasTimestamps = false;
    p.mss = -1;
    p.windowScale = -1;
    assert.equal(optionsOf(p), '0101050a0000000000000008');
  });

  test('round trip of random headers; every byte written; tcpHeaderLength tells the truth', () => {
    const u16 = fc.nat(65535);
    const u32 = fc.integer({ min: 0, max: 0xffffffff });
    const ports = fc.record({ srcPort: u16, dstPort: u16, window: u16, checksum: u16, urgent: u16 });
    const numbers = fc.record({ seq: u32, ack: u32, flags: fc.nat(255) });
    const opts = fc.record({
      mss: fc.oneof(fc.constant(-1), u16),
      windowScale: fc.oneof(fc.constant(-1), fc.nat(255)),
      sackPermitted: fc.boolean(),
      hasTimestamps: fc.boolean(),
      sackCount: fc.nat(4),
    });
    const edges = fc.array(u32, { minLength: 10, maxLength: 10 });
    fc.assert(
      fc.property(ports, numbers, opts, edges, (a, b, c, e) => {
        const p = Object.assign(new TcpHeader(), a, b, c);
        const sent = p.sackCount;
        for (let i = 0; i < 4; i++) {
          p.sackLeft[i] = e[i] ?? 0;
          p.sackRight[i] = e[i + 4] ?? 0;
        }
        if (p.hasTimestamps) {
          p.tsVal = e[8] ?? 0;
          p.tsEcr = e[9] ?? 0;
        }
        const out = emit(p);
        assert.equal(out.length, tcpHeaderLength(p));
        assert.ok(out.length % 4 === 0 && out.length <= 60);
        assert.equal(p.sackCount, sent, 'the header object is not changed');
        assert.equal(parseExact(out, parse), 0);
        assert.ok(h.sackCount <= sent && (sent === 0 || h.sackCount > 0));
        const back = { ...h, headerLen: 20, sackCount: sent, sackLeft: 0, sackRight: 0 };
        assert.deepEqual(back, { ...p, sackLeft: 0, sackRight: 0 });
        assert.deepEqual(h.sackLeft.subarray(0, h.sackCount), p.sackLeft.subarray(0, h.sackCount));
        assert.deepEqual(h.sackRight.subarray(0, h.sackCount), p.sackRight.subarray(0, h.sackCount));
      }),
      { numRuns: 500 },
    );
  });
});
