import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  DNS_RCODE_REFUSED,
  DnsHeader,
  ednsUdpSize,
  emitDnsServfail,
  emitDnsTruncated,
  hasQuestion,
  parseDnsHeader,
  questionEnd,
} from '../../../src/stack/wire/dns.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { bytes, copyOf, OFF, parseExact, place, slice, truncations } from './wire-fixture.ts';

const HEADER = 'abcd 0120 0001 0000 0000 0001';
const QUESTION = '07 6578616d706c65 03 636f6d 00 0001 0001';
const OPT = '00 0029 04d0 00000000 0000';
const QUERY = bytes(`${HEADER} ${QUESTION} ${OPT}`);
const QUESTION_END = 12 + 13 + 4;

const withName = (name: number[]) => [...bytes('abcd 0100 0001 0000 0000 0000'), ...name, 0, 1, 0, 1];
const label = (n: number) => [n, ...new Array<number>(n).fill(0x61)];

describe('parseDnsHeader', () => {
  test('reads the fields', () => {
    const h = new DnsHeader();
    assert.equal(
      parseExact(bytes('abcd aa85 0001 0002 0003 0004'), (v, o, l) => parseDnsHeader(v, o, l, h)),
      0,
    );
    assert.deepEqual({ ...h }, { id: 0xabcd, flags: 0xaa85, qdCount: 1, anCount: 2, nsCount: 3, arCount: 4 });
    assert.deepEqual([h.isResponse, h.opcode, h.rcode], [true, 5, 5]);
    h.flags = 0x0100;
    assert.deepEqual([h.isResponse, h.opcode, h.rcode], [false, 0, 0]);
  });

  test('0 to 11 bytes are dns.malformed', () => {
    const h = new DnsHeader();
    const results = truncations(QUERY.subarray(0, 12), (v, o, l) => parseDnsHeader(v, o, l, h));
    assert.deepEqual(results, [...new Array(12).fill(DropReason.DnsMalformed), 0]);
  });
});

describe('questionEnd', () => {
  test('finds the end; every truncation before it is dns.malformed', () => {
    for (const [len, r] of truncations(QUERY, questionEnd).entries()) {
      assert.equal(r, len < QUESTION_END ? DropReason.DnsMalformed : QUESTION_END, `${len}`);
    }
  });

  test('the root name', () => assert.equal(parseExact(withName([0]), questionEnd), 17));

  test('D-01: question count 0, 2 and 65535', () => {
    for (const change of [{ 5: 0 }, { 5: 2 }, { 4: 255, 5: 255 }]) {
      assert.equal(parseExact(copyOf(QUERY, change), questionEnd), DropReason.DnsMalformed);
    }
  });

  test('D-01: label lengths: 63 passes, 64 to 255 (pointers too) do not', () => {
    assert.equal(parseExact(withName([...label(63), 0]), questionEnd), 12 + 65 + 4);
    for (let n = 64; n < 256; n++) {
      assert.equal(parseExact(withName([...label(n), 0]), questionEnd), DropReason.DnsMalformed, `${n}`);
    }
    assert.equal(parseExact(withName([0xc0, 12]), questionEnd), DropReason.DnsMalformed, 'pointer to itself');
  });

  test('D-01: a name of 255 bytes passes, of 256 not; no terminator', () => {
    const long = [...label(63), ...label(63), ...label(63)];
    assert.equal(parseExact(withName([...long, ...label(61), 0]), questionEnd), 12 + 255 + 4);
    assert.equal(parseExact(withName([...long, ...label(62), 0]), questionEnd), DropReason.DnsMalformed);
    assert.equal(parseExact(withName([...long, ...label(61)]), questionEnd), DropReason.DnsMalformed);
  });
});

describe('hasQuestion', () => {
  const same = (a: ArrayLike<number>, b: ArrayLike<number>) => {
    const query = place(a, 0);
    return hasQuestion(query, OFF, questionEnd(query, OFF, a.length), place(b, 0), OFF, b.length);
  };

  test('ignores case, id, flags and records; nothing else', () => {
    const upper = bytes('1234 8180 0001 0001 0000 0000 07 4558414d504c45 03 434f4d 00 0001 0001 c00c');
    assert.equal(same(QUERY, upper), true);
    assert.equal(same(upper, QUERY), true);
    for (let i = 12; i < QUESTION_END; i++) {
      assert.equal(same(QUERY, copyOf(QUERY, { [i]: (QUERY[i] ?? 0) ^ 1 })), false, `byte ${i}`);
    }
    assert.equal(same(QUERY, QUERY.subarray(0, QUESTION_END - 1)), false);
    assert.equal(same(QUERY, QUERY.subarray(0, 5)), false);
    assert.equal(same(QUERY, copyOf(QUERY, { 5: 0 })), false, 'no question');
    assert.equal(same(QUERY, copyOf(QUERY, { 5: 2 })), false, 'two questions');
  });

  test('only letters fold: @ and ` differ, [ and { differ', () => {
    assert.equal(same(withName([1, 0x40, 0]), withName([1, 0x60, 0])), false);
    assert.equal(same(withName([1, 0x5b, 0]), withName([1, 0x7b, 0])), false);
    assert.equal(same(withName([1, 0x5a, 0]), withName([1, 0x7a, 0])), true);
  });
});

describe('ednsUdpSize', () => {
  const size = (hex: string) => parseExact(bytes(hex), ednsUdpSize);

  test('with and without OPT; never under 512', () => {
    assert.equal(parseExact(QUERY, ednsUdpSize), 1232);
    assert.equal(size(`abcd 0100 0001 0000 0000 0000 ${QUESTION}`), 512);
    assert.equal(size(`${HEADER} ${QUESTION} 00 0029 0000 00000000 0000`), 512);
    assert.equal(size(`${HEADER} ${QUESTION} 00 0029 ffff 00000000 0000`), 65535);
  });

  test('OPT behind other records with labels and pointers', () => {
    const answer = 'c00c 0001 0001 0000003c 0004 0a000264';
    const other = '01 61 c00c 0010 0001 0000003c 0002 0161';
    assert.equal(size(`abcd 8180 0001 0001 0000 0002 ${QUESTION} ${answer} ${other} ${OPT}`), 1232);
    assert.equal(
      size(`${HEADER} ${QUESTION} 01 61 00 0029 04d0 00000000 0000`),
      512,
      'OPT belongs to the root',
    );
  });

  test('D-01: every truncation, lying counts and lengths give 512 and read nothing behind', () => {
    for (const [len, r] of truncations(QUERY, ednsUdpSize).entries()) {
      assert.equal(r, len < QUERY.length ? 512 : 1232, `${len}`);
    }
    assert.equal(size(`abcd 0100 0001 ffff ffff ffff ${QUESTION}`), 512);
    assert.equal(
      size(`abcd 0100 0001 0001 0000 0001 ${QUESTION} c00c 0001 0001 0000003c ffff 0a ${OPT}`),
      512,
    );
    assert.equal(size(`abcd 0100 0001 0001 0000 0001 ${QUESTION} 40 ${OPT}`), 512);
    assert.equal(size(`abcd 0100 0001 0001 0000 0001 ${QUESTION} c0`), 512);
    assert.equal(size(`abcd 0100 0001 0001 0000 0001 ${QUESTION} 05 61`), 512);
  });
});

describe('answers made here', () => {
  test('emitDnsServfail: header and question, to another place and in place', () => {
    const want = bytes(`abcd 8182 0001 0000 0000 0000 ${QUESTION}`);
    const view = place(QUERY, 100);
    const far = OFF + QUERY.length + 10;
    assert.equal(emitDnsServfail(view, OFF, QUERY.length, far), QUESTION_END);
    assert.deepEqual(slice(view, far, QUESTION_END), want);
    assert.equal(view.getUint8(far + QUESTION_END), 0xee, 'nothing behind is written');
    assert.deepEqual(slice(view, OFF, QUERY.length), QUERY, 'the source stays');
    assert.equal(emitDnsServfail(view, OFF, QUERY.length, OFF), QUESTION_END);
    assert.deepEqual(slice(view, OFF, QUESTION_END), want);
  });

  test('emitDnsServfail: opcode and RD kept, other rcode', () => {
    const view = place(copyOf(QUERY, { 2: 0x28, 3: 0x30 }));
    emitDnsServfail(view, OFF, QUERY.length, OFF, DNS_RCODE_REFUSED);
    assert.equal(view.getUint16(OFF + 2), 0xa885);
  });

  test('emitDnsServfail: a question that cannot be read is left out; under 12 bytes there is no answer', () => {
    const view = place(QUERY);
    assert.equal(emitDnsServfail(view, OFF, 20, OFF), 12);
    assert.deepEqual(slice(view, OFF, 12), bytes('abcd 8182 0000 0000 0000 0000'));
    assert.equal(emitDnsServfail(place(QUERY), OFF, 11, OFF), DropReason.DnsMalformed);
  });

  test('emitDnsTruncated: from the query and from the long answer', () => {
    const view = place(QUERY);
    assert.equal(emitDnsTruncated(view, OFF, QUERY.length, OFF), QUESTION_END);
    assert.deepEqual(slice(view, OFF, QUESTION_END), bytes(`abcd 8380 0001 0000 0000 0000 ${QUESTION}`));
    const answer = bytes(`abcd 85a3 0001 0010 0000 0000 ${QUESTION} c00c`);
    const other = place(answer);
    assert.equal(emitDnsTruncated(other, OFF, answer.length, OFF), QUESTION_END);
    assert.deepEqual(slice(other, OFF, QUESTION_END), bytes(`abcd 8783 0001 0000 0000 0000 ${QUESTION}`));
    assert.equal(emitDnsTruncated(place(QUERY), OFF, 11, OFF), DropReason.DnsMalformed);
  });
});
