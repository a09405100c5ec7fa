/**
 * The two MACs at the end of handshake messages, and cookies (the WireGuard paper §5.4.4, §5.4.7). `mac1` shows that
 * the sender knows whom it speaks to; `mac2`, asked for under load, that it receives at the address it sends from.
 */
import { timingSafeEqual } from 'node:crypto';
import { COOKIE_BYTES, MACS_BYTES, MessageType, SENDER_AT } from './message.ts';
import type { OuterAddress } from './outer-address.ts';
import { type Bytes, hash, KEY_BYTES, MAC_BYTES, mac, NONCE_BYTES, xOpen, xSeal } from './primitives.ts';
import { COOKIE_MS } from './times.ts';

const LABEL_MAC1 = Buffer.from('mac1----');
const LABEL_COOKIE = Buffer.from('cookie--');
const NONCE_AT = 8;
const SEALED_AT: number = NONCE_AT + NONCE_BYTES;

/** What a peer's handshake messages end with. */
export class Stamp {
  readonly #mac1Key: Bytes;
  readonly #cookieKey: Bytes;
  #lastMac1: Bytes | null = null;
  #cookie: Bytes | null = null;
  #cookieMs = 0;

  constructor(publicKey: Uint8Array) {
    this.#mac1Key = hash(LABEL_MAC1, publicKey);
    this.#cookieKey = hash(LABEL_COOKIE, publicKey);
  }

  /** Put both MACs at the end of `message`. */
  put(message: Uint8Array, nowMs: number): void {
    const at1 = message.length - MACS_BYTES;
    const at2 = at1 + MAC_BYTES;
    this.#lastMac1 = mac(this.#mac1Key, message.subarray(0, at1));
    message.set(this.#lastMac1, at1);
    const cookie = nowMs - this.#cookieMs < COOKIE_MS ? this.#cookie : null;
    if (cookie === null) message.fill(0, at2);
    else message.set(mac(cookie, message.subarray(0, at2)), at2);
  }

  /** Take a cookie reply to what was sent last. False: it is none. */
  take(reply: Uint8Array, nowMs: number): boolean {
    if (this.#lastMac1 === null) return false;
    const nonce = reply.subarray(NONCE_AT, SEALED_AT);
    const cookie = xOpen(this.#cookieKey, nonce, reply.subarray(SEALED_AT), this.#lastMac1);
    if (cookie === null) return false;
    this.#cookie = cookie;
    this.#cookieMs = nowMs;
    // One reply to one message.
    this.#lastMac1 = null;
    return true;
  }
}

/** Looks at the MACs of what comes in, and gives out cookies. */
export class Gate {
  readonly #mac1Key: Bytes;
  readonly #cookieKey: Bytes;
  readonly #random: (size: number) => Bytes;
  #secret: Bytes | null = null;
  #secretMs = 0;

  constructor(publicKey: Uint8Array, random: (size: number) => Bytes) {
    this.#mac1Key = hash(LABEL_MAC1, publicKey);
    this.#cookieKey = hash(LABEL_COOKIE, publicKey);
    this.#random = random;
  }

  /** Is `message` for us? */
  knowsUs(message: Uint8Array): boolean {
    const at1 = message.length - MACS_BYTES;
    const right = mac(this.#mac1Key, message.subarray(0, at1));
    return timingSafeEqual(right, message.subarray(at1, at1 + MAC_BYTES));
  }

  /** Has its sender had a cookie of ours at `from`? */
  knowsCookie(message: Uint8Array, from: OuterAddress, nowMs: number): boolean {
    if (this.#secret === null || nowMs - this.#secretMs >= COOKIE_MS) return false;
    const at2 = message.length - MAC_BYTES;
    const right = mac(mac(this.#secret, from.toBytes()), message.subarray(0, at2));
    return timingSafeEqual(right, message.subarray(at2));
  }

  /** Write the answer to `message` that has a cookie in it to `out`, which has `COOKIE_BYTES`. */
  reply(out: Uint8Array, message: Uint8Array, from: OuterAddress, nowMs: number): void {
    if (this.#secret === null || nowMs - this.#secretMs >= COOKIE_MS) {
      this.#secret = this.#random(KEY_BYTES);
      this.#secretMs = nowMs;
    }
    const at1 = message.length - MACS_BYTES;
    const nonce = this.#random(NONCE_BYTES);
    const cookie = mac(this.#secret, from.toBytes());
    out.fill(0, 0, COOKIE_BYTES);
    out[0] = MessageType.Cookie;
    // To whom: the index its sender has put into the message.
    out.set(message.subarray(SENDER_AT, SENDER_AT + 4), 4);
    out.set(nonce, NONCE_AT);
    out.set(xSeal(this.#cookieKey, nonce, cookie, message.subarray(at1, at1 + MAC_BYTES)), SEALED_AT);
  }
}
