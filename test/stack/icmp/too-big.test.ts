import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Slab } from '../../../src/stack/buffer/slab.ts';
import { TOO_BIG_BYTES, TooBig } from '../../../src/stack/icmp/too-big.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { foldSum, pseudoHeaderSum, sumBytes } from '../../../src/stack/wire/checksum.ts';

const slab = new Slab(65_536, 4);
const { view, bytes } = slab;
const at = slab.region(2048);
const to = slab.region(TOO_BIG_BYTES);
const tooBig = new TooBig(slab);

function put(isV4: boolean, from: string, dst: string, protocol = 17, length = 1500): void {
  bytes.fill(0x5a, at, at + length);
  view.setUint8(at, isV4 ? 0x45 : 0x60);
  view.setUint16(at + 6, isV4 ? 0x4000 : 0);
  view.setUint8(at + (isV4 ? 9 : 6), protocol);
  parseIpAddress(from).write(view, at + (isV4 ? 12 : 8));
  parseIpAddress(dst).write(view, at + (isV4 ? 16 : 24));
}

describe('links L-32: too big', () => {
  test('IPv4: fragmentation needed, with the MTU and 576 bytes at most (RFC 1191 §4)', () => {
    put(true, '10.1.3.1', '10.1.1.2');
    assert.equal(tooBig.write(to, at, 1500, 1272), 576);
    assert.equal(view.getUint16(to + 2), 576);
    assert.equal(foldSum(sumBytes(view, to, 20, 0)), 0xffff, 'the sum of the header');
    assert.deepEqual([...bytes.subarray(to + 9, to + 10)], [1]);
    assert.deepEqual([...bytes.subarray(to + 12, to + 20)], [10, 1, 1, 2, 10, 1, 3, 1]);
    assert.deepEqual([view.getUint8(to + 20), view.getUint8(to + 21)], [3, 4]);
    assert.equal(view.getUint16(to + 26), 1272);
    assert.equal(foldSum(sumBytes(view, to + 20, 556, 0)), 0xffff, 'the sum of the message');
    assert.ok(
      Buffer.from(bytes.subarray(to + 28, to + 576)).equals(Buffer.from(bytes.subarray(at, at + 548))),
    );
  });

  test('IPv6: packet too big, with the MTU and 1280 bytes at most (RFC 4443 §3.2)', () => {
    put(false, 'fd01::1', 'fd02::2');
    assert.equal(tooBig.write(to, at, 1500, 1272), 1280);
    assert.equal(view.getUint16(to + 4), 1240);
    assert.equal(view.getUint8(to + 6), 58);
    assert.ok(
      Buffer.from(bytes.subarray(to + 8, to + 24)).equals(Buffer.from(bytes.subarray(at + 24, at + 40))),
    );
    assert.ok(
      Buffer.from(bytes.subarray(to + 24, to + 40)).equals(Buffer.from(bytes.subarray(at + 8, at + 24))),
    );
    assert.deepEqual([view.getUint8(to + 40), view.getUint8(to + 41)], [2, 0]);
    assert.equal(view.getUint32(to + 44), 1272);
    const pseudo = pseudoHeaderSum(parseIpAddress('fd02::2'), parseIpAddress('fd01::1'), 58, 1240);
    assert.equal(foldSum(sumBytes(view, to + 40, 1240, pseudo)), 0xffff);
  });

  test('a short packet is quoted whole', () => {
    put(true, '10.1.3.1', '10.1.1.2', 17, 100);
    assert.equal(tooBig.write(to, at, 100, 68), 128);
  });

  test('nothing is said of an ICMP error, of one for or from a group, and of what is no packet', () => {
    put(true, '10.1.3.1', '10.1.1.2', 1);
    view.setUint8(at + 20, 3);
    assert.equal(tooBig.write(to, at, 1500, 1272), 0);
    view.setUint8(at + 20, 8);
    assert.equal(tooBig.write(to, at, 1500, 1272), 576, 'an echo request is no error');
    for (const [from, dst] of [
      ['10.1.3.1', '224.0.0.1'],
      ['255.255.255.255', '10.1.1.2'],
      ['0.0.0.0', '10.1.1.2'],
    ] as const) {
      put(true, from, dst);
      assert.equal(tooBig.write(to, at, 1500, 1272), 0);
    }
    put(false, 'fd01::1', 'ff02::1');
    assert.equal(tooBig.write(to, at, 1500, 1272), 0);
    put(false, '::', 'fd02::2');
    assert.equal(tooBig.write(to, at, 1500, 1272), 0);
    put(true, '10.1.3.1', '10.1.1.2');
    assert.equal(tooBig.write(to, at, 19, 1272), 0);
  });
});
