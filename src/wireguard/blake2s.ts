/**
 * Keyed BLAKE2s with a result of 16 bytes (RFC 7693), which node:crypto does not have: the MACs of WireGuard's handshake
 * messages and cookies. All else that WireGuard hashes goes through node:crypto.
 */

const BLOCK = 64;
const IV = Uint32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);
/** Order of the message's words, a row a round (RFC 7693 §2.7). */
const SIGMA: readonly (readonly number[])[] = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

const state = new Uint32Array(8);
const work = new Uint32Array(16);
const words = new Uint32Array(16);
const block = new Uint8Array(BLOCK);
const blockView = new DataView(block.buffer);

/** BLAKE2s of `input` under `key` (at most 32 bytes; none = unkeyed), of `size` bytes (1 to 32). */
export function blake2s(size: number, key: Uint8Array, input: Uint8Array): Uint8Array<ArrayBuffer> {
  state.set(IV);
  state[0] = IV[0]! ^ 0x01010000 ^ (key.length << 8) ^ size;
  let done = 0;
  if (key.length > 0) {
    block.fill(0);
    block.set(key);
    done = BLOCK;
    compress(done, input.length === 0);
  }
  // The last block, full or not, is the one that ends it; an empty input without a key is a block of zeros.
  for (let at = 0; at < input.length || done === 0; at += BLOCK) {
    const length = Math.min(BLOCK, input.length - at);
    block.fill(0);
    block.set(input.subarray(at, at + length));
    done += length;
    compress(done, at + BLOCK >= input.length);
    if (done === 0) break;
  }
  const out = new Uint8Array(32);
  const view = new DataView(out.buffer);
  for (let i = 0; i < 8; i++) view.setUint32(4 * i, state[i]!, true);
  block.fill(0);
  words.fill(0);
  work.fill(0);
  return out.slice(0, size);
}

/** Take `block` in, with which `done` bytes have come. */
function compress(done: number, isLast: boolean): void {
  for (let i = 0; i < 16; i++) words[i] = blockView.getUint32(4 * i, true);
  work.set(state);
  work.set(IV, 8);
  work[12]! ^= done;
  if (isLast) work[14] = ~work[14]!;
  for (const order of SIGMA) {
    mix(0, 4, 8, 12, words[order[0]!]!, words[order[1]!]!);
    mix(1, 5, 9, 13, words[order[2]!]!, words[order[3]!]!);
    mix(2, 6, 10, 14, words[order[4]!]!, words[order[5]!]!);
    mix(3, 7, 11, 15, words[order[6]!]!, words[order[7]!]!);
    mix(0, 5, 10, 15, words[order[8]!]!, words[order[9]!]!);
    mix(1, 6, 11, 12, words[order[10]!]!, words[order[11]!]!);
    mix(2, 7, 8, 13, words[order[12]!]!, words[order[13]!]!);
    mix(3, 4, 9, 14, words[order[14]!]!, words[order[15]!]!);
  }
  for (let i = 0; i < 8; i++) state[i]! ^= work[i]! ^ work[i + 8]!;
}

function mix(a: number, b: number, c: number, d: number, x: number, y: number): void {
  let va = work[a]! | 0;
  let vb = work[b]! | 0;
  let vc = work[c]! | 0;
  let vd = work[d]! | 0;
  va = (va + vb + x) | 0;
  vd ^= va;
  vd = (vd >>> 16) | (vd << 16);
  vc = (vc + vd) | 0;
  vb ^= vc;
  vb = (vb >>> 12) | (vb << 20);
  va = (va + vb + y) | 0;
  vd ^= va;
  vd = (vd >>> 8) | (vd << 24);
  vc = (vc + vd) | 0;
  vb ^= vc;
  vb = (vb >>> 7) | (vb << 25);
  work[a] = va;
  work[b] = vb;
  work[c] = vc;
  work[d] = vd;
}
