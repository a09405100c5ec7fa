import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseSpp, SPP_HEADER_LEN, SppHeader, SppProblem } from '../../../src/forward/udp/spp.ts';

const header = new SppHeader();

function parse(bytes: Uint8Array): number {
  return parseSpp(new DataView(bytes.buffer, bytes.byteOffset), 0, bytes.length, header);
}

describe('Simple Proxy Protocol', () => {
  test('all fields, IPv4 as mapped addresses', () => {
    const bytes = Buffer.alloc(40);
    bytes.writeUInt16BE(0x56ec);
    bytes.fill(0xff, 12, 14);
    Buffer.from([203, 0, 113, 7]).copy(bytes, 14);
    bytes.writeUInt16BE(0x2001, 18);
    bytes[33] = 9;
    bytes.writeUInt16BE(40000, 34);
    bytes.writeUInt16BE(53, 36);
    assert.equal(parse(bytes), SppProblem.None);
    assert.equal(header.client.toString(), '203.0.113.7');
    assert.equal(header.proxy.toString(), '2001::9');
    assert.deepEqual([header.clientPort, header.proxyPort], [40000, 53]);
  });

  test('shorter than 38 bytes is short, whatever it begins with; else the magic number decides', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (random, isMarked) => {
        const bytes = Uint8Array.from(random);
        if (isMarked && bytes.length > 1) bytes.set([0x56, 0xec]);
        const hasMagic = bytes[0] === 0x56 && bytes[1] === 0xec;
        const expected =
          bytes.length < SPP_HEADER_LEN ? SppProblem.Short : hasMagic ? SppProblem.None : SppProblem.Magic;
        assert.equal(parse(bytes), expected);
      }),
    );
  });
});
