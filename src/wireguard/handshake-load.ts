/**
 * When there are too many handshake messages to look into all of them, and how many a sender with a cookie may have looked
 * into then: X25519 is some 200 us of ours for nothing of theirs.
 */
import { RateLimit } from '../stack/rate-limit.ts';
import type { OuterAddress } from './outer-address.ts';

/** Messages a second, and at once, that are no load yet. */
const CALM_RATE = 200;
const CALM_BURST = 64;
/** So long it counts as load after that. */
const LOADED_MS = 1000;
/** The same of one address, or one IPv6 network of 64 bits, while there is load. */
const SOURCE_RATE = 20;
const SOURCE_BURST = 5;
/** Sources that are told apart; whoever was first gives way. */
const SOURCES_MAX = 1024;

export class HandshakeLoad {
  readonly #calm = new RateLimit(CALM_RATE, CALM_BURST);
  #until = Number.NEGATIVE_INFINITY;
  readonly #sources = new Map<string, RateLimit>();

  /** One more has come: is there load? */
  add(nowMs: number): boolean {
    if (!this.#calm.allow(nowMs)) this.#until = nowMs + LOADED_MS;
    else if (nowMs >= this.#until && this.#sources.size > 0) this.#sources.clear();
    return nowMs < this.#until;
  }

  /** May one from `from` be looked into? */
  allows({ address }: OuterAddress, nowMs: number): boolean {
    const source = address.isV4 ? `${address.w3}` : `${address.w0}:${address.w1}`;
    let limit = this.#sources.get(source);
    if (limit === undefined) {
      limit = new RateLimit(SOURCE_RATE, SOURCE_BURST);
      if (this.#sources.size >= SOURCES_MAX) this.#sources.delete(this.#sources.keys().next().value!);
      this.#sources.set(source, limit);
    }
    return limit.allow(nowMs);
  }
}
