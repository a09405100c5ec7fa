import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { emitUdp, parseUdp, UdpHeader } from '../../../src/stack/wire/udp.ts';
import { assertWritesAll, bytes, parseExact, truncations } from './wire-fixture.ts';

const h = new UdpHeader();
const parse = (v: DataView, o: number, l: number) => parseUdp(v, o, l, h);

describe('udp', () => {
  test('parse and emit are inverse', () => {
    const u16 = fc.nat(65535);
    fc.assert(
      fc.property(u16, u16, fc.integer({ min: 8, max: 600 }), u16, (srcPort, dstPort, length, checksum) => {
        const out = assertWritesAll(8, (v, o) => {
          emitUdp(v, o, srcPort, dstPort, length, checksum);
          return 8;
        });
        assert.equal(parseExact([...out, ...new Uint8Array(length - 8)], parse), 0);
        assert.deepEqual({ ...h }, { srcPort, dstPort, length, checksum });
      }),
    );
  });

  test('every truncation is udp.malformed', () => {
    const results = truncations(bytes('0035 8000 000b 0000 616263'), parse);
    assert.deepEqual(results, [...new Array(11).fill(DropReason.UdpMalformed), 0]);
  });

  test('U-01: length 0 to 7 and one too many are malformed; a smaller one is for the caller to trim', () => {
    for (let length = 0; length < 8; length++) {
      const data = bytes('0035 8000 0000 0000 616263');
      data[5] = length;
      assert.equal(parseExact(data, parse), DropReason.UdpMalformed, `length ${length}`);
    }
    assert.equal(parseExact(bytes('0035 8000 000c 0000 616263'), parse), DropReason.UdpMalformed);
    assert.equal(parseExact(bytes('0035 8000 ffff 0000 616263'), parse), DropReason.UdpMalformed);
    assert.equal(parseExact(bytes('0035 8000 0009 0000 616263'), parse), 0);
    assert.equal(h.length, 9);
    assert.equal(parseExact(bytes('0035 8000 0008 0000'), parse), 0);
  });
});
