import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ARP_REPLY, ArpPacket, emitArp, parseArp } from '../../../src/stack/wire/arp.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import {
  EthernetHeader,
  emitEthernet,
  isGroupMac,
  parseEthernet,
  parseMac,
} from '../../../src/stack/wire/ethernet.ts';
import { assertWritesAll, bytes, copyOf, parseExact, truncations } from './wire-fixture.ts';

describe('ethernet', () => {
  const frame = bytes('ffffffffffff 52550a000202 86dd');

  test('parse and emit are inverse', () => {
    const h = new EthernetHeader();
    assert.equal(
      parseExact(frame, (v, o, l) => parseEthernet(v, o, l, h)),
      0,
    );
    assert.deepEqual(
      { ...h },
      { dstHi: 0xffff, dstLo: 0xffffffff, srcHi: 0x5255, srcLo: 0x0a000202, etherType: 0x86dd },
    );
    const out = assertWritesAll(14, (v, o) => {
      emitEthernet(v, o, h.dstHi, h.dstLo, h.srcHi, h.srcLo, h.etherType);
      return 14;
    });
    assert.deepEqual(out, frame);
  });

  test('E-01: 0 to 13 bytes are link.short', () => {
    const h = new EthernetHeader();
    const results = truncations(frame, (v, o, l) => parseEthernet(v, o, l, h));
    assert.deepEqual(results, [...new Array(14).fill(DropReason.LinkShort), 0]);
  });

  test('reads MAC addresses as text', () => {
    assert.deepEqual(parseMac('52:55:0A:00:02:02'), { hi: 0x5255, lo: 0x0a000202 });
    fc.assert(
      fc.property(fc.nat(0xffff), fc.integer({ min: 0, max: 0xffffffff }), (hi, lo) => {
        const bytes = Buffer.alloc(6);
        bytes.writeUInt16BE(hi, 0);
        bytes.writeUInt32BE(lo, 2);
        const text = bytes.toString('hex').match(/../g)?.join(':') ?? '';
        assert.deepEqual(parseMac(text), { hi, lo });
      }),
    );
    for (const bad of [
      '',
      '52:55:0a:00:02',
      '52:55:0a:00:02:02:03',
      '5:55:0a:00:02:02',
      '52-55-0a-00-02-02',
      'gg:55:0a:00:02:02',
      '52550a000202',
      '52:55:0a:00:02:02\n',
    ]) {
      assert.throws(() => parseMac(bad), RangeError, bad);
    }
  });

  test('isGroupMac looks at the lowest bit of the first byte', () => {
    assert.equal(isGroupMac(0xffff), true);
    assert.equal(isGroupMac(0x0100), true);
    assert.equal(isGroupMac(0x3333), true);
    assert.equal(isGroupMac(0x5255), false);
    assert.equal(isGroupMac(0x0001), false);
  });
});

describe('arp', () => {
  const reply = bytes('0001 0800 06 04 0002 52550a000202 0a000202 525400123456 0a000264');

  test('parse and emit are inverse', () => {
    const p = new ArpPacket();
    assert.equal(
      parseExact(reply, (v, o, l) => parseArp(v, o, l, p)),
      0,
    );
    assert.deepEqual(
      { ...p },
      {
        operation: ARP_REPLY,
        senderHi: 0x5255,
        senderLo: 0x0a000202,
        senderIp: 0x0a000202,
        targetHi: 0x5254,
        targetLo: 0x00123456,
        targetIp: 0x0a000264,
      },
    );
    assert.deepEqual(
      assertWritesAll(28, (v, o) => emitArp(v, o, p)),
      reply,
    );
  });

  test('E-03: every short body, and wrong types, sizes and operations, are arp.malformed', () => {
    const p = new ArpPacket();
    const parse = (v: DataView, o: number, l: number) => parseArp(v, o, l, p);
    assert.deepEqual(truncations(reply, parse), [...new Array(28).fill(DropReason.ArpMalformed), 0]);
    const changes = [
      { 1: 2 },
      { 0: 1 },
      { 2: 0 },
      { 3: 6 },
      { 4: 0 },
      { 4: 7 },
      { 4: 255 },
      { 5: 0 },
      { 5: 16 },
      { 7: 0 },
      { 7: 3 },
      { 6: 255, 7: 255 },
    ];
    for (const change of changes) {
      assert.equal(parseExact(copyOf(reply, change), parse), DropReason.ArpMalformed, JSON.stringify(change));
    }
    assert.equal(
      parseExact([...reply, ...new Array(18).fill(0)], parse),
      0,
      'padding to 60 bytes is allowed',
    );
  });
});
