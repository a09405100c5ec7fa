import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  DHCP_ACK,
  DHCP_FLAG_BROADCAST,
  DHCP_NAK,
  DHCP_REQUEST,
  DhcpMessage,
  DhcpReply,
  emitDhcpReply,
  parseDhcp,
} from '../../../src/stack/wire/dhcp.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { assertWritesAll, bytes, copyOf, parseExact, truncations } from './wire-fixture.ts';

const m = new DhcpMessage();
const parse = (v: DataView, o: number, l: number) => parseDhcp(v, o, l, m);

function request(options: string): Uint8Array {
  const head = bytes(
    '01010600 3903f326 0005 8000 0a000264 00000000 00000000 0a000201 525400123456 00000000000000000000',
  );
  return Uint8Array.from([...head, ...new Uint8Array(192), ...bytes(`63825363 ${options}`)]);
}

const REQUEST = request(
  '350103 3204 0a000264 3604 0a000202 3902 05dc 3d07 01525400123456 00 3704 01031c06 ff',
);

describe('parseDhcp', () => {
  test('reads a request', () => {
    assert.equal(parseExact(REQUEST, parse), 0);
    assert.deepEqual(
      { ...m },
      {
        op: 1,
        htype: 1,
        hlen: 6,
        xid: 0x3903f326,
        flags: DHCP_FLAG_BROADCAST,
        ciaddr: 0x0a000264,
        yiaddr: 0,
        giaddr: 0x0a000201,
        chaddrHi: 0x5254,
        chaddrLo: 0x00123456,
        messageType: DHCP_REQUEST,
        requestedIp: 0x0a000264,
        serverId: 0x0a000202,
      },
    );
  });

  test('D-06: every truncation is dhcp.malformed (END is then missing)', () => {
    const results = truncations(REQUEST, parse);
    assert.deepEqual(results, [...new Array(REQUEST.length).fill(DropReason.DhcpMalformed), 0]);
  });

  test('D-06: bytes behind END do not matter; options of one message do not show in the next', () => {
    assert.equal(parseExact([...REQUEST, 0, 0, 53, 0], parse), 0);
    assert.equal(parseExact(request('350101 ff'), parse), 0);
    assert.deepEqual([m.messageType, m.requestedIp, m.serverId], [1, 0, 0]);
  });

  test('D-06: wrong frames', () => {
    const changes = [
      { 0: 0 },
      { 0: 3 },
      { 1: 6 },
      { 2: 0 },
      { 2: 16 },
      { 2: 255 },
      { 236: 0 },
      { 239: 0x64 },
    ];
    for (const change of changes) {
      assert.equal(
        parseExact(copyOf(REQUEST, change), parse),
        DropReason.DhcpMalformed,
        JSON.stringify(change),
      );
    }
  });

  const bad: [string, string][] = [
    ['no message type', '3204 0a000264 ff'],
    ['message type 0', '350100 ff'],
    ['message type of 2 bytes', '35020100 ff'],
    ['message type of 0 bytes', '3500 ff'],
    ['requested address of 3 bytes', '350101 3203 0a0002 ff'],
    ['server id of 5 bytes', '350101 3605 0a00020200 ff'],
    ['max size of 1 byte', '350101 3901 05 ff'],
    ['length past the end', '350101 0c05 61626364'],
    ['length 255', '350101 0cff 61 ff'],
    ['code without length', '350101 0c'],
    ['missing END', '350101 00 00'],
  ];
  for (const [name, options] of bad) {
    test(`D-06: ${name}`, () => assert.equal(parseExact(request(options), parse), DropReason.DhcpMalformed));
  }

  test('D-06: message types 1 to 255 are the caller’s; option 82 is skipped with what it holds', () => {
    for (let type = 1; type < 256; type++) {
      assert.equal(parseExact(request(`3501${type.toString(16).padStart(2, '0')} ff`), parse), 0);
      assert.equal(m.messageType, type);
    }
    assert.equal(parseExact(request('5206 350105 520100 350101 ff'), parse), 0);
    assert.equal(m.messageType, 1);
  });
});

describe('emitDhcpReply', () => {
  test('an ACK, byte by byte, zero-padded to 300', () => {
    const r = new DhcpReply();
    Object.assign(r, {
      messageType: DHCP_ACK,
      xid: 0x3903f326,
      flags: 0x8000,
      ciaddr: 1,
      yiaddr: 0x0a000264,
      giaddr: 2,
      chaddrHi: 0x5254,
      chaddrLo: 0x00123456,
      serverId: 0x0a000202,
      leaseSeconds: 86400,
      subnetMask: 0xffffff00,
      broadcast: 0x0a0002ff,
      router: 0x0a000202,
      dns: [0x0a000203, 0xc0000201],
      mtu: 65520,
    });
    const head =
      '02010600 3903f326 0000 8000 00000001 0a000264 00000000 00000002 525400123456 00000000000000000000';
    const options = `63825363 350105 3604 0a000202 3304 00015180 0104 ffffff00 1c04 0a0002ff 0304 0a000202
      0608 0a000203 c0000201 1a02 fff0 ff`;
    const want = new Uint8Array(300);
    want.set(bytes(head), 0);
    want.set(bytes(options), 236);
    const out = assertWritesAll(400, (v, o) => emitDhcpReply(v, o, r));
    assert.deepEqual(out, want);
    assert.equal(parseExact(out, parse), 0);
    assert.deepEqual(
      [m.op, m.messageType, m.yiaddr, m.serverId, m.xid],
      [2, DHCP_ACK, 0x0a000264, 0x0a000202, 0x3903f326],
    );
  });

  test('a NAK leaves the options out', () => {
    const r = new DhcpReply();
    r.messageType = DHCP_NAK;
    r.serverId = 0x0a000202;
    const out = assertWritesAll(400, (v, o) => emitDhcpReply(v, o, r));
    assert.equal(out.length, 300);
    assert.deepEqual(out.subarray(240, 250), bytes('350106 3604 0a000202 ff'));
  });

  test('many servers make it longer than 300', () => {
    const r = new DhcpReply();
    r.dns = new Array<number>(20).fill(0x01020304);
    const out = assertWritesAll(400, (v, o) => emitDhcpReply(v, o, r));
    assert.equal(out.length, 240 + 3 + 2 + 80 + 1);
    assert.equal(parseExact(out, parse), 0);
  });
});
