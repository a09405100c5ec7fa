import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { emitVnet, parseVnet, VNET_HEADER_LEN, VnetHeader } from '../../../src/stack/wire/vnet-header.ts';
import { assertWritesAll, bytes, copyOf, OFF, place } from './wire-fixture.ts';

const h = new VnetHeader();
const TSO = bytes('01 01 4200 b405 2200 1000');
const parse = (data: Uint8Array, frameLen: number) => parseVnet(place(data, 0), OFF, frameLen, h);

describe('vnet header', () => {
  test('parse and emit are inverse; fields are little endian', () => {
    assert.equal(parse(TSO, 65226), 0);
    assert.deepEqual(
      { ...h },
      { flags: 1, gsoType: 1, hdrLen: 66, gsoSize: 1460, csumStart: 34, csumOffset: 16 },
    );
    const out = assertWritesAll(10, (v, o) => {
      emitVnet(v, o, h);
      return VNET_HEADER_LEN;
    });
    assert.deepEqual(out, TSO);
    assert.equal(parse(new Uint8Array(10), 60), 0);
    assert.equal(parse(new Uint8Array(10), 0), 0);
  });

  test('V-02: checksum field at the edge of the frame', () => {
    const csum = copyOf(TSO, { 1: 0, 2: 0 });
    assert.equal(parse(csum, 52), 0);
    assert.equal(parse(csum, 51), DropReason.VnetMalformed);
    assert.equal(parse(copyOf(csum, { 6: 255, 7: 255, 8: 255, 9: 255 }), 65535), DropReason.VnetMalformed);
    assert.equal(parse(copyOf(csum, { 0: 0, 6: 255, 7: 255 }), 51), 0, 'not looked at without NEEDS_CSUM');
    assert.equal(parse(copyOf(csum, { 0: 2 }), 51), 0);
  });

  test('V-02: only known GSO types', () => {
    const known = [0, 1, 3, 4, 5, 0x81, 0x84];
    for (let type = 0; type < 256; type++) {
      const want = known.includes(type) ? 0 : DropReason.VnetMalformed;
      assert.equal(parse(copyOf(TSO, { 1: type }), 3000), want, `type ${type}`);
    }
  });

  test('V-02: gso_size 0 and larger than the frame, hdr_len beyond the packet, more than 64 KiB', () => {
    assert.equal(parse(copyOf(TSO, { 4: 0, 5: 0 }), 3000), DropReason.VnetMalformed);
    assert.equal(parse(copyOf(TSO, { 4: 255, 5: 255 }), 3000), DropReason.VnetMalformed);
    assert.equal(parse(copyOf(TSO, { 1: 0, 4: 0, 5: 0 }), 3000), 0, 'no size without GSO');
    assert.equal(parse(copyOf(TSO, { 3: 255 }), 3000), DropReason.VnetMalformed);
    assert.equal(parse(TSO, 65), DropReason.VnetMalformed);
    assert.equal(parse(TSO, 65589), 0);
    assert.equal(parse(TSO, 65590), DropReason.VnetMalformed);
    assert.equal(
      parseVnet(place([], 0), OFF, -1, h),
      DropReason.VnetMalformed,
      'a read shorter than the header',
    );
  });
});
