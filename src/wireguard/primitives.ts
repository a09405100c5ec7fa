/**
 * What WireGuard's handshake is made of, in its notation (the WireGuard paper §5.4): X25519, ChaCha20-Poly1305 and
 * BLAKE2s of node:crypto, and the two pieces that it lacks. For messages that come a few times a minute; packets are
 * sealed by a `TransportCipher`.
 *
 * A result that cannot be had (a tag that does not fit, a point of small order) is null, and no reason why.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
} from 'node:crypto';
import { blake2s } from './blake2s.ts';
import { hChaCha20 } from './hchacha20.ts';

export type Bytes = Uint8Array<ArrayBuffer>;

export const KEY_BYTES = 32;
export const TAG_BYTES = 16;
export const MAC_BYTES = 16;
export const NONCE_BYTES = 24;

const CIPHER = 'chacha20-poly1305';
const HASH = 'blake2s256';
/** What stands in front of a raw X25519 key as PKCS #8 and as SubjectPublicKeyInfo (RFC 8410). */
const PRIVATE_HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex');
const PUBLIC_HEAD = Buffer.from('302a300506032b656e032100', 'hex');

export function hash(...parts: Uint8Array[]): Bytes {
  const h = createHash(HASH);
  for (const part of parts) h.update(part);
  return own(h.digest());
}

function hmac(key: Uint8Array, ...parts: Uint8Array[]): Bytes {
  const h = createHmac(HASH, key);
  for (const part of parts) h.update(part);
  return own(h.digest());
}

/** The first `count` keys (1 to 3) of HKDF with chaining key `key`. */
export function kdf(count: number, key: Uint8Array, input: Uint8Array): Bytes[] {
  const secret = hmac(key, input);
  const out: Bytes[] = [];
  for (let i = 1; i <= count; i++) {
    const last = out[i - 2];
    const number = Uint8Array.of(i);
    out.push(last === undefined ? hmac(secret, number) : hmac(secret, last, number));
  }
  secret.fill(0);
  return out;
}

/** Keyed BLAKE2s of 16 bytes. */
export function mac(key: Uint8Array, input: Uint8Array): Bytes {
  return blake2s(MAC_BYTES, key, input);
}

/** ChaCha20-Poly1305 with nonce 0: a key of the handshake seals one thing only. */
export function seal(key: Uint8Array, plain: Uint8Array, ad: Uint8Array): Bytes {
  return sealWith(key, new Uint8Array(12), plain, ad);
}

export function open(key: Uint8Array, sealed: Uint8Array, ad: Uint8Array): Bytes | null {
  return openWith(key, new Uint8Array(12), sealed, ad);
}

/** XChaCha20-Poly1305 with a nonce of 24 bytes. */
export function xSeal(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, ad: Uint8Array): Bytes {
  const derived = hChaCha20(key, nonce);
  const sealed = sealWith(derived, shortNonce(nonce), plain, ad);
  derived.fill(0);
  return sealed;
}

export function xOpen(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, ad: Uint8Array): Bytes | null {
  const derived = hChaCha20(key, nonce);
  const plain = openWith(derived, shortNonce(nonce), sealed, ad);
  derived.fill(0);
  return plain;
}

function shortNonce(nonce: Uint8Array): Uint8Array {
  const short = new Uint8Array(12);
  short.set(nonce.subarray(16, NONCE_BYTES), 4);
  return short;
}

function sealWith(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, ad: Uint8Array): Bytes {
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(ad, { plaintextLength: plain.length });
  const body = cipher.update(plain);
  cipher.final();
  return own(Buffer.concat([body, cipher.getAuthTag()]));
}

function openWith(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, ad: Uint8Array): Bytes | null {
  const end = sealed.length - TAG_BYTES;
  if (end < 0) return null;
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(ad, { plaintextLength: end });
  decipher.setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(0, end));
  try {
    decipher.final();
  } catch {
    plain.fill(0);
    return null;
  }
  return own(plain);
}

/** A private key with its public one. */
export class PrivateKey {
  readonly publicKey: Bytes;
  readonly #key: KeyObject;

  /** `raw` is not kept. */
  constructor(raw: Uint8Array) {
    const der = Buffer.concat([PRIVATE_HEAD, raw]);
    this.#key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    der.fill(0);
    const spki = createPublicKey(this.#key).export({ format: 'der', type: 'spki' });
    this.publicKey = own(spki.subarray(PUBLIC_HEAD.length));
  }

  /** X25519 with somebody's public key; null for one whose result would be the same whatever ours is (RFC 7748 §6.1). */
  agree(publicKey: Uint8Array): Bytes | null {
    try {
      const key = Buffer.concat([PUBLIC_HEAD, publicKey]);
      const other = createPublicKey({ key, format: 'der', type: 'spki' });
      return own(diffieHellman({ privateKey: this.#key, publicKey: other }));
    } catch {
      return null;
    }
  }
}

/** A copy by itself, so that wiping it wipes nothing of Node's pool, and nothing of it stays there. */
function own(buffer: Buffer): Bytes {
  const bytes = Uint8Array.from(buffer);
  buffer.fill(0);
  return bytes;
}
