import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  emitProxyHeader,
  PROXY_BAD,
  PROXY_CUT,
  PROXY_MAX,
  PROXY_MORE,
  ProxyHeader,
  parseProxyHeader,
} from '../../../src/forward/tcp/proxy-protocol.ts';
import { IpAddress } from '../../../src/stack/wire/address.ts';

const SIGNATURE = '\r\n\r\n\0\r\nQUIT\n';

function bytes(...parts: (string | number[])[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))),
  );
}

/** Result, and who is named if anybody is. */
function read(data: Buffer, out = new ProxyHeader()): [number, string] {
  // At an offset, with poison around it.
  const room = Buffer.alloc(data.length + 32, 0x0a);
  data.copy(room, 16);
  const view = new DataView(room.buffer, room.byteOffset, room.length);
  const result = parseProxyHeader(view, 16, data.length, out);
  const named = out.hasAddresses ? `${out.src} ${out.srcPort} ${out.dst} ${out.dstPort}` : '';
  return [result, result > 0 ? named : ''];
}

/** The header in every first part of it: nothing but "more" until it is complete, and what follows changes nothing. */
function complete(header: Buffer, named: string): void {
  for (let n = 0; n < header.length; n++)
    assert.deepEqual(read(header.subarray(0, n)), [PROXY_MORE, ''], `${n} bytes`);
  assert.deepEqual(read(header), [header.length, named]);
  assert.deepEqual(read(Buffer.concat([header, Buffer.from('PROXY \r\n\n')])), [header.length, named]);
}

const v2 = (command: number, family: number, body: number[]) =>
  bytes(SIGNATURE, [0x20 | command, family, body.length >> 8, body.length & 0xff], body);
const INET = [192, 0, 2, 1, 198, 51, 100, 7, 0x04, 0xd2, 0, 80];

describe('version 1', () => {
  test('names client and destination, byte by byte (P-06)', () => {
    complete(bytes('PROXY TCP4 1.2.3.4 4.3.2.1 1 65535\r\n'), '1.2.3.4 1 4.3.2.1 65535');
    complete(bytes('PROXY TCP6 2001:db8::1 ::1 0 443\r\n'), '2001:db8::1 0 ::1 443');
  });

  test('takes addresses of either family with either word', () => {
    complete(bytes('PROXY TCP4 2001:db8::1 1.2.3.4 5 6\r\n'), '2001:db8::1 5 1.2.3.4 6');
    complete(bytes('PROXY TCP6 ::ffff:192.0.2.1 1.2.3.4 5 6\r\n'), '192.0.2.1 5 1.2.3.4 6');
  });

  test('UNKNOWN names nobody, whatever follows', () => {
    complete(bytes('PROXY UNKNOWN\r\n'), '');
    complete(bytes('PROXY UNKNOWN ffff::1 x 99999\r\n'), '');
  });

  test('of 107 bytes is taken, and a longer one never', () => {
    const longest = bytes('PROXY UNKNOWN ', 'x'.repeat(107 - 14 - 2), '\r\n');
    assert.equal(longest.length, 107);
    complete(longest, '');
    assert.deepEqual(read(bytes('PROXY UNKNOWN ', 'x'.repeat(107 - 14))), [PROXY_CUT, '']);
    assert.deepEqual(read(bytes('PROXY UNKNOWN ', 'x'.repeat(400), '\r\n')), [PROXY_CUT, '']);
  });

  const bad = [
    'PROXY TCP4 1.2.3.4 4.3.2.1 1 65536\r\n',
    'PROXY TCP4 1.2.3.4 4.3.2.1 01 2\r\n',
    'PROXY TCP4 1.2.3.4 4.3.2.1 -1 2\r\n',
    'PROXY TCP4 1.2.3.4 4.3.2.1 1\r\n',
    'PROXY TCP4 1.2.3.4 4.3.2.1 1 2 3\r\n',
    'PROXY TCP4  1.2.3.4 4.3.2.1 1 2\r\n',
    'PROXY TCP4 1.2.3 4.3.2.1 1 2\r\n',
    'PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n',
    'PROXY UDP4 1.2.3.4 4.3.2.1 1 2\r\n',
    'PROXY TCP4 1.2.3.4 4.3.2.1 1 2\n',
    'PROXY \r\n',
    'proxy TCP4 1.2.3.4 4.3.2.1 1 2\r\n',
    'GET / HTTP/1.1\r\n',
    '\n',
  ];
  for (const line of bad) {
    test(`${JSON.stringify(line)} is refused`, () => assert.deepEqual(read(bytes(line)), [PROXY_BAD, '']));
  }

  test('bytes that no header begins with are refused at once, as cut short while no line has ended', () => {
    assert.deepEqual(read(bytes('hello')), [PROXY_CUT, '']);
    assert.deepEqual(read(bytes('PROXX')), [PROXY_CUT, '']);
    assert.deepEqual(read(bytes('hello\r\n')), [PROXY_BAD, '']);
  });
});

describe('version 2', () => {
  test('names client and destination of either family, byte by byte', () => {
    complete(v2(1, 0x11, INET), '192.0.2.1 1234 198.51.100.7 80');
    const inet6 = [0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 9, ...Array(15).fill(0), 1, 0, 1, 0, 2];
    complete(v2(1, 0x21, inet6), '2001:db8::9 1 ::1 2');
  });

  test('skips TLVs up to its limit, and no further', () => {
    complete(v2(1, 0x11, [...INET, 0x03, 0, 4, 1, 2, 3, 4]), '192.0.2.1 1234 198.51.100.7 80');
    const most = v2(1, 0x11, [...INET, ...Array(PROXY_MAX - 16 - INET.length).fill(7)]);
    assert.deepEqual(read(most), [PROXY_MAX, '192.0.2.1 1234 198.51.100.7 80']);
    assert.deepEqual(read(v2(1, 0x11, [...INET, ...Array(PROXY_MAX - 15 - INET.length).fill(7)])), [
      PROXY_BAD,
      '',
    ]);
  });

  test('LOCAL, unix sockets and unspecified families name nobody', () => {
    complete(v2(0, 0x11, INET), '');
    complete(v2(0, 0, []), '');
    complete(v2(1, 0x31, Array(216).fill(0x61)), '');
    complete(v2(1, 0x00, [1, 2, 3]), '');
  });

  test('of another version or command, or too short for its addresses, is refused', () => {
    assert.deepEqual(read(bytes(SIGNATURE, [0x11, 0x11, 0, 12], INET)), [PROXY_BAD, '']);
    assert.deepEqual(read(bytes(SIGNATURE, [0x22, 0x11, 0, 12], INET)), [PROXY_BAD, '']);
    assert.deepEqual(read(v2(1, 0x11, INET.slice(1))), [PROXY_BAD, '']);
    assert.deepEqual(read(v2(1, 0x21, INET)), [PROXY_BAD, '']);
  });
});

const anyAddress = (v4: boolean) =>
  fc
    .tuple(fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff))
    .map(([a, b, c, d]) => {
      // Not a mapped address, which would be the IPv4 one.
      return v4 ? new IpAddress().setV4(d) : new IpAddress().set(a | 1, b, c, d);
    });

test('what is written is read back the same, in both versions and families', () => {
  const port = fc.nat(0xffff);
  const cases = fc
    .tuple(fc.boolean(), fc.constantFrom(1 as const, 2 as const))
    .chain(([v4, version]) => fc.tuple(fc.constant(version), anyAddress(v4), port, anyAddress(v4), port));
  fc.assert(
    fc.property(cases, ([version, src, srcPort, dst, dstPort]) => {
      const buffer = new DataView(new ArrayBuffer(128));
      const length = emitProxyHeader(buffer, 3, version, src, srcPort, dst, dstPort);
      const data = Buffer.from(buffer.buffer, 3, length);
      assert.deepEqual(read(data), [length, `${src} ${srcPort} ${dst} ${dstPort}`]);
      if (version === 1) assert.ok(length <= 107);
    }),
  );
});

test('any bytes give a length within them, more, or a refusal; more only while a header can still come', () => {
  const start = fc.constantFrom(
    '',
    'PROXY ',
    'PROXY TCP4 1.2.3.4 ',
    SIGNATURE,
    `${SIGNATURE}!\x11\0`,
    'PROX',
  );
  const cases = fc.tuple(start, fc.uint8Array({ maxLength: 300 }));
  fc.assert(
    fc.property(cases, ([prefix, tail]) => {
      const data = bytes(prefix, [...tail]);
      const [result] = read(data);
      assert.ok(result <= data.length && result >= PROXY_BAD);
      // A refusal is final.
      if (result < 0 && result !== PROXY_CUT) {
        assert.ok(read(Buffer.concat([data, Buffer.from('x\r\n')]))[0] < 0);
      }
    }),
    { numRuns: 2000 },
  );
});

test('a reused record does not keep the last client', () => {
  const out = new ProxyHeader();
  read(bytes('PROXY TCP4 1.2.3.4 4.3.2.1 1 2\r\n'), out);
  read(bytes('PROXY UNKNOWN\r\n'), out);
  assert.equal(out.hasAddresses, false);
  assert.equal(out.dstPort, 0);
});
