/** Hazards F: fragments, both families. test/stack/ip/reassembly.test.ts has the reassembler by itself. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FULL } from '../support/full.ts';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  AT_IP4_SRC,
  AT_IP4_SUM,
  AT_IP6_SRC,
  AT_TRANSPORT6,
  type Decoded,
  fragmentHeader,
  frame,
  GUEST4,
  GUEST6,
  ipv4,
  ipv6,
  optionsHeader,
  pattern,
  putWord,
  reassemble,
  TCP,
  tcpSegment,
  UDP,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';
import { seededRng } from '../support/seeded-rng.ts';

interface Part {
  id: number;
  offset: number;
  data: Buffer;
  mf: boolean;
  protocol?: number;
  src?: string;
}

function part4(p: Part): Buffer {
  return frame(
    ipv4({ id: p.id, offset: p.offset, mf: p.mf, protocol: p.protocol ?? UDP, src: p.src ?? GUEST4 }, p.data),
  );
}

function part6(p: Part): Buffer {
  const header = fragmentHeader(p.protocol ?? UDP, p.offset, p.mf, p.id);
  return frame(ipv6({ next: 44, src: p.src ?? GUEST6 }, Buffer.concat([header, p.data])));
}

const families = [
  ['IPv4', part4, ALLOWED4],
  ['IPv6', part6, ALLOWED6],
] as const;

/** `datagram` in parts that begin at `starts`. */
function cut(datagram: Buffer, id: number, starts: readonly number[]): Part[] {
  return starts.map((offset, i) => ({
    id,
    offset,
    data: datagram.subarray(offset, starts[i + 1] ?? datagram.length),
    mf: i < starts.length - 1,
  }));
}

function permutations<T>(list: readonly T[]): T[][] {
  if (list.length <= 1) return [[...list]];
  return list.flatMap((x, i) =>
    permutations([...list.slice(0, i), ...list.slice(i + 1)]).map((rest) => [x, ...rest]),
  );
}

/** Units of 8 bytes in a datagram whose overlaps are all tried. */
const UNITS = 4;

/** All choices of 2 to `most` of `count` things, the same one several times too. */
function multisets(count: number, most: number): number[][] {
  const out: number[][] = [];
  const grow = (list: number[]): void => {
    if (list.length >= 2) out.push(list);
    if (list.length === most) return;
    for (let i = list.at(-1) ?? 0; i < count; i++) grow([...list, i]);
  };
  grow([]);
  return out;
}

/** What RFC 5722 and the catalogue ask for: exact copies are passed over, any other overlap ends the datagram for good. */
class OverlapModel {
  readonly #parts: Part[] = [];
  #refused = false;

  /** The datagram that `p` makes whole, or null. */
  add(p: Part): Buffer | null {
    // All of it in one piece is no fragment, or an atomic one, which is handled alone (RFC 6946).
    if (p.offset === 0 && !p.mf) return p.data;
    if (this.#refused) return null;
    const end = p.offset + p.data.length;
    for (const other of this.#parts) {
      if (other.offset === p.offset && other.data.length === p.data.length) return null;
      if (p.offset < other.offset + other.data.length && end > other.offset) {
        this.#refused = true;
        return null;
      }
    }
    this.#parts.push(p);
    this.#parts.sort((a, b) => a.offset - b.offset);
    const whole = Buffer.concat(this.#parts.map((x) => x.data));
    if (whole.length < 8 * UNITS) return null;
    this.#parts.length = 0;
    return whole;
  }
}

describe('hazards F: fragments', () => {
  for (const [family, part, dst] of families) {
    test(`F-01 (${family}): teardrop`, () => {
      const lab = new Lab();
      const body = udpDatagram({ dst, dstPort: 9 }, pattern(64));
      for (const order of permutations([0, 1])) {
        const drops = lab.delta(() => {
          for (const i of order)
            lab.inject(
              i === 0
                ? part({ id: order[0] as number, offset: 0, data: body.subarray(0, 40), mf: true })
                : part({ id: order[0] as number, offset: 24, data: Buffer.alloc(4), mf: false }),
            );
          // The parts of the datagram as it should be, once more, while it is remembered.
          for (const p of cut(body, order[0] as number, [0, 40])) lab.inject(part(p));
        });
        const refused = (drops['drop.frag.overlap'] ?? 0) + (drops['drop.frag.inconsistent'] ?? 0);
        assert.ok(refused >= 1);
      }
      assert.equal(lab.kernel.datagrams.length, 0);
      lab.check();
    });

    test(`F-01 (${family}): all overlaps of 2, 3 and 4 parts, with equal and other data, in every order`, () => {
      const lab = new Lab();
      // No checksum where there need be none, so that bytes of two parts that were mixed would be seen.
      const body = udpDatagram(
        { dst, dstPort: 9, ...(family === 'IPv4' ? { checksum: 0 } : {}) },
        pattern(8 * UNITS - 8),
      );
      const pieces: Part[] = [];
      for (let from = 0; from < UNITS; from++)
        for (let to = from + 1; to <= UNITS; to++)
          pieces.push({
            id: 0,
            offset: 8 * from,
            data: body.subarray(8 * from, 8 * to),
            mf: to < UNITS,
          });
      const frames = [false, true].map((differ) =>
        pieces.map((p, i) => {
          const data = Buffer.from(p.data);
          if (differ) data.fill(0x40 + i, p.offset === 0 ? 8 : 0);
          return { ...p, data, frame: part({ ...p, data }) };
        }),
      );
      let id = 0;
      let batch: Buffer[] = [];
      const expected: Buffer[] = [];
      let cases = 0;
      const settle = (): void => {
        lab.inject(...batch);
        const got = lab.kernel.datagrams.splice(0).map((d) => d.payload.toString('hex'));
        assert.deepEqual(
          got,
          expected.splice(0).map((b) => b.subarray(8).toString('hex')),
        );
        batch = [];
      };
      for (const set of multisets(pieces.length, 4)) {
        for (const order of permutations(set)) {
          for (const list of frames) {
            const model = new OverlapModel();
            id++;
            for (const i of order) {
              const piece = list[i] as Part & { frame: Buffer };
              const f = Buffer.from(piece.frame);
              if (family === 'IPv4') putWord(f, 18, id & 0xffff, AT_IP4_SUM);
              else f.writeUInt32BE(id, AT_TRANSPORT6 + 4);
              batch.push(f);
              const whole = model.add(piece);
              // IPv6 has its checksum, which other bytes do not match.
              if (whole !== null && (family === 'IPv4' || whole.equals(body))) expected.push(whole);
            }
            cases++;
          }
        }
        if (batch.length > 2000) settle();
      }
      settle();
      assert.ok(cases > 35_000, `${cases} cases`);
      assert.ok(lab.counter('drop.frag.overlap') > 10_000);
      lab.check({ heapMiB: 8 });
    });

    test(`F-02 (${family}): datagrams longer than can be, and two different ends`, () => {
      const lab = new Lab();
      const drops = lab.delta(() => {
        lab.inject(part({ id: 1, offset: 65512, data: Buffer.alloc(1448), mf: false }));
        lab.inject(part({ id: 2, offset: 65528, data: Buffer.alloc(8), mf: false }));
        lab.inject(part({ id: 2, offset: 65528, data: Buffer.alloc(8), mf: true }));
      });
      assert.equal(drops['drop.frag.toolong'], 3);
      // Right up to the edge: with its header an IPv4 datagram has 65,535 bytes, the payload of an IPv6 one too.
      const most = family === 'IPv4' ? 65_515 : 65_535;
      for (const length of [most - 1, most, most + 1]) {
        const body = Buffer.alloc(length, 0x5a);
        udpDatagram({ dst, dstPort: 9, length: Math.min(length, 65_535) }).copy(body);
        body.writeUInt16BE(0, 6);
        if (family === 'IPv6') udpDatagram({ dst, dstPort: 9 }, body.subarray(8, 65_535)).copy(body);
        const starts = Array.from({ length: Math.ceil(length / 1440) }, (_, i) => 1440 * i);
        const changed = lab.delta(() =>
          lab.inject(...cut(body, length & 0xffff, starts).map((p) => part(p))),
        );
        if (length <= most) assert.equal(lab.kernel.datagrams.splice(0)[0]?.payload.length, length - 8);
        else assert.equal(changed['drop.frag.toolong'], 1, `${length} bytes`);
      }
      // A last part that ends before one that is stored; then two different last parts.
      for (const [id, parts] of [
        [
          3,
          [
            [800, 80, true],
            [400, 80, false],
          ],
        ],
        [
          4,
          [
            [800, 80, false],
            [400, 80, false],
          ],
        ],
        [
          5,
          [
            [800, 80, false],
            [880, 80, true],
          ],
        ],
      ] as [number, [number, number, boolean][]][]) {
        const changed = lab.delta(() => {
          for (const [offset, length, mf] of parts)
            lab.inject(part({ id, offset, data: Buffer.alloc(length), mf }));
        });
        assert.equal(changed['drop.frag.inconsistent'], 1, `id ${id}`);
      }
      assert.equal(lab.kernel.datagrams.length, 0);
      lab.check();
    });

    test(`F-03 (${family}): a first part as large as the link takes, then small ones; empty parts`, () => {
      for (const mtu of [1500, 65520]) {
        const lab = new Lab({ device: { mtu } });
        const most = (mtu - (family === 'IPv4' ? 20 : 48)) & ~7;
        const length = Math.min(65507, most + 64);
        const body = udpDatagram({ dst, dstPort: 9 }, pattern(length - 8));
        const starts = [0, most];
        for (let at = most + 8; at < length; at += 8) starts.push(at);
        for (const p of cut(body, 7, starts)) lab.inject(part(p));
        assert.ok(lab.kernel.datagrams[0]?.payload.equals(body.subarray(8)));
        for (const [offset, mf] of [
          [8, true],
          [8, false],
        ] as const) {
          const drops = lab.delta(() => lab.inject(part({ id: 8, offset, data: Buffer.alloc(0), mf })));
          assert.equal(drops['drop.frag.length'], 1, 'an empty part');
        }
        lab.check();
      }
    });

    const rounds = FULL ? 500_000 : 10_000;
    test(`F-03 (${family}): ${rounds} random sequences of good and bad parts give the datagram of the model or nothing`, () => {
      const rng = seededRng(family === 'IPv4' ? 41 : 61);
      const below = (n: number): number => rng.u32() % n;
      const lab = new Lab();
      const bytes = pattern(1000, 3);
      for (let round = 0; round < rounds; round++) {
        const at = below(500);
        const payload = bytes.subarray(at, at + 1 + below(400));
        const body = udpDatagram({ dst, dstPort: 9 }, payload);
        const starts = [0];
        for (let to = 8 * (1 + below(8)); to < body.length; to += 8 * (1 + below(8))) starts.push(to);
        const good = cut(body, round & 0xffff, starts);
        const list = [...good];
        const bad = below(3) === 0 && good.length > 1;
        for (let i = below(3); i > 0; i--) list.push(good[below(good.length)] as Part);
        if (bad) {
          const p = { ...(good[below(good.length)] as Part) };
          if (below(2) === 0) p.offset += 8;
          else p.data = Buffer.alloc(Math.max(8, (p.data.length & ~7) + 8), 0x33);
          list.splice(below(list.length), 0, p);
        }
        for (let i = list.length - 1; i > 0; i--) {
          const j = below(i + 1);
          [list[i], list[j]] = [list[j] as Part, list[i] as Part];
        }
        lab.inject(...list.map((p) => part(p)));
        const seen = lab.kernel.datagrams.splice(0);
        for (const d of seen) assert.ok(d.payload.equals(payload), `round ${round}: another datagram`);
        if (!bad) assert.ok(seen.length >= 1, `round ${round}: a datagram was lost`);
        lab.kernel.reached.length = 0;
        if ((round & 63) === 0) lab.advance(61_000);
      }
      lab.check();
    });

    test(`F-04 (${family}): policy and ports are judged on whole datagrams only; tiny parts are dropped`, () => {
      const lab = new Lab();
      // Flags in the second part: RFC 1858. The parts are kept, and the SYN is judged when it is whole.
      const segment = tcpSegment({ dst, src: family === 'IPv4' ? GUEST4 : GUEST6, dstPort: 25 });
      for (const p of cut(segment, 1, [0, 8])) lab.inject(part({ ...p, protocol: TCP }));
      assert.deepEqual(lab.kernel.reached, []);
      // A part at offset 8 of TCP exists only to rewrite flags: RFC 3128.
      lab.expectDrop(
        'frag.tiny',
        'offset 1',
        part({ id: 2, offset: 8, data: Buffer.alloc(8), mf: true, protocol: TCP }),
      );
      lab.check();
      const shut = new Lab({ deny: ['any://0.0.0.0/0', 'any://[::]/0'] });
      for (const p of cut(udpDatagram({ dst, dstPort: 9 }, pattern(100)), 3, [0, 8, 64]))
        shut.inject(part(p));
      assert.deepEqual(shut.kernel.reached, []);
      assert.equal(shut.counter('drop.policy.deny'), 1);
    });

    const most = FULL ? 1_000_000 : 200_000;
    for (const [what, offset] of [
      ['first', 0],
      ['middle', 1400],
    ] as const) {
      test(`F-05 (${family}): ${most} ${what} parts of as many datagrams: caps hold, and real datagrams get through`, () => {
        const lab = new Lab();
        const v4 = family === 'IPv4';
        const body = udpDatagram({ dst, dstPort: 9 }, pattern(2000));
        const [first, second] = cut(body, 0, [0, 1400]) as [Part, Part];
        const flood = part({ id: 0, offset, data: Buffer.alloc(64), mf: true });
        let sent = 0;
        // Of each hundred frames two are a real datagram's, a few dozen frames apart.
        const frames = Array.from({ length: 100 }, () => flood);
        frames[20] = part(first);
        frames[70] = part(second);
        let seen = 0;
        const answer = lab.kernel.onDatagram;
        lab.kernel.keepDatagrams = false;
        lab.kernel.onDatagram = (d) => {
          seen++;
          assert.ok(d.payload.equals(body.subarray(8)));
        };
        for (let done = 0; done < most; done += 10_000) {
          lab.flood(10_000, frames, (f, i) => {
            const n = done + i;
            const isReal = i % 100 === 20 || i % 100 === 70;
            if (i % 100 === 20) sent++;
            const id = isReal ? Math.floor(n / 100) : n;
            if (!v4) {
              f.writeUInt32BE(isReal ? 0x80000000 + id : id, AT_TRANSPORT6 + 4);
              if (!isReal) f.writeUInt16BE(n & 0xfff, AT_IP6_SRC + 12);
              return;
            }
            putWord(f, 18, id & 0xffff, AT_IP4_SUM);
            // Ten thousand identifications at a time, from another address each time.
            if (!isReal) putWord(f, AT_IP4_SRC + 2, 0x0200 + 101 + ((n >> 16) & 127), AT_IP4_SUM);
          });
          lab.kernel.forget();
        }
        assert.ok(seen >= 0.99 * sent && sent === most / 100, `${seen} of ${sent}`);
        lab.kernel.keepDatagrams = true;
        lab.kernel.onDatagram = answer;
        lab.check({ heapMiB: 8 });
      });
    }

    test(`F-05 (${family}): one datagram in 8-byte parts; expiry is told only when the first part came`, () => {
      const lab = new Lab();
      const body = udpDatagram({ dst, dstPort: 9 }, pattern(8 * 200));
      const starts = Array.from({ length: 201 }, (_, i) => 8 * i);
      const drops = lab.delta(() => lab.inject(...cut(body, 1, starts).map((p) => part(p))));
      assert.ok((drops['drop.frag.limit'] ?? 0) > 0);
      assert.equal(lab.kernel.datagrams.length, 0);
      lab.inject(part({ id: 2, offset: 0, data: body.subarray(0, 64), mf: true }));
      lab.inject(part({ id: 3, offset: 64, data: body.subarray(64, 128), mf: true }));
      const errors = lab.advance(61_000).filter((d) => d.icmpType === (family === 'IPv4' ? 11 : 3));
      assert.deepEqual(
        errors.map((d) => d.icmpCode),
        [1],
      );
      assert.equal(lab.counter('drop.frag.timeout'), 1);
      lab.check();
    });
  }

  test('F-04: parts that are no multiple of 8: dropped, for IPv6 with a parameter problem', () => {
    const lab = new Lab();
    for (let n = 1; n < 100; n++) {
      if (n % 8 === 0) continue;
      for (const offset of [0, 800])
        lab.expectDrop(
          'frag.length',
          `${n} bytes`,
          part4({ id: 1, offset, data: Buffer.alloc(n), mf: true }),
        );
    }
    const [error] = lab.inject(
      part6({ id: 1, offset: 0, data: udpDatagram({ dst: ALLOWED6 }, Buffer.alloc(33)), mf: true }),
    );
    assert.equal(error?.icmpType, 4);
    assert.equal(error?.icmpCode, 0);
    assert.equal(error?.icmpRest, 4);
    lab.check();
  });

  test('F-04: a UDP header in two parts is whole before it is read', () => {
    const lab = new Lab();
    const body = udpDatagram({ dstPort: 9 }, pattern(64));
    // IPv4 cannot cut below 8 bytes; nothing shorter than a header is ever a datagram.
    for (const p of cut(body, 1, [0, 8, 16])) lab.inject(part4(p));
    assert.ok(lab.kernel.datagrams[0]?.payload.equals(body.subarray(8)));
    lab.expectDrop('udp.malformed', 'a datagram of 4 bytes', frame(ipv4({ protocol: UDP }, Buffer.alloc(4))));
    lab.check();
  });

  test('F-06: atomic fragments are handled alone, beside real parts of the same identification', () => {
    const lab = new Lab();
    const body = udpDatagram({ dst: ALLOWED6, dstPort: 9 }, pattern(1600));
    const [first, second] = cut(body, 5, [0, 800]) as [Part, Part];
    const atomic = udpDatagram({ dst: ALLOWED6, dstPort: 9 }, Buffer.from('atomic'));
    lab.inject(part6(first), part6({ id: 5, offset: 0, data: atomic, mf: false }), part6(second));
    assert.deepEqual(
      lab.kernel.datagrams.map((d) => d.payload.length),
      [6, 1600],
    );
    lab.check();
  });

  test('F-06: nested fragment headers and chains that do not end in the first part', () => {
    const lab = new Lab();
    const inner = Buffer.concat([fragmentHeader(UDP, 0, true, 2), Buffer.alloc(64)]);
    lab.expectDrop('frag6.chain', 'nested', part6({ id: 1, offset: 0, data: inner, mf: true, protocol: 44 }));
    const options = optionsHeader(UDP, Buffer.alloc(6), 100);
    const drops = lab.delta(() => {
      const [error] = lab.inject(part6({ id: 2, offset: 0, data: options, mf: true, protocol: 60 }));
      assert.deepEqual([error?.icmpType, error?.icmpCode], [4, 3]);
    });
    assert.equal(drops['drop.frag6.chain'], 1);
    lab.check();
  });

  test('F-06: a chain of headers that is 64 KiB long once it is whole', () => {
    const lab = new Lab();
    const filler = Buffer.concat([Buffer.from([1, 250]), Buffer.alloc(250)]);
    const chain = Buffer.concat([
      ...Array.from({ length: 254 }, () => optionsHeader(60, filler)),
      optionsHeader(UDP, Buffer.alloc(6)),
      udpDatagram({ dst: ALLOWED6, dstPort: 9 }, Buffer.from('behind it')),
    ]);
    assert.ok(chain.length > 64_000 && chain.length < 65_536, `${chain.length}`);
    const starts = Array.from({ length: Math.ceil(chain.length / 1440) }, (_, i) => 1440 * i);
    const parts = cut(chain, 9, starts).map((p) => part6({ ...p, protocol: 60 }));
    const drops = lab.delta(() => {
      const errors = lab.inject(...parts);
      assert.deepEqual([errors[0]?.icmpType, errors[0]?.icmpCode], [4, 3]);
    });
    assert.ok((drops['drop.frag6.chain'] ?? 0) >= 1);
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test("F-06: the first part's next header counts, whatever the others say", () => {
    const lab = new Lab();
    const body = udpDatagram({ dst: ALLOWED6, dstPort: 9 }, pattern(1600));
    const [first, second] = cut(body, 5, [0, 800]) as [Part, Part];
    lab.inject(part6({ ...second, protocol: TCP }), part6(first));
    assert.equal(lab.kernel.datagrams.length, 1);
    lab.check();
  });

  test('F-07: what we cut ourselves goes together again, at every MTU and size', () => {
    const bytes = pattern(65_535, 7);
    for (const mtu of [68, 576, 1280, 1500, 65520]) {
      const lab = new Lab({ device: { mtu }, addresses: { ipv6: mtu >= 1280 } });
      for (const [dst, most] of [
        [ALLOWED4, 65507],
        [ALLOWED6, 65527],
      ] as const) {
        if (dst === ALLOWED6 && mtu < 1280) continue;
        const ports: number[] = [];
        lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }));
        const { file } = lab.kernel.datagrams.at(-1) as {
          file: { deliver: (from: object, data: Buffer) => void };
        };
        const ids = new Set<number>();
        // Every size around the first and the second edge of a part, and a share of the others.
        const top = Math.min(most, mtu === 68 ? 6000 : 65_535);
        const sizes = [0, 1, top];
        for (let size = mtu - 60; size < 2 * mtu + 10; size += mtu > 2000 ? 997 : 1) sizes.push(size);
        for (let size = 3 * mtu; size < top; size += FULL ? 61 : 4999) sizes.push(size);
        for (const size of sizes.filter((n) => n >= 0 && n <= top)) {
          const data = bytes.subarray(0, size);
          file.deliver({ address: dst, port: 9 }, data);
          lab.run();
          const out = lab.take();
          for (const d of out)
            assert.ok(d.raw.length - 14 <= mtu, `${d.raw.length - 14} bytes at MTU ${mtu}`);
          const got = out.length === 1 ? (out[0] as Decoded) : reassemble(out);
          assert.ok(got.payload.equals(data), `${size} bytes at MTU ${mtu}`);
          if (out.length > 1) {
            assert.ok(!ids.has(got.fragmentId), 'an identification used twice');
            ids.add(got.fragmentId);
          }
          ports.push(got.dstPort);
          if (ids.size > 30_000) ids.clear();
        }
        assert.ok(ports.every((p) => p === 4000));
      }
      assert.deepEqual(lab.errors, []);
      lab.checkReach();
    }
  });

  for (const [family, part, dst] of families) {
    test(`${family}: TCP segments in fragments, many in one batch, give the bytes that were sent`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst);
      const data = pattern(1800, 3);
      const frames: Buffer[] = [];
      for (let at = 0; at < data.length; at += 36) {
        const piece = data.subarray(at, at + 36);
        const segment = peer
          .packet({ seq: (peer.seq + at) >>> 0 }, piece)
          .subarray(dst === ALLOWED6 ? 40 : 20);
        // Every third one comes whole.
        if (at % 108 === 0) frames.push(frame(peer.packet({ seq: (peer.seq + at) >>> 0 }, piece)));
        else
          frames.push(
            part({ id: at + 1, offset: 0, data: segment.subarray(0, 48), mf: true, protocol: TCP }),
            part({ id: at + 1, offset: 48, data: segment.subarray(48), mf: false, protocol: TCP }),
          );
      }
      for (let at = 0; at < frames.length; at += 60) lab.inject(...frames.slice(at, at + 60));
      assert.ok(peer.stream?.received.equals(data));
    });
  }
});
