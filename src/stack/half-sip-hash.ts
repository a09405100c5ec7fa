/**
 * HalfSipHash-2-4 (Aumasson, Bernstein; the variant of the Linux kernel's `hsiphash`): a keyed hash of 32-bit words.
 * Used where a guest must not be able to predict or steer the result: initial sequence numbers (RFC 6528 §3) and the
 * flow table.
 *
 * The tuple hashed last is remembered: a SYN is looked for among flows and in TIME-WAIT, and then entered.
 */
import { IpAddress } from './wire/address.ts';

export class HalfSipHash {
  readonly #key0: number;
  readonly #key1: number;
  #v0 = 0;
  #v1 = 0;
  #v2 = 0;
  #v3 = 0;
  readonly #lastA = new IpAddress();
  readonly #lastB = new IpAddress();
  #lastPorts = 0;
  #lastProtocol = -1;
  #lastHash = 0;

  constructor(key0: number, key1: number) {
    this.#key0 = key0 | 0;
    this.#key1 = key1 | 0;
  }

  /** Hash of a transport 5-tuple; an unsigned 32-bit number. */
  tuple(a: IpAddress, b: IpAddress, ports: number, protocol: number): number {
    if (
      ports === this.#lastPorts &&
      protocol === this.#lastProtocol &&
      b.equals(this.#lastB) &&
      a.equals(this.#lastA)
    )
      return this.#lastHash;
    this.#v0 = this.#key0;
    this.#v1 = this.#key1;
    this.#v2 = 0x6c796765 ^ this.#key0;
    this.#v3 = 0x74656462 ^ this.#key1;
    this.#word(a.w0 | 0);
    this.#word(a.w1 | 0);
    this.#word(a.w2 | 0);
    this.#word(a.w3 | 0);
    this.#word(b.w0 | 0);
    this.#word(b.w1 | 0);
    this.#word(b.w2 | 0);
    this.#word(b.w3 | 0);
    this.#word(ports | 0);
    // The last word carries the length of the input, as SipHash does, and here the protocol.
    this.#word((36 << 24) | protocol | 0);
    this.#lastA.copyFrom(a);
    this.#lastB.copyFrom(b);
    this.#lastPorts = ports;
    this.#lastProtocol = protocol;
    this.#lastHash = this.#finish();
    return this.#lastHash;
  }

  /** Hash of `length` bytes at `at` and of an address; an unsigned 32-bit number. */
  bytes(view: DataView, at: number, length: number, salt: IpAddress): number {
    this.#v0 = this.#key0;
    this.#v1 = this.#key1;
    this.#v2 = 0x6c796765 ^ this.#key0;
    this.#v3 = 0x74656462 ^ this.#key1;
    this.#word(salt.w0 | 0);
    this.#word(salt.w1 | 0);
    this.#word(salt.w2 | 0);
    this.#word(salt.w3 | 0);
    let i = 0;
    for (; i + 4 <= length; i += 4) this.#word(view.getInt32(at + i, true));
    let last = length << 24;
    for (let shift = 0; i < length; i++, shift += 8) last |= view.getUint8(at + i) << shift;
    this.#word(last);
    return this.#finish();
  }

  #finish(): number {
    this.#v2 ^= 0xff;
    this.#round();
    this.#round();
    this.#round();
    this.#round();
    return (this.#v1 ^ this.#v3) >>> 0;
  }

  #word(m: number): void {
    this.#v3 ^= m;
    this.#round();
    this.#round();
    this.#v0 ^= m;
  }

  #round(): void {
    let v0 = this.#v0;
    let v1 = this.#v1;
    let v2 = this.#v2;
    let v3 = this.#v3;
    v0 = (v0 + v1) | 0;
    v1 = (v1 << 5) | (v1 >>> 27);
    v1 ^= v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = (v3 << 8) | (v3 >>> 24);
    v3 ^= v2;
    v0 = (v0 + v3) | 0;
    v3 = (v3 << 7) | (v3 >>> 25);
    v3 ^= v0;
    v2 = (v2 + v1) | 0;
    v1 = (v1 << 13) | (v1 >>> 19);
    v1 ^= v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    this.#v0 = v0;
    this.#v1 = v1;
    this.#v2 = v2;
    this.#v3 = v3;
  }
}
