import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { checksum, foldSum, pseudoHeaderSum, sumBytes } from '../../../src/stack/wire/checksum.ts';
import { bytes, naiveChecksum, OFF, parseExact, place } from './wire-fixture.ts';

describe('checksum', () => {
  test('RFC 1071 §3 example', () => {
    const view = place(bytes('0001 f203 f4f5 f6f7'));
    assert.equal(foldSum(sumBytes(view, OFF, 8, 0)), 0xddf2);
    assert.equal(checksum(sumBytes(view, OFF, 8, 0)), 0x220d);
  });

  test('every length up to 100 and around 16-byte turns equals the naive model, and nothing behind is read', () => {
    for (let len = 0; len <= 100; len++) {
      const data = Uint8Array.from({ length: len }, (_, i) => (i * 151 + 200) & 255);
      const got = parseExact(data, (view, off, n) => checksum(sumBytes(view, off, n, 0)));
      assert.equal(got, naiveChecksum(data), `length ${len}`);
    }
  });

  test('all ones at 64 KiB do not overflow; all zeros are zero', () => {
    for (const len of [65535, 65536, 131072, 262128]) {
      const ones = new Uint8Array(len).fill(0xff);
      assert.equal(checksum(sumBytes(place(ones), OFF, len, 0)), naiveChecksum(ones), `length ${len}`);
      assert.equal(sumBytes(place(new Uint8Array(len)), OFF, len, 0), 0);
    }
  });

  test('random bytes equal the BigInt model, split anywhere even', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat(1000), (data, cut) => {
        const at = Math.min(cut * 2, data.length & ~1);
        const view = place(data);
        const whole = checksum(sumBytes(view, OFF, data.length, 0));
        const first = sumBytes(view, OFF, at, 0);
        assert.equal(whole, naiveChecksum(data));
        assert.equal(checksum(sumBytes(view, OFF + at, data.length - at, first)), whole);
      }),
      { numRuns: 500 },
    );
  });

  test('random large blocks equal the BigInt model', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 40000, maxLength: 65535, size: 'max' }), (data) => {
        assert.equal(checksum(sumBytes(place(data), OFF, data.length, 0)), naiveChecksum(data));
      }),
      { numRuns: 5 },
    );
  });
});

describe('pseudoHeaderSum', () => {
  test('IPv4 equals the twelve bytes of RFC 768', () => {
    const sum = pseudoHeaderSum(parseIpAddress('192.168.255.1'), parseIpAddress('10.0.2.100'), 17, 65535);
    assert.equal(checksum(sum), naiveChecksum(bytes('c0a8ff01 0a000264 0011 ffff')));
  });

  test('IPv6 equals the forty bytes of RFC 8200 §8.1', () => {
    const src = parseIpAddress('2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa');
    const sum = pseudoHeaderSum(src, parseIpAddress('fd00::100'), 58, 0x12345);
    const model = '20010db8ffffeeeeddddccccbbbbaaaa fd000000000000000000000000000100 00012345 0000003a';
    assert.equal(checksum(sum), naiveChecksum(bytes(model)));
  });

  test('chained with a payload', () => {
    const sum = pseudoHeaderSum(parseIpAddress('10.0.2.100'), parseIpAddress('10.0.2.3'), 17, 9);
    const view = place(bytes('0035 0035 0009 0000 61'));
    const model = naiveChecksum(bytes('0a000264 0a000203 0011 0009 0035 0035 0009 0000 61'));
    assert.equal(checksum(sumBytes(view, OFF, 9, sum)), model);
  });
});
