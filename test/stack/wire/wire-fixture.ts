/** Helpers for the tests of the wire room: bytes in a view that is surrounded by a marker, and a guard against reading past it. */
import assert from 'node:assert/strict';

/** Bytes in front of the packet in every fixture view, so that a forgotten `off` shows. */
export const OFF = 6;
const MARKER = 0xee;

export function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replace(/\s+/g, ''), 'hex'));
}

/** A view with `data` at OFF and marker bytes around it. */
export function place(data: ArrayLike<number>, tail = 64): DataView {
  const all = new Uint8Array(OFF + data.length + tail).fill(MARKER);
  all.set(Array.from(data), OFF);
  return new DataView(all.buffer);
}

/** An empty view full of marker bytes, for emit functions. */
export function blank(size: number): DataView {
  return place(new Uint8Array(size).fill(MARKER), 16);
}

export function slice(view: DataView, off: number, len: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + off, len);
}

/** Writes with two different backgrounds and asserts that every byte of the header was written the same. */
export function assertWritesAll(size: number, emit: (view: DataView, off: number) => number): Uint8Array {
  const results = [0x00, 0xff].map((fill) => {
    const view = new DataView(new Uint8Array(OFF + size + 16).fill(fill).buffer);
    const len = emit(view, OFF);
    for (let i = 0; i < view.byteLength; i++) {
      if (i < OFF || i >= OFF + len) assert.equal(view.getUint8(i), fill, `byte ${i - OFF} was written`);
    }
    return slice(view, OFF, len);
  });
  assert.deepEqual(results[0], results[1], 'a byte of the header was left as it was');
  return results[0] ?? new Uint8Array();
}

/**
 * Calls `parse(view, off, len)` for every length from 0 to that of `data`. Each call sees a view that ends exactly at `len`,
 * so that reading one byte too many throws. Returns the results by length.
 */
export function truncations(
  data: Uint8Array,
  parse: (view: DataView, off: number, len: number) => number,
): number[] {
  const results: number[] = [];
  for (let len = 0; len <= data.length; len++) {
    const exact = new Uint8Array(OFF + len);
    exact.set(data.subarray(0, len), OFF);
    results.push(parse(new DataView(exact.buffer), OFF, len));
  }
  return results;
}

/** Runs `parse` on a view that ends exactly behind `data`: an over-read throws. */
export function parseExact(
  data: ArrayLike<number>,
  parse: (view: DataView, off: number, len: number) => number,
): number {
  return parse(place(data, 0), OFF, data.length);
}

/** The checksum of RFC 1071 as plainly as it can be written. */
export function naiveChecksum(data: ArrayLike<number>): number {
  let sum = 0n;
  for (let i = 0; i < data.length; i += 2) sum += BigInt(((data[i] ?? 0) << 8) | (data[i + 1] ?? 0));
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(~sum & 0xffffn);
}

export function copyOf(data: Uint8Array, changes: Record<number, number>): Uint8Array {
  const out = Uint8Array.from(data);
  for (const [i, value] of Object.entries(changes)) out[Number(i)] = value;
  return out;
}
