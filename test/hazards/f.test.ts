/** Hazards F: fragments, both families. test/stack/reassembly.test.ts has the reassembler by itself. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  fragmentHeader,
  frame,
  GUEST4,
  GUEST6,
  ipv4,
  ipv6,
  optionsHeader,
  pattern,
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

describe('hazards F: fragments', () => {
  for (const [family, part, dst] of families) {
    test(`F-01 (${family}): overlaps of every kind and order give nothing, and later parts do not revive them`, () => {
      const lab = new Lab();
      const body = udpDatagram({ dst, dstPort: 9 }, pattern(64));
      const at = (offset: number, end: number, mf: boolean, differ: boolean): Omit<Part, 'id'> => {
        const data = Buffer.from(body.subarray(offset, end));
        if (differ) data.fill(0x77);
        return { offset, data, mf };
      };
      let id = 1;
      for (const differ of [false, true]) {
        const sets = [
          // Teardrop.
          [at(0, 40, true, false), { offset: 24, data: Buffer.alloc(4), mf: false }],
          [at(0, 40, true, false), at(32, 72, false, differ)],
          [at(0, 24, true, false), at(16, 48, true, differ), at(48, 72, false, false)],
          [at(0, 48, true, false), at(8, 16, true, differ), at(48, 72, false, false)],
          [
            at(0, 24, true, false),
            at(24, 48, true, false),
            at(16, 32, true, differ),
            at(48, 72, false, false),
          ],
        ];
        for (const set of sets) {
          for (const order of permutations(set)) {
            id++;
            const drops = lab.delta(() => {
              for (const p of order) lab.inject(part({ ...p, id }));
              // The parts of the datagram as it should be, once more, while it is remembered.
              for (const p of cut(body, id, [0, 40])) lab.inject(part(p));
            });
            const refused = (drops['drop.frag.overlap'] ?? 0) + (drops['drop.frag.inconsistent'] ?? 0);
            // It may have been whole before the odd part came; then nothing but itself was delivered.
            const whole = lab.kernel.datagrams.splice(0);
            assert.ok(refused >= 1 || whole.length > 0, JSON.stringify(drops));
            assert.ok(
              whole.every((d) => d.payload.equals(body.subarray(8))),
              'bytes of two parts were mixed',
            );
            if (set.length === 2) assert.equal(whole.length, 0);
          }
        }
      }
      // Exact copies are no overlap.
      const [first, second] = cut(body, 9999, [0, 40]).map((p) => part(p)) as [Buffer, Buffer];
      lab.inject(first, first, second);
      assert.equal(lab.kernel.datagrams.length, 1);
      lab.check();
    });

    test(`F-02 (${family}): datagrams longer than can be, and two different ends`, () => {
      const lab = new Lab();
      const drops = lab.delta(() => {
        lab.inject(part({ id: 1, offset: 65512, data: Buffer.alloc(1448), mf: false }));
        lab.inject(part({ id: 2, offset: 65528, data: Buffer.alloc(8), mf: false }));
        lab.inject(part({ id: 2, offset: 65528, data: Buffer.alloc(8), mf: true }));
      });
      assert.equal(drops['drop.frag.toolong'], 3);
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

    test(`F-03 (${family}): random sequences of good and bad parts give the datagram of the model or nothing`, () => {
      const rng = seededRng(family === 'IPv4' ? 41 : 61);
      const below = (n: number): number => rng.u32() % n;
      const lab = new Lab();
      const expected = new Map<string, boolean>();
      for (let round = 0; round < 3000; round++) {
        const payload = pattern(1 + below(400), round + 1);
        const body = udpDatagram({ dst, dstPort: 9 }, payload);
        const starts = [0];
        for (let at = 8 * (1 + below(8)); at < body.length; at += 8 * (1 + below(8))) starts.push(at);
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
        expected.set(payload.toString('hex'), bad);
        // Whole from the beginning is not a fragment.
        for (const p of list) lab.inject(part(p));
        if ((round & 63) === 0) lab.advance(61_000);
      }
      const seen = new Set(lab.kernel.datagrams.map((d) => d.payload.toString('hex')));
      for (const payload of seen) assert.ok(expected.has(payload), 'a datagram that nobody sent');
      for (const [payload, bad] of expected) if (!bad) assert.ok(seen.has(payload), 'a datagram was lost');
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

    test(`F-05 (${family}): caps hold under floods of first and of middle parts, and a real datagram gets through`, () => {
      const lab = new Lab();
      const body = udpDatagram({ dst, dstPort: 9 }, pattern(2000));
      const [first, second] = cut(body, 60_000, [0, 1400]) as [Part, Part];
      let sent = 0;
      for (let i = 0; i < 20_000; i += 100) {
        const flood = Array.from({ length: 100 }, (_, j) =>
          part({
            id: (i + j) % 50_000,
            offset: (i / 100) % 2 === 0 ? 0 : 1400,
            data: Buffer.alloc(64),
            mf: true,
            src: family === 'IPv4' ? `10.0.2.${100 + ((i + j) % 20)}` : GUEST6,
          }),
        );
        // The two parts of a real one are a few dozen frames apart.
        flood.splice(20, 0, part({ ...first, id: 60_000 + i / 100 }));
        flood.splice(70, 0, part({ ...second, id: 60_000 + i / 100 }));
        sent++;
        lab.inject(...flood);
        for (const d of lab.kernel.datagrams) assert.ok(d.payload.equals(body.subarray(8)));
      }
      assert.ok(lab.kernel.datagrams.length >= 0.99 * sent, `${lab.kernel.datagrams.length} of ${sent}`);
      lab.check({ heapMiB: 8 });
    });

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
    lab.expectDrop('frag.length', 'IPv4', part4({ id: 1, offset: 0, data: Buffer.alloc(41), mf: true }));
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

  test("F-06: the first part's next header counts, whatever the others say", () => {
    const lab = new Lab();
    const body = udpDatagram({ dst: ALLOWED6, dstPort: 9 }, pattern(1600));
    const [first, second] = cut(body, 5, [0, 800]) as [Part, Part];
    lab.inject(part6({ ...second, protocol: TCP }), part6(first));
    assert.equal(lab.kernel.datagrams.length, 1);
    lab.check();
  });

  test('F-07: what we cut ourselves goes together again, at every MTU and size', () => {
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
        const sizes = [0, 1, mtu - 48, mtu - 29, mtu - 28, mtu - 27, mtu, 2 * mtu, 9001, 65000, most];
        for (const size of sizes.filter((s) => s >= 0 && s <= most && (mtu > 68 || s < 20_000))) {
          const data = pattern(size, mtu + size);
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
