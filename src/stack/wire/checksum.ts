/**
 * The Internet checksum (RFC 1071).
 *
 * A sum is a running one's complement sum of big-endian 16-bit words that may exceed 16 bits; pieces are chained through
 * `initial` and folded once at the end. Sums stay far below 2^32, because `sumBytes` hands the bulk of its bytes on folded.
 *
 * Speed matters here: it is the only per-byte work on frames without checksum offload. Three things make the loop short:
 * - Words are read in little-endian order, which costs no byte swap on our targets; the 16-bit result is swapped once
 *   (RFC 1071 §2 (B): the sum is independent of byte order).
 * - Only the high halves are added up one by one. All words are added modulo 2^32 beside them, and the sum of the low halves
 *   is what remains of that total: both half sums are exact while they stay below 2^32, which bounds a piece to 256 KiB.
 * - Everything stays a 32-bit integer, so there is no overflow check in the loop.
 */
import type { IpAddress } from './address.ts';

/**
 * Adds `len` bytes (at most 256 KiB) at `off` to `initial` and returns the unfolded sum. An odd length counts a zero byte
 * behind it, so only the last piece of a chain may be odd.
 */
export function sumBytes(view: DataView, off: number, len: number, initial: number): number {
  let high = 0;
  let total = 0;
  let p = off;
  const bulkEnd = off + (len & ~15);
  while (p < bulkEnd) {
    const a = view.getInt32(p, true);
    const b = view.getInt32(p + 4, true);
    const c = view.getInt32(p + 8, true);
    const d = view.getInt32(p + 12, true);
    high = (((high + (a >>> 16)) | 0) + (b >>> 16)) | 0;
    high = (((high + (c >>> 16)) | 0) + (d >>> 16)) | 0;
    total = (((total + a) | 0) + b) | 0;
    total = (((total + c) | 0) + d) | 0;
    p += 16;
  }
  const bulk = foldSum(foldSum(high) + foldSum(total - (high << 16)));
  let sum = initial + (((bulk << 8) | (bulk >>> 8)) & 0xffff);
  const end = off + len;
  while (end - p >= 2) {
    sum += view.getUint16(p);
    p += 2;
  }
  if (p < end) sum += view.getUint8(p) << 8;
  return sum;
}

/** Folds a sum (below 2^32) to 16 bits; not complemented. */
export function foldSum(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** The value for a checksum field: the complement of the folded sum. 0 when the bytes summed hold a right checksum. */
export function checksum(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/**
 * The sum of the pseudo-header of either family (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1). `length` is the upper-layer
 * length in bytes. For IPv4 the words of the mapped form are skipped; both addresses must be of one family.
 */
export function pseudoHeaderSum(src: IpAddress, dst: IpAddress, protocol: number, length: number): number {
  let sum = (length >>> 16) + (length & 0xffff) + protocol;
  const s = src.w3;
  const d = dst.w3;
  sum += (s >>> 16) + (s & 0xffff) + (d >>> 16) + (d & 0xffff);
  if (!src.isV4) {
    sum += (src.w0 >>> 16) + (src.w0 & 0xffff) + (src.w1 >>> 16) + (src.w1 & 0xffff);
    sum += (src.w2 >>> 16) + (src.w2 & 0xffff);
    sum += (dst.w0 >>> 16) + (dst.w0 & 0xffff) + (dst.w1 >>> 16) + (dst.w1 & 0xffff);
    sum += (dst.w2 >>> 16) + (dst.w2 & 0xffff);
  }
  return sum;
}
