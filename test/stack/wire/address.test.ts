import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { IpAddress, parseIpAddress } from '../../../src/stack/wire/address.ts';
import { blank, OFF, slice } from './wire-fixture.ts';

const word = fc.oneof(
  fc.constantFrom(0, 1, 0xffff, 0xffffffff, 0x10000),
  fc.integer({ min: 0, max: 0xffffffff }),
);

describe('parseIpAddress', () => {
  const accepted: [string, string][] = [
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['10.0.2.100', '10.0.2.100'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['FD00::0100', 'fd00::100'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
    ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
    ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
    ['::1.2.3.4', '::102:304'],
    ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::ffff:102:304', '1.2.3.4'],
    ['::ffff:0:1.2.3.4', '::ffff:0:102:304'],
  ];
  for (const [text, canonical] of accepted) {
    test(`reads ${text}`, () => assert.equal(parseIpAddress(text).toString(), canonical));
  }

  const refused = [
    '',
    ' ',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.04',
    '0x7f.0.0.1',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1..2.3',
    '1.2.3.',
    '-1.2.3.4',
    '1e1.2.3.4',
    '0x7f000001',
    '2130706433',
    ':',
    ':::',
    '1:::2',
    '::1::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '::1:2:3:4:5:6:7:8',
    ':1:2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7:8:',
    '12345::',
    'g::',
    'fe80::1%eth0',
    '::1/128',
    '[::1]',
    '1.2.3.4::',
    '::1.2.3',
    '::01.2.3.4',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::1.2.3.4:5',
    '::ffff:10.0.0.0/104',
    '1:2',
    'fd00::100\n',
    '1.2.3.4\n',
    '١.2.3.4',
  ]; // prettier-ignore
  for (const text of refused) {
    test(`refuses ${JSON.stringify(text)} in one line`, () => {
      assert.throws(
        () => parseIpAddress(text),
        (e: unknown) =>
          e instanceof RangeError && !e.message.includes('\n') && e.message.startsWith('not an IP'),
      );
    });
  }

  test('agrees with ipaddr.js on every IPv4 address and round-trips', () => {
    fc.assert(
      fc.property(word, (w) => {
        const a = new IpAddress().setV4(w);
        const other = ipaddr.IPv4.parse(a.toString());
        assert.deepEqual(other.toByteArray(), [w >>> 24, (w >>> 16) & 255, (w >>> 8) & 255, w & 255]);
        assert.ok(parseIpAddress(other.toString()).equals(a));
      }),
    );
  });

  test('agrees with ipaddr.js on IPv6 text in both directions', () => {
    fc.assert(
      fc.property(word, word, word, word, (w0, w1, w2, w3) => {
        const a = new IpAddress().set(w0, w1, w2, w3);
        fc.pre(!a.isV4);
        const other = ipaddr.IPv6.parse(a.toString());
        const view = blank(16);
        a.writeV6(view, OFF);
        assert.deepEqual(other.toByteArray(), Array.from(slice(view, OFF, 16)));
        assert.equal(a.toString(), other.toRFC5952String());
        assert.ok(parseIpAddress(other.toNormalizedString().toUpperCase()).equals(a));
        assert.ok(parseIpAddress(other.toNormalizedString()).equals(a));
      }),
      { numRuns: 1000 },
    );
  });

  test('random text either reads to something that prints and reads back, or throws RangeError', () => {
    const chars = fc.string({ unit: fc.constantFrom(...'0123456789abcF:.% '), maxLength: 40 });
    fc.assert(
      fc.property(chars, (text) => {
        try {
          const a = parseIpAddress(text);
          assert.ok(parseIpAddress(a.toString()).equals(a));
          assert.ok(ipaddr.isValid(text), text);
        } catch (e) {
          if (!(e instanceof RangeError)) throw e;
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('IpAddress', () => {
  test('kinds', () => {
    const kinds = (text: string) => {
      const a = parseIpAddress(text);
      return [a.isV4, a.isUnspecified, a.isMulticast, a.isLinkLocal, a.isLoopback].map(Number).join('');
    };
    //                         v4 unspec multi ll loop
    assert.equal(kinds('0.0.0.0'), '11000');
    assert.equal(kinds('::'), '01000');
    assert.equal(kinds('::1'), '00001');
    assert.equal(kinds('127.9.9.9'), '10001');
    assert.equal(kinds('128.0.0.1'), '10000');
    assert.equal(kinds('223.255.255.255'), '10000');
    assert.equal(kinds('224.0.0.0'), '10100');
    assert.equal(kinds('239.255.255.255'), '10100');
    assert.equal(kinds('240.0.0.0'), '10000');
    assert.equal(kinds('169.254.169.254'), '10010');
    assert.equal(kinds('169.253.255.255'), '10000');
    assert.equal(kinds('fe80::1'), '00010');
    assert.equal(kinds('febf::'), '00010');
    assert.equal(kinds('fec0::1'), '00000');
    assert.equal(kinds('ff02::fb'), '00100');
    assert.equal(kinds('::ffff:0:0:0'), '00000');
    assert.equal(kinds('::7f00:1'), '00000');
  });

  test('readV4, readV6, write and their sizes', () => {
    const view = blank(32);
    for (const [text, size] of [
      ['192.0.2.33', 4],
      ['2001:db8::8000:1', 16],
    ] as const) {
      const a = parseIpAddress(text);
      assert.equal(a.write(view, OFF), size);
      const back = new IpAddress();
      assert.ok((size === 4 ? back.readV4(view, OFF) : back.readV6(view, OFF)).equals(a));
    }
    parseIpAddress('192.0.2.33').writeV6(view, OFF);
    assert.equal(new IpAddress().readV6(view, OFF).toString(), '192.0.2.33');
  });

  test('words stay unsigned', () => {
    const a = new IpAddress().set(-1, 2 ** 31, -2, -3);
    assert.deepEqual([a.w0, a.w1, a.w2, a.w3], [0xffffffff, 0x80000000, 0xfffffffe, 0xfffffffd]);
    assert.equal(new IpAddress().setV4(-1).w3, 0xffffffff);
  });

  test('clone is a copy', () => {
    const a = parseIpAddress('10.0.2.2');
    const b = a.clone();
    a.setV4(0);
    assert.equal(b.toString(), '10.0.2.2');
    assert.equal(b.equals(a), false);
  });

  test('inPrefix agrees with ipaddr.js for every prefix length of both families', () => {
    fc.assert(
      fc.property(word, word, word, word, fc.nat(128), fc.nat(127), (w0, w1, w2, w3, bits, flip) => {
        const a = new IpAddress().set(w0, w1, w2, w3);
        const words = [w0, w1, w2, w3];
        words[flip >> 5] = (words[flip >> 5] ?? 0) ^ (0x80000000 >>> (flip & 31));
        const b = new IpAddress().set(words[0] ?? 0, words[1] ?? 0, words[2] ?? 0, words[3] ?? 0);
        assert.equal(a.inPrefix(b, bits), bits <= flip);
        assert.equal(a.inPrefix(a, bits), true);
      }),
      { numRuns: 1000 },
    );
    const v4 = parseIpAddress('10.0.2.100');
    assert.equal(v4.inPrefix(parseIpAddress('10.0.2.0'), 120), true);
    assert.equal(v4.inPrefix(parseIpAddress('10.0.3.0'), 120), false);
    assert.equal(v4.inPrefix(parseIpAddress('0.0.0.0'), 96), true);
    assert.equal(parseIpAddress('::a00:264').inPrefix(parseIpAddress('0.0.0.0'), 96), false);
  });
});
