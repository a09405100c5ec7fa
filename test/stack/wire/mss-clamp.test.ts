import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { IpAddress, parseIpAddress } from '../../../src/stack/wire/address.ts';
import { foldSum, pseudoHeaderSum, sumBytes } from '../../../src/stack/wire/checksum.ts';
import { clampMss } from '../../../src/stack/wire/mss-clamp.ts';

const SYN = 2;
const ACK = 16;
/** Where it is put in the view: nothing may depend on it being aligned. */
const AT = 3;

/** An IP packet of TCP with these options, and a checksum that is right. */
function segment(flags: number, options: number[], isV4 = true): DataView {
  const header = isV4 ? 20 : 40;
  const length = header + 20 + options.length;
  const view = new DataView(new ArrayBuffer(AT + length));
  const from = parseIpAddress(isV4 ? '10.1.3.1' : 'fd01::1');
  const to = parseIpAddress(isV4 ? '10.1.1.2' : 'fd01::2');
  view.setUint8(AT, isV4 ? 0x45 : 0x60);
  view.setUint16(AT + (isV4 ? 2 : 4), isV4 ? length : length - 40);
  view.setUint8(AT + (isV4 ? 9 : 6), 6);
  from.write(view, AT + (isV4 ? 12 : 8));
  to.write(view, AT + (isV4 ? 16 : 24));
  const tcp = AT + header;
  view.setUint16(tcp, 4321);
  view.setUint8(tcp + 12, ((20 + options.length) / 4) << 4);
  view.setUint8(tcp + 13, flags);
  for (const [i, byte] of options.entries()) view.setUint8(tcp + 20 + i, byte);
  view.setUint16(tcp + 16, ~sumOf(view, isV4) & 0xffff);
  return view;
}

function sumOf(view: DataView, isV4: boolean): number {
  const header = isV4 ? 20 : 40;
  const [from, to] = [new IpAddress(), new IpAddress()];
  if (isV4) {
    from.readV4(view, AT + 12);
    to.readV4(view, AT + 16);
  } else {
    from.readV6(view, AT + 8);
    to.readV6(view, AT + 24);
  }
  const length = view.byteLength - AT - header;
  return foldSum(sumBytes(view, AT + header, length, pseudoHeaderSum(from, to, 6, length)));
}

function clamped(flags: number, options: number[], mtu: number, isV4 = true): number[] {
  const view = segment(flags, options, isV4);
  clampMss(view, AT, view.byteLength - AT, mtu);
  assert.equal(sumOf(view, isV4), 0xffff, 'the checksum is right again');
  return [...new Uint8Array(view.buffer, AT + (isV4 ? 40 : 60))];
}

describe('clampMss', () => {
  test('links L-32: the MSS of a SYN is what the MTU has room for', () => {
    assert.deepEqual(clamped(SYN, [2, 4, 0x05, 0xb4], 1400), [2, 4, 0x05, 0x50]);
    assert.deepEqual(clamped(SYN | ACK, [2, 4, 0x05, 0xb4], 1400), [2, 4, 0x05, 0x50]);
    assert.deepEqual(clamped(SYN, [2, 4, 0x05, 0xa0], 1400, false), [2, 4, 0x05, 0x3c]);
  });

  test('one that is smaller stays, and so does one of another segment', () => {
    assert.deepEqual(clamped(SYN, [2, 4, 0x05, 0x50], 1400), [2, 4, 0x05, 0x50]);
    assert.deepEqual(clamped(SYN, [2, 4, 0x02, 0x18], 1400), [2, 4, 0x02, 0x18]);
    assert.deepEqual(clamped(ACK, [2, 4, 0x05, 0xb4], 1400), [2, 4, 0x05, 0xb4]);
  });

  test('it is found behind other options, at an odd place too', () => {
    assert.deepEqual(
      clamped(SYN, [1, 3, 3, 7, 1, 2, 4, 0x05, 0xb4, 1, 1, 1], 1400),
      [1, 3, 3, 7, 1, 2, 4, 0x05, 0x50, 1, 1, 1],
    );
    assert.deepEqual(clamped(SYN, [4, 2, 2, 4, 0x05, 0xb4, 0, 0], 1400), [4, 2, 2, 4, 0x05, 0x50, 0, 0]);
  });

  test('options that are none are left alone', () => {
    for (const options of [
      [0, 2, 4, 0x05, 0xb4, 0, 0, 0],
      [3, 0, 2, 4, 0x05, 0xb4, 0, 0],
      [3, 1, 2, 4, 0x05, 0xb4, 0, 0],
      [2, 3, 0x05, 0xb4],
      [1, 1, 2, 4],
      [8, 10, 2, 4, 0x05, 0xb4, 0, 0],
      [1, 1, 1, 2],
    ])
      assert.deepEqual(clamped(SYN, options, 1400), options);
  });

  test('a header that ends behind the packet is not read', () => {
    const view = segment(SYN, [2, 4, 0x05, 0xb4]);
    const before = Buffer.from(view.buffer.slice(0));
    for (let length = 1; length < view.byteLength - AT; length++) clampMss(view, AT, length, 576);
    // A second fragment, and another protocol.
    assert.deepEqual(Buffer.from(view.buffer), before);
    view.setUint16(AT + 6, 1);
    clampMss(view, AT, view.byteLength - AT, 576);
    view.setUint16(AT + 6, 0);
    view.setUint8(AT + 9, 17);
    clampMss(view, AT, view.byteLength - AT, 576);
    view.setUint8(AT + 9, 6);
    assert.deepEqual(Buffer.from(view.buffer), before);
  });
});
