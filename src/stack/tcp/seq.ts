/**
 * Sequence number arithmetic (RFC 9293 §3.4): unsigned 32-bit values that wrap, kept in a `number`. This file is the
 * only one that compares them; everybody else would get `<` wrong at the wrap.
 */

/** An unsigned 32-bit sequence number, 0 … 2^32-1. */
export type Seq = number;

/** `a + n`, for any n from -2^31 to 2^32-1. */
export function seqAdd(a: Seq, n: number): Seq {
  return (a + n) >>> 0;
}

/** How far `a` is ahead of `b`: a signed distance, -2^31 … 2^31-1. */
export function seqDiff(a: Seq, b: Seq): number {
  return (a - b) | 0;
}

export function seqLt(a: Seq, b: Seq): boolean {
  return ((a - b) | 0) < 0;
}

export function seqLeq(a: Seq, b: Seq): boolean {
  return ((a - b) | 0) <= 0;
}

export function seqMax(a: Seq, b: Seq): Seq {
  return ((a - b) | 0) < 0 ? b : a;
}

/** `low ≤ x < low + size`. */
export function seqInWindow(x: Seq, low: Seq, size: number): boolean {
  return (x - low) >>> 0 < size;
}
