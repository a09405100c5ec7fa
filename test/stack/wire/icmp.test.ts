import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import {
  emitIcmp,
  ICMP4_ECHO,
  IcmpHeader,
  icmp4Checksum,
  icmp6Checksum,
  parseIcmp,
  setIcmpChecksum,
} from '../../../src/stack/wire/icmp.ts';
import {
  assertWritesAll,
  bytes,
  naiveChecksum,
  OFF,
  parseExact,
  place,
  truncations,
} from './wire-fixture.ts';

describe('icmp', () => {
  test('parse and emit are inverse; the checksum field is written as zero', () => {
    const h = new IcmpHeader();
    assert.equal(
      parseExact(bytes('08 00 abcd fffe8001'), (v, o, l) => parseIcmp(v, o, l, h)),
      0,
    );
    assert.deepEqual({ ...h }, { type: ICMP4_ECHO, code: 0, rest: 0xfffe8001 });
    assert.deepEqual(
      assertWritesAll(8, (v, o) => emitIcmp(v, o, h)),
      bytes('0800 0000 fffe8001'),
    );
  });

  test('C-01: 0 to 7 bytes are icmp.malformed', () => {
    const h = new IcmpHeader();
    const results = truncations(bytes('0800abcd00010002'), (v, o, l) => parseIcmp(v, o, l, h));
    assert.deepEqual(results, [...new Array(8).fill(DropReason.IcmpMalformed), 0]);
  });

  test('icmp4Checksum over an odd message: model, then 0 once stored', () => {
    const data = bytes('0800 0000 0001 0002 61 62 63');
    const view = place(data);
    const sum = icmp4Checksum(view, OFF, data.length);
    assert.equal(sum, naiveChecksum(data));
    setIcmpChecksum(view, OFF, sum);
    assert.equal(icmp4Checksum(view, OFF, data.length), 0);
    view.setUint8(OFF + 10, 0x64);
    assert.notEqual(icmp4Checksum(view, OFF, data.length), 0);
  });

  test('icmp6Checksum covers the pseudo-header', () => {
    const src = parseIpAddress('fe80::1');
    const dst = parseIpAddress('ff02::1');
    const data = bytes('8000 0000 0001 0002 61');
    const view = place(data);
    const sum = icmp6Checksum(view, OFF, data.length, src, dst);
    const model = 'fe800000000000000000000000000001 ff020000000000000000000000000001 00000009 0000003a';
    assert.equal(sum, naiveChecksum([...bytes(model), ...data]));
    setIcmpChecksum(view, OFF, sum);
    assert.equal(icmp6Checksum(view, OFF, data.length, src, dst), 0);
    assert.notEqual(icmp6Checksum(view, OFF, data.length, src, parseIpAddress('ff02::2')), 0);
  });
});
