import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StackScratch } from '../../../src/stack/buffer/scratch.ts';
import { Slab } from '../../../src/stack/buffer/slab.ts';
import { ExpiredFragment, Reassembler, type ReassemblyLimits } from '../../../src/stack/ip/reassembly.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { emitIpv4, Ipv4Header, parseIpv4 } from '../../../src/stack/wire/ipv4.ts';
import { emitIpv6, Ipv6Header, parseIpv6 } from '../../../src/stack/wire/ipv6.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const UDP = 17;
const TCP = 6;
const limits: ReassemblyLimits = { fragMaxBytes: 4 << 20, fragMaxDatagrams: 256, fragMaxParts: 64 };

interface Part {
  start: number;
  data: Uint8Array;
  more: boolean;
}

const src4 = parseIpAddress('10.0.2.100');
const dst4 = parseIpAddress('198.51.100.7');
const src6 = parseIpAddress('fd00::100');
const dst6 = parseIpAddress('2001:db8:1::7');

/** A payload in which every byte depends on its place. */
function pattern(len: number, salt = 0): Uint8Array {
  return Uint8Array.from({ length: len }, (_, i) => (i * 7 + (i >> 8) * 13 + salt) & 0xff);
}

function part(whole: Uint8Array, start: number, end: number, more = end < whole.length): Part {
  return { start, data: whole.slice(start, end), more };
}

/** Cut a payload at these offsets. */
function cut(whole: Uint8Array, ...at: number[]): Part[] {
  const edges = [0, ...at, whole.length];
  return edges.slice(1).map((end, i) => part(whole, edges[i] as number, end));
}

class Bench {
  readonly slab = new Slab(256 * 1024, 0);
  readonly reassembler: Reassembler;
  readonly packet = new DataView(new ArrayBuffer(70_000 + 64));
  readonly bytes = new Uint8Array(this.packet.buffer);
  nowMs = 1000;
  protocol = UDP;
  source = src4;
  readonly #h4 = new Ipv4Header();
  readonly #h6 = new Ipv6Header();

  constructor(l: Partial<ReassemblyLimits> = {}) {
    this.reassembler = new Reassembler(new StackScratch(this.slab), { ...limits, ...l });
  }

  /** Send a part through emit and parse, at an odd offset of the view. */
  v4(id: number, p: Part): number {
    const h = this.#h4;
    h.totalLen = 20 + p.data.length;
    h.id = id;
    h.ttl = 64;
    h.protocol = this.protocol;
    h.fragmentOffset = p.start;
    h.moreFragments = p.more;
    h.src.copyFrom(this.source);
    h.dst.copyFrom(dst4);
    emitIpv4(this.packet, 14, h);
    this.bytes.set(p.data, 34);
    assert.equal(parseIpv4(this.packet, 14, h.totalLen, h), 0);
    return this.reassembler.addIpv4(this.packet, 14, h, this.nowMs);
  }

  /** As v4; `lead` is put between the fixed and the fragment header. */
  v6(id: number, p: Part, nextHeader = UDP): number {
    const h = this.#h6;
    h.payloadLen = 8 + p.data.length;
    h.nextHeader = 44;
    h.hopLimit = 64;
    h.src.copyFrom(src6);
    h.dst.copyFrom(dst6);
    emitIpv6(this.packet, 14, h);
    this.packet.setUint8(54, nextHeader);
    this.packet.setUint8(55, 0);
    this.packet.setUint16(56, p.start | (p.more ? 1 : 0));
    this.packet.setUint32(58, id);
    this.bytes.set(p.data, 62);
    const reason = parseIpv6(this.packet, 14, 48 + p.data.length, h);
    if (reason !== 0) return reason;
    return this.reassembler.addIpv6(this.packet, 14, h, this.nowMs);
  }

  result(): Uint8Array {
    return this.slab.bytes.slice(this.reassembler.outOff, this.reassembler.outOff + this.reassembler.outLen);
  }
}

function permutations<T>(items: T[]): T[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}

describe('reassembly of valid datagrams', () => {
  for (const family of ['v4', 'v6'] as const) {
    test(`${family}: three parts in every order give the payload back`, () => {
      const whole = pattern(3000);
      for (const order of permutations(cut(whole, 1480, 2960))) {
        const b = new Bench();
        const results = order.map((p) => b[family](7, p));
        assert.deepEqual(results, [0, 0, 1]);
        assert.deepEqual(b.result(), whole);
        assert.equal(b.reassembler.outProtocol, UDP);
        assert.equal(b.reassembler.bytesHeld, 0);
        assert.equal(b.reassembler.datagramCount, 0);
        assert.equal(b.reassembler.nextTimeoutMs(), Number.POSITIVE_INFINITY);
      }
    });
  }

  test('F-03 a first part of 65496 bytes and a small last part', () => {
    const b = new Bench();
    const whole = pattern(65507);
    const [first, last] = cut(whole, 65496) as [Part, Part];
    assert.equal(b.v4(1, first), 0);
    assert.equal(b.v4(1, last), 1);
    assert.deepEqual(b.result(), whole);
  });

  test('key: same id with another source, protocol or family is another datagram', () => {
    const b = new Bench();
    const whole = pattern(64);
    const [first, last] = cut(whole, 32) as [Part, Part];
    assert.equal(b.v4(9, first), 0);
    b.source = parseIpAddress('10.0.2.101');
    assert.equal(b.v4(9, last), 0);
    b.source = src4;
    b.protocol = 1;
    assert.equal(b.v4(9, last), 0);
    assert.equal(b.v6(9, last), 0);
    assert.equal(b.v4(10, last), 0);
    b.protocol = UDP;
    assert.equal(b.v4(9, last), 1);
    assert.deepEqual(b.result(), whole);
  });

  test('F-01 exact duplicates are ignored', () => {
    const b = new Bench();
    const whole = pattern(96);
    const [first, second, last] = cut(whole, 32, 64) as [Part, Part, Part];
    const results = [first, first, last, last, first, second].map((p) => b.v4(3, p));
    assert.deepEqual(results, [0, 0, 0, 0, 0, 1]);
    assert.deepEqual(b.result(), whole);
  });
});

describe('F-01 overlaps', () => {
  test('teardrop, both orders: dropped, and its later parts until the time is up', () => {
    for (const flip of [false, true]) {
      const b = new Bench();
      const parts = [
        { start: 0, data: pattern(40), more: true },
        { start: 24, data: pattern(4), more: false },
      ];
      if (flip) parts.reverse();
      assert.equal(b.v4(5, parts[0] as Part), 0);
      assert.equal(b.v4(5, parts[1] as Part), DropReason.FragOverlap);
      assert.equal(b.reassembler.bytesHeld, 0);
      const whole = pattern(64);
      for (const p of cut(whole, 32)) assert.equal(b.v4(5, p), DropReason.FragOverlap);
      b.nowMs += 30_000;
      b.reassembler.onTimeout(b.nowMs);
      assert.equal(b.reassembler.takeExpired(new ExpiredFragment()), false);
      assert.deepEqual(
        cut(whole, 32).map((p) => b.v4(5, p)),
        [0, 1],
      );
    }
  });

  for (const sameData of [true, false]) {
    test(`every overlap of 2, 3 and 4 parts in every order, ${sameData ? 'equal' : 'different'} data`, () => {
      const whole = pattern(128);
      const other = sameData ? whole : pattern(128, 1);
      const clean = cut(whole, 32, 64);
      // Each intruder shares at least one byte with a clean part without being that part.
      const intruders: Part[] = [
        part(other, 24, 40),
        part(other, 32, 40),
        part(other, 40, 48),
        part(other, 56, 72),
        part(other, 0, 72),
        part(other, 0, 120),
        part(other, 120, 128),
        ...(sameData ? [] : [part(other, 32, 64), part(other, 0, 32), part(other, 64, 128)]),
      ];
      for (const intruder of intruders) {
        const end = intruder.start + intruder.data.length;
        for (const subset of [
          clean,
          ...clean.map((_, i) => clean.toSpliced(i, 1)),
          ...clean.map((p) => [p]),
        ]) {
          if (!subset.some((p) => p.start < end && intruder.start < p.start + p.data.length)) continue;
          for (const order of permutations([...subset, intruder])) {
            for (const family of ['v4', 'v6'] as const) {
              const b = new Bench();
              const results = order.map((p) => b[family](1, p));
              const completed = results.indexOf(1);
              // Parts that came before any overlap may make a whole: exactly those bytes, then. Nothing else may.
              if (completed >= 0) {
                const came = order.slice(0, completed + 1).sort((x, y) => x.start - y.start);
                const ends = came.map((p) => p.start + p.data.length);
                assert.deepEqual(
                  [0, ...ends].slice(0, -1),
                  came.map((p) => p.start),
                );
                assert.deepEqual(Buffer.from(b.result()), Buffer.concat(came.map((p) => p.data)));
              } else {
                const bad = results.find((r) => r < 0);
                assert.equal(bad, DropReason.FragOverlap);
                assert.equal(b.reassembler.bytesHeld, 0);
              }
            }
          }
        }
      }
    });
  }
});

describe('F-02 lengths', () => {
  test('ping of death', () => {
    const b = new Bench();
    assert.equal(b.v4(1, { start: 65512, data: pattern(1480), more: false }), DropReason.FragTooLong);
    assert.equal(b.v4(1, { start: 65528, data: pattern(8), more: false }), DropReason.FragTooLong);
    assert.equal(b.v6(1, { start: 65528, data: pattern(8), more: false }), DropReason.FragTooLong);
    assert.equal(b.v4(1, { start: 65512, data: pattern(4), more: false }), DropReason.FragTooLong);
    assert.equal(b.reassembler.datagramCount, 0);
    assert.equal(b.v4(1, { start: 65512, data: pattern(3), more: false }), 0);
  });

  for (const [total, ok] of [
    [65534, true],
    [65535, true],
    [65536, false],
  ] as const) {
    test(`total length ${total}`, () => {
      const whole4 = pattern(total - 20);
      const b = new Bench();
      const results = cut(whole4, 32000, 64000).map((p) => b.v4(1, p));
      assert.deepEqual(results, ok ? [0, 0, 1] : [0, 0, DropReason.FragTooLong]);
      if (ok) assert.deepEqual(b.result(), whole4);

      const whole6 = pattern(total);
      const results6 = cut(whole6, 32000, 64000).map((p) => b.v6(1, p));
      assert.deepEqual(results6, ok ? [0, 0, 1] : [0, 0, DropReason.FragTooLong]);
      if (ok) assert.deepEqual(b.result(), whole6);
    });
  }

  test('the options of the first part count: a whole that does not fit with them is dropped', () => {
    const b = new Bench();
    const whole = pattern(65515);
    const [first, last] = cut(whole, 65000) as [Part, Part];
    assert.equal(b.v4(1, last), 0);
    const h = new Ipv4Header();
    h.headerLen = 24;
    h.totalLen = 24 + 65000;
    h.id = 1;
    h.protocol = UDP;
    h.moreFragments = true;
    h.src.copyFrom(src4);
    h.dst.copyFrom(dst4);
    b.bytes.set(first.data, 38);
    assert.equal(b.reassembler.addIpv4(b.packet, 14, h, 1000), DropReason.FragTooLong);
    assert.equal(b.reassembler.bytesHeld, 0);
  });

  test('a last part that ends before a stored one, two different last parts, a part behind the last', () => {
    const whole = pattern(128);
    for (const parts of [
      [part(whole, 64, 96), part(whole, 8, 32, false)],
      [part(whole, 32, 64, false), part(whole, 64, 96, false)],
      [part(whole, 32, 64, false), part(whole, 64, 96)],
      [part(whole, 32, 64, false), part(whole, 32, 64, true)],
    ]) {
      const b = new Bench();
      assert.equal(b.v4(1, parts[0] as Part), 0);
      assert.equal(b.v4(1, parts[1] as Part), DropReason.FragInconsistent);
      assert.equal(b.v4(1, part(whole, 0, 32)), DropReason.FragInconsistent);
      assert.equal(b.reassembler.bytesHeld, 0);
    }
  });
});

describe('F-04 shapes (RQ-52)', () => {
  test('first part with 8 bytes of TCP is kept, offset 1 of TCP is tiny', () => {
    const b = new Bench();
    b.protocol = TCP;
    const whole = pattern(64);
    assert.equal(b.v4(1, part(whole, 0, 8)), 0);
    assert.equal(b.v4(1, part(whole, 8, 64)), DropReason.FragTiny);
    assert.equal(b.v6(1, part(whole, 8, 64), TCP), DropReason.FragTiny);
    b.protocol = UDP;
    assert.equal(b.v4(2, part(whole, 8, 64)), 0);
    assert.equal(b.v4(2, part(whole, 0, 8)), 1);
    assert.deepEqual(b.result(), whole);
  });

  test('length not a multiple of 8 before the last part, and empty parts, are dropped and leave nothing', () => {
    const b = new Bench();
    for (const len of [1, 7, 9, 1479]) {
      assert.equal(b.v4(1, { start: 0, data: pattern(len), more: true }), DropReason.FragLength);
      assert.equal(b.v6(1, { start: 0, data: pattern(len), more: true }), DropReason.FragLength);
    }
    assert.equal(b.v4(1, { start: 0, data: pattern(0), more: true }), DropReason.FragLength);
    assert.equal(b.v4(1, { start: 64, data: pattern(0), more: false }), DropReason.FragLength);
    assert.equal(b.v6(1, { start: 64, data: pattern(0), more: false }), DropReason.FragLength);
    assert.equal(b.reassembler.datagramCount, 0);
  });
});

describe('F-05 floods', () => {
  for (const kind of ['first parts', 'middle parts', 'both'] as const) {
    test(`caps hold under distinct ${kind}, and a datagram sent meanwhile completes`, () => {
      const b = new Bench({ fragMaxBytes: 256 * 1024 });
      const rng = seededRng(5);
      const flood = pattern(1480);
      const whole = pattern(2000);
      let completed = 0;
      let kept = 0;
      const rounds = 400;
      for (let round = 0; round < rounds; round++) {
        const parts = cut(whole, 1480);
        if (round % 2 === 1) parts.reverse();
        for (const p of parts) {
          const result = b.v4(round, p);
          if (result === 1) {
            completed++;
            assert.deepEqual(b.result(), whole);
          }
          // Between the two parts: as many flood parts as the table may hold of a kind, less what the reserve is for.
          for (let i = 0; i < 24; i++) {
            b.source = parseIpAddress('10.0.2.100').setV4(rng.u32() | 1);
            const first = kind === 'first parts' || (kind === 'both' && i % 2 === 0);
            if (b.v4(rng.u32() & 0xffff, { start: first ? 0 : 1480, data: flood, more: true }) === 0) kept++;
            b.source = src4;
            assert.ok(b.reassembler.bytesHeld <= 256 * 1024, 'bytes');
            assert.ok(b.reassembler.datagramCount <= 256, 'datagrams');
          }
        }
      }
      assert.ok(kept - b.reassembler.datagramCount > 10_000, 'the flood filled the table');
      assert.ok(completed >= rounds * 0.99, `${completed} of ${rounds}`);
    });
  }

  test('a flood of middle parts, however long, never displaces a datagram that has its first part', () => {
    const b = new Bench();
    const whole = pattern(2000);
    const [first, last] = cut(whole, 1480) as [Part, Part];
    assert.equal(b.v4(1, first), 0);
    for (let i = 0; i < 20_000; i++) {
      b.source = parseIpAddress('10.0.2.100').setV4(0x0a000000 + i);
      assert.equal(b.v4(2, { start: 8, data: whole.subarray(0, 64), more: true }), 0);
    }
    b.source = src4;
    assert.equal(b.v4(1, last), 1);
  });

  test('one datagram in 8-byte parts stops at fragMaxParts', () => {
    const b = new Bench();
    const whole = pattern(1024);
    for (let i = 0; i < 64; i++) assert.equal(b.v4(1, part(whole, 8 * i, 8 * i + 8)), 0);
    assert.equal(b.v4(1, part(whole, 512, 520)), DropReason.FragLimit);
    assert.equal(b.v4(1, part(whole, 520, 528)), DropReason.FragLimit);
    assert.equal(b.reassembler.bytesHeld, 0);
  });

  test('a datagram larger than its share of fragMaxBytes is given up', () => {
    const b = new Bench({ fragMaxBytes: 8192 });
    const whole = pattern(20_000);
    const results = cut(whole, 1480, 2960, 4440, 5920, 7400).map((p) => b.v4(1, p));
    assert.deepEqual(results.slice(0, 3), [0, 0, 0]);
    assert.equal(results.at(-1), DropReason.FragLimit);
    assert.equal(b.reassembler.bytesHeld, 0);
  });
});

describe('RQ-51 time', () => {
  for (const [family, timeoutMs] of [
    ['v4', 30_000],
    ['v6', 60_000],
  ] as const) {
    test(`${family}: given up ${timeoutMs} ms after the first part to come; quoted only with part 0`, () => {
      const b = new Bench();
      const whole = pattern(3000);
      const [first, second, last] = cut(whole, 1480, 2960) as [Part, Part, Part];
      assert.equal(b[family](1, second), 0);
      b.nowMs += 10;
      assert.equal(b[family](2, first), 0);
      b.nowMs += 10;
      assert.equal(b[family](1, last), 0);
      assert.equal(b.reassembler.nextTimeoutMs(), 1000 + timeoutMs);

      const out = new ExpiredFragment();
      b.reassembler.onTimeout(1000 + timeoutMs);
      assert.equal(b.reassembler.takeExpired(out), false);
      assert.equal(b.reassembler.nextTimeoutMs(), 1010 + timeoutMs);
      b.reassembler.onTimeout(1010 + timeoutMs);
      assert.equal(b.reassembler.nextTimeoutMs(), Number.POSITIVE_INFINITY);
      assert.equal(b.reassembler.takeExpired(out), true);
      assert.equal(out.isV4, family === 'v4');
      assert.ok(out.src.equals(family === 'v4' ? src4 : src6));
      assert.ok(out.dst.equals(family === 'v4' ? dst4 : dst6));
      // Header and payload of part 0, within what an error may quote.
      const headerLen = family === 'v4' ? 20 : 48;
      assert.equal(out.len, family === 'v4' ? 548 : 1232);
      assert.equal(b.slab.view.getUint8(out.off) >> 4, family === 'v4' ? 4 : 6);
      assert.deepEqual(
        b.slab.bytes.slice(out.off + headerLen, out.off + out.len),
        whole.slice(0, out.len - headerLen),
      );
      assert.equal(b.reassembler.takeExpired(out), false);
      assert.equal(b.reassembler.bytesHeld, 0);
      assert.equal(b.reassembler.datagramCount, 0);
    });
  }

  test('an expired datagram is out of reach of late parts, and is gone at the next onTimeout if nobody took it', () => {
    const b = new Bench();
    const whole = pattern(64);
    const [first, last] = cut(whole, 32) as [Part, Part];
    b.v4(1, first);
    b.reassembler.onTimeout(31_000);
    b.nowMs = 31_000;
    assert.equal(b.v4(1, last), 0);
    b.reassembler.onTimeout(31_000);
    assert.equal(b.reassembler.takeExpired(new ExpiredFragment()), false);
    assert.equal(b.reassembler.datagramCount, 1);
  });

  test('expired datagrams that nobody took do not stop others from coming in', () => {
    const b = new Bench({ fragMaxDatagrams: 4 });
    const whole = pattern(64);
    b.v4(1, part(whole, 0, 32));
    b.v4(2, part(whole, 0, 32));
    b.reassembler.onTimeout(31_000);
    for (let id = 3; id < 40; id++) {
      assert.deepEqual(
        cut(whole, 32).map((p) => b.v4(id, p)),
        [0, 1],
      );
    }
  });
});

describe('F-06 IPv6 (RQ-63)', () => {
  test('the next header of the first part counts', () => {
    for (const flip of [false, true]) {
      const b = new Bench();
      const whole = pattern(64);
      const [first, last] = cut(whole, 32) as [Part, Part];
      const order: [Part, number][] = [
        [first, UDP],
        [last, 99],
      ];
      if (flip) order.reverse();
      assert.deepEqual(
        order.map(([p, next]) => b.v6(1, p, next)),
        [0, 1],
      );
      assert.equal(b.reassembler.outProtocol, UDP);
    }
  });

  test('a nested fragment header is dropped without an error to send', () => {
    const b = new Bench();
    const data = new Uint8Array(32);
    data[0] = UDP;
    assert.equal(b.v6(1, { start: 0, data, more: true }, 44), DropReason.Frag6Chain);
    assert.equal(b.reassembler.chainIncomplete, false);
    const behindOptions = new Uint8Array(32);
    behindOptions[0] = 44;
    assert.equal(b.v6(1, { start: 0, data: behindOptions, more: true }, 60), DropReason.Frag6Chain);
    assert.equal(b.reassembler.chainIncomplete, false);
    assert.equal(b.reassembler.datagramCount, 0);
  });

  test('a header chain that does not end in the first part is dropped (RFC 7112 §5)', () => {
    for (const [next, firstByte, lengthByte, len] of [
      [60, UDP, 1, 16], // options fill the whole part
      [60, UDP, 255, 32], // options reach beyond it
      [60, TCP, 0, 24], // 16 bytes of TCP behind them
      [TCP, 0, 0, 16],
    ] as const) {
      const b = new Bench();
      const data = new Uint8Array(len);
      data[0] = firstByte;
      data[1] = lengthByte;
      assert.equal(b.v6(1, { start: 0, data, more: true }, next), DropReason.Frag6Chain);
      assert.equal(b.reassembler.chainIncomplete, true);
      assert.equal(b.reassembler.datagramCount, 0);
    }
    const b = new Bench();
    const options = new Uint8Array(32);
    options[0] = UDP;
    assert.equal(b.v6(1, { start: 0, data: options, more: true }, 60), 0);
    assert.equal(b.v6(2, { start: 0, data: new Uint8Array(24), more: true }, TCP), 0);
  });
});

/** What reassembly means, without any concern for cost: one state per key. */
class Model {
  parts: Part[] = [];
  dead = 0;

  add(p: Part): number {
    const end = p.start + p.data.length;
    if (p.data.length === 0 || (p.more && p.data.length % 8 !== 0)) return DropReason.FragLength;
    if (20 + end > 65535) return DropReason.FragTooLong;
    if (this.dead !== 0) return this.dead;
    for (const q of this.parts) {
      const qEnd = q.start + q.data.length;
      if (q.start >= end || p.start >= qEnd) continue;
      const same = q.start === p.start && qEnd === end && Buffer.compare(q.data, p.data) === 0;
      if (!same) return this.#die(DropReason.FragOverlap);
      return q.more === p.more ? 0 : this.#die(DropReason.FragInconsistent);
    }
    const all = [...this.parts, p];
    const lasts = all.filter((q) => !q.more);
    const last = lasts[0];
    if (lasts.length > 1) return this.#die(DropReason.FragInconsistent);
    if (last !== undefined) {
      const total = last.start + last.data.length;
      if (all.some((q) => q !== last && q.start + q.data.length >= total))
        return this.#die(DropReason.FragInconsistent);
    }
    if (all.length > 64) return this.#die(DropReason.FragLimit);
    this.parts = all.sort((a, b) => a.start - b.start);
    return this.#whole() === null ? 0 : 1;
  }

  #die(reason: number): number {
    this.parts = [];
    this.dead = reason;
    return reason;
  }

  #whole(): Uint8Array | null {
    let at = 0;
    for (const p of this.parts) {
      if (p.start !== at) return null;
      at += p.data.length;
    }
    return this.parts.at(-1)?.more === false ? Buffer.concat(this.parts.map((p) => p.data)) : null;
  }

  take(): Uint8Array {
    const whole = this.#whole() as Uint8Array;
    this.parts = [];
    return new Uint8Array(whole);
  }
}

test('F-03 random sequences of valid and invalid parts give what the model gives', () => {
  const seed = 20_240_601;
  const rng = seededRng(seed);
  const below = (n: number): number => rng.u32() % n;
  let wholes = 0;
  let drops = 0;
  for (let run = 0; run < 2000; run++) {
    const b = new Bench();
    const models = [new Model(), new Model()];
    const size = run % 10 === 0 ? 65515 - below(64) : 8 + below(200);
    const whole = pattern(size, run);
    const edges: number[] = [];
    for (let at = 0; at < size && edges.length < 60; ) {
      at += 8 * (1 + below(Math.ceil(size / 32)));
      if (at < size) edges.push(at);
    }
    const queue = cut(whole, ...edges).filter((p) => p.start > 0 || p.more);
    // Mostly the honest parts in some order; every so often a repetition or an invention between them.
    for (let i = queue.length - 1; i > 0; i--) {
      const j = below(4) === 0 ? below(i + 1) : i;
      [queue[i], queue[j]] = [queue[j] as Part, queue[i] as Part];
    }
    const noise = run % 3 === 0 ? 0 : below(5);
    for (let i = 0; i < noise; i++) {
      const start = 8 * below(Math.ceil(size / 8) + 2);
      const end = Math.min(start + below(below(2) === 0 ? 16 : 80), 65535 + 8);
      const invented: Part = { start, data: pattern(end - start, run + below(2)), more: below(3) > 0 };
      const repeated = queue[below(queue.length || 1)];
      const extra = below(2) === 0 && repeated !== undefined ? repeated : invented;
      if (extra.start === 0 && !extra.more) continue;
      if (extra.start + extra.data.length > 65535 + 8 || extra.start > 65528) continue;
      queue.splice(below(queue.length + 1), 0, extra);
    }
    for (const p of queue) {
      const id = below(30) === 0 ? 1 : 0;
      const model = models[id] as Model;
      const expected = model.add(p);
      const got = b.v4(id, p);
      assert.equal(got, expected, `seed ${seed} run ${run}`);
      assert.ok(b.reassembler.bytesHeld <= limits.fragMaxBytes, 'bytes');
      if (got === 1) {
        wholes++;
        assert.deepEqual(b.result(), model.take(), `seed ${seed} run ${run}`);
      }
      if (got < 0) drops++;
    }
  }
  // The sequences must have reached both outcomes often, or the comparison says little.
  assert.ok(wholes > 700, `${wholes} wholes`);
  assert.ok(drops > 300, `${drops} drops`);
});
