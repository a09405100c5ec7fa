/**
 * HChaCha20 (draft-irtf-cfrg-xchacha-03 §2.2): the key that XChaCha20-Poly1305 uses for one long nonce. Node has
 * ChaCha20-Poly1305, but neither this nor the extended form; WireGuard wants it for cookies only.
 */

/** The derived key, 32 bytes, for `key` (32) and the first 16 bytes of `nonce`. */
export function hChaCha20(key: Uint8Array, nonce: Uint8Array): Uint8Array<ArrayBuffer> {
  const keyView = new DataView(key.buffer, key.byteOffset, 32);
  const nonceView = new DataView(nonce.buffer, nonce.byteOffset, 16);
  const x = new Uint32Array(16);
  // "expand 32-byte k"
  x.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
  for (let i = 0; i < 8; i++) x[4 + i] = keyView.getUint32(4 * i, true);
  for (let i = 0; i < 4; i++) x[12 + i] = nonceView.getUint32(4 * i, true);
  for (let round = 0; round < 10; round++) {
    quarter(x, 0, 4, 8, 12);
    quarter(x, 1, 5, 9, 13);
    quarter(x, 2, 6, 10, 14);
    quarter(x, 3, 7, 11, 15);
    quarter(x, 0, 5, 10, 15);
    quarter(x, 1, 6, 11, 12);
    quarter(x, 2, 7, 8, 13);
    quarter(x, 3, 4, 9, 14);
  }
  const out = new Uint8Array(32);
  const view = new DataView(out.buffer);
  for (let i = 0; i < 4; i++) {
    view.setUint32(4 * i, x[i]!, true);
    view.setUint32(16 + 4 * i, x[12 + i]!, true);
  }
  x.fill(0);
  return out;
}

function quarter(x: Uint32Array, a: number, b: number, c: number, d: number): void {
  x[a]! += x[b]!;
  x[d] = rotate(x[d]! ^ x[a]!, 16);
  x[c]! += x[d]!;
  x[b] = rotate(x[b]! ^ x[c]!, 12);
  x[a]! += x[b]!;
  x[d] = rotate(x[d]! ^ x[a]!, 8);
  x[c]! += x[d]!;
  x[b] = rotate(x[b]! ^ x[c]!, 7);
}

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}
