/**
 * SYNs that a limit has turned away, and the destinations that answer: what tells a program that behaves from a flood
 * (T-22), when there is no room for both.
 *
 * A program whose SYN is not answered repeats it after a second, then after two and four (RFC 6298 §2.1). A flood sends
 * other ones, or the same far more often. Entries are hashes, the newest takes the place: a program whose entry is lost
 * waits for its next turn.
 */
import type { IpAddress } from '../../stack/wire/address.ts';
import { destinationKey } from '../flow/refusals.ts';

/** Some seconds of a flood, in 1 MiB that is touched only in one. */
const SLOTS = 2 ** 17;
/** Since it was seen last: sooner is no repetition, and later is another connection. */
const EARLIEST_MS = 500;
const LATEST_MS = 20_000;
/** Destinations that answered last; more than a guest talks to at a time. */
const MAX_ANSWERED = 4096;

export class SeenSyns {
  #tags: Int32Array | null = null;
  #seenMs: Int32Array | null = null;
  readonly #answered = new Set<number>();

  /** The guest sends a SYN that there is no room for: has it waited for an answer as a program does? */
  isRepeated(src: IpAddress, dst: IpAddress, ports: number, seq: number, nowMs: number): boolean {
    this.#tags ??= new Int32Array(SLOTS);
    this.#seenMs ??= new Int32Array(SLOTS);
    const key = Math.imul(destinationKey(dst, ports) ^ destinationKey(src, ports >>> 16), 0x9e3779b1);
    const slot = (key >>> 8) & (SLOTS - 1);
    const tag = (key ^ seq) | 0;
    const now = nowMs | 0;
    const since = (now - (this.#seenMs[slot] as number)) | 0;
    const isSame = this.#tags[slot] === tag;
    this.#tags[slot] = tag;
    this.#seenMs[slot] = now;
    return isSame && since >= EARLIEST_MS && since <= LATEST_MS;
  }

  /** (`address`, `port`) has taken a connection. */
  noteAnswer(address: IpAddress, port: number): void {
    const key = destinationKey(address, port);
    if (this.#answered.has(key)) return;
    if (this.#answered.size >= MAX_ANSWERED) this.#answered.clear();
    this.#answered.add(key);
  }

  /** Has it done so before? */
  hasAnswered(address: IpAddress, port: number): boolean {
    return this.#answered.has(destinationKey(address, port));
  }
}
