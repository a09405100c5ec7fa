/** A `TransportCipher` of node:crypto, for where OpenSSL's own functions cannot be called: a few objects a packet. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { type Bytes, TAG_BYTES } from './primitives.ts';
import type { CipherMaker, TransportCipher } from './transport.ts';

const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: TAG_BYTES };

/** For packets in `memory`. */
export function nodeCiphers(memory: Uint8Array): CipherMaker {
  return (key) => new NodeCipher(memory, key);
}

class NodeCipher implements TransportCipher {
  readonly #memory: Uint8Array;
  readonly #key: Bytes;
  readonly #nonce = new Uint8Array(12);
  readonly #nonceView = new DataView(this.#nonce.buffer);

  constructor(memory: Uint8Array, key: Bytes) {
    this.#memory = memory;
    this.#key = key.slice();
  }

  seal(at: number, length: number, counter: number): void {
    const cipher = createCipheriv(CIPHER, this.#key, this.#nonceOf(counter), OPTIONS);
    this.#memory.set(cipher.update(this.#memory.subarray(at, at + length)), at);
    cipher.final();
    this.#memory.set(cipher.getAuthTag(), at + length);
  }

  open(at: number, length: number, counter: number): boolean {
    const decipher = createDecipheriv(CIPHER, this.#key, this.#nonceOf(counter), OPTIONS);
    decipher.setAuthTag(this.#memory.subarray(at + length, at + length + TAG_BYTES));
    const plain = decipher.update(this.#memory.subarray(at, at + length));
    try {
      decipher.final();
    } catch {
      return false;
    }
    this.#memory.set(plain, at);
    return true;
  }

  wipe(): void {
    this.#key.fill(0);
  }

  #nonceOf(counter: number): Uint8Array {
    this.#nonceView.setUint32(4, counter >>> 0, true);
    this.#nonceView.setUint32(8, Math.floor(counter / 2 ** 32), true);
    return this.#nonce;
  }
}
