/**
 * ChaCha20-Poly1305 by OpenSSL's own functions (EVP_EncryptInit(3)), in packet memory: 1.6 us for a packet of 1,424 bytes,
 * where node:crypto takes 7.4 and makes a few objects. Node's program exports them; where it has its OpenSSL as a shared
 * library they are looked for there.
 */
import { functionsOf, type LibcFunction } from './libc.ts';
import type { Memory } from './memory.ts';

const LIBRARIES = [null, 'libcrypto.so.3'] as const;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;
/** Among the structures: the nonce, of which the first four bytes are zero; a length that is written; a key. */
const NONCE_AT = 0;
const NONCE_BYTES = 12;
const LENGTH_AT = 12;
const KEY_AT = 16;
const ARGUMENT_BYTES = 48;

interface Evp {
  newContext: LibcFunction;
  freeContext: LibcFunction;
  control: LibcFunction;
  cipher: LibcFunction;
  encryptInit: LibcFunction;
  encryptUpdate: LibcFunction;
  encryptFinal: LibcFunction;
  decryptInit: LibcFunction;
  decryptUpdate: LibcFunction;
  decryptFinal: LibcFunction;
}

function declare(library: string | null): Evp {
  const find = functionsOf(library);
  const p = 'uintptr_t';
  const init = [p, p, p, p, p];
  const update = [p, p, p, p, 'int'];
  const final = [p, p, p];
  return {
    newContext: find('EVP_CIPHER_CTX_new', p, []),
    freeContext: find('EVP_CIPHER_CTX_free', 'void', [p]),
    control: find('EVP_CIPHER_CTX_ctrl', 'int', [p, 'int', 'int', p]),
    cipher: find('EVP_chacha20_poly1305', p, []),
    encryptInit: find('EVP_EncryptInit_ex', 'int', init),
    encryptUpdate: find('EVP_EncryptUpdate', 'int', update),
    encryptFinal: find('EVP_EncryptFinal_ex', 'int', final),
    decryptInit: find('EVP_DecryptInit_ex', 'int', init),
    decryptUpdate: find('EVP_DecryptUpdate', 'int', update),
    decryptFinal: find('EVP_DecryptFinal_ex', 'int', final),
  };
}

/** Makes what seals and opens under a key, which the caller may wipe; null where OpenSSL's functions cannot be called. */
export function evpCiphers(memory: Memory): ((key: Uint8Array) => EvpCipher) | null {
  for (const library of LIBRARIES) {
    try {
      const evp = declare(library);
      const args = memory.structures.region(ARGUMENT_BYTES);
      return (key) => new EvpCipher(evp, memory, args, key);
    } catch {
      // The next one.
    }
  }
  return null;
}

export class EvpCipher {
  readonly #evp: Evp;
  readonly #memory: Memory;
  readonly #view: DataView;
  readonly #nonceAt: number;
  readonly #nonce: number;
  readonly #length: number;
  #seal = 0;
  #open = 0;

  constructor(evp: Evp, memory: Memory, args: number, key: Uint8Array) {
    this.#evp = evp;
    this.#memory = memory;
    const { structures } = memory;
    this.#view = structures.view;
    this.#nonceAt = args + NONCE_AT;
    this.#nonce = structures.address(this.#nonceAt, NONCE_BYTES);
    this.#length = structures.address(args + LENGTH_AT, 4);
    for (let i = 0; i < KEY_BYTES; i++) this.#view.setUint8(args + KEY_AT + i, key[i] as number);
    const keyAddress = structures.address(args + KEY_AT, KEY_BYTES);
    this.#seal = evp.newContext();
    this.#open = evp.newContext();
    const done =
      this.#seal !== 0 &&
      this.#open !== 0 &&
      evp.encryptInit(this.#seal, evp.cipher(), 0, keyAddress, 0) === 1 &&
      evp.decryptInit(this.#open, evp.cipher(), 0, keyAddress, 0) === 1;
    for (let i = 0; i < KEY_BYTES; i++) this.#view.setUint8(args + KEY_AT + i, 0);
    if (!done) throw new Error('ChaCha20-Poly1305 cannot be had');
  }

  /** Seal the `length` bytes at `at` in place; the tag comes behind them. `counter` below 2^53. */
  seal(at: number, length: number, counter: number): void {
    const address = this.#memory.address(at, length + TAG_BYTES);
    const { encryptInit, encryptUpdate, encryptFinal, control } = this.#evp;
    this.#putNonce(counter);
    let done = this.#seal === 0 ? 0 : encryptInit(this.#seal, 0, 0, 0, this.#nonce);
    // OpenSSL does not look whether it has a context at all.
    if (done !== 1) throw new Error('a packet could not be sealed');
    if (length > 0) done &= encryptUpdate(this.#seal, address, this.#length, address, length);
    done &= encryptFinal(this.#seal, address + length, this.#length);
    done &= control(this.#seal, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, address + length);
    // Not to be sent as it is.
    if (done !== 1) throw new Error('a packet could not be sealed');
  }

  /** Open the `length` bytes at `at` in place, whose tag is behind them. False: they are not what was sealed. */
  open(at: number, length: number, counter: number): boolean {
    const address = this.#memory.address(at, length + TAG_BYTES);
    const { decryptInit, decryptUpdate, decryptFinal, control } = this.#evp;
    this.#putNonce(counter);
    let done = this.#open === 0 ? 0 : decryptInit(this.#open, 0, 0, 0, this.#nonce);
    if (done !== 1) return false;
    done &= control(this.#open, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, address + length);
    if (length > 0) done &= decryptUpdate(this.#open, address, this.#length, address, length);
    return done === 1 && decryptFinal(this.#open, address + length, this.#length) === 1;
  }

  /** Forget the key, for good; OpenSSL wipes what it frees. */
  wipe(): void {
    const { freeContext } = this.#evp;
    // None is a context that may be freed, too.
    freeContext(this.#seal);
    freeContext(this.#open);
    this.#seal = 0;
    this.#open = 0;
  }

  #putNonce(counter: number): void {
    this.#view.setUint32(this.#nonceAt + 4, counter >>> 0, true);
    this.#view.setUint32(this.#nonceAt + 8, (counter / 4294967296) >>> 0, true);
  }
}
