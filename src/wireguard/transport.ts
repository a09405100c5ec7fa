/**
 * The packets of one session (the WireGuard paper §5.4.6): a key each way, the counter of what is sent, the window of what
 * was received. Packets are sealed and opened where they lie.
 */
import { type Bytes, TAG_BYTES } from './primitives.ts';
import { ReplayWindow } from './replay-window.ts';
import { REJECT_AFTER_MESSAGES } from './times.ts';

/** ChaCha20-Poly1305 under one key, in the memory that packets are in, with `counter` as the nonce and nothing beside. */
export interface TransportCipher {
  /** Seal the `length` bytes at `at` in place; the tag comes behind them. */
  seal(at: number, length: number, counter: number): void;
  /** Open the `length` bytes at `at` in place, whose tag is behind them. False: they are not what was sealed. */
  open(at: number, length: number, counter: number): boolean;
  /** Forget the key; nothing more is sealed or opened. */
  wipe(): void;
}

/** For `key`, which the caller may wipe. */
export type CipherMaker = (key: Bytes) => TransportCipher;

/** Pairs of keys count as used up after so many messages, far below what the protocol allows: a counter is a number. */
export class Session {
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly isInitiator: boolean;
  readonly createdMs: number;
  /** Of the next packet. */
  counter = 0;
  readonly #send: TransportCipher;
  readonly #receive: TransportCipher;
  readonly #window = new ReplayWindow();

  constructor(
    localIndex: number,
    remoteIndex: number,
    isInitiator: boolean,
    createdMs: number,
    send: TransportCipher,
    receive: TransportCipher,
  ) {
    this.localIndex = localIndex;
    this.remoteIndex = remoteIndex;
    this.isInitiator = isInitiator;
    this.createdMs = createdMs;
    this.#send = send;
    this.#receive = receive;
  }

  /** Seal in place; the packet's counter. */
  seal(at: number, length: number): number {
    const counter = this.counter++;
    this.#send.seal(at, length, counter);
    return counter;
  }

  /** Open `length` bytes, tag included: 1; 0: not the peer's; -1: it has been here before, or is too old to tell. */
  open(at: number, length: number, counter: number): number {
    if (counter >= REJECT_AFTER_MESSAGES || !this.#window.mayAccept(counter)) return -1;
    if (!this.#receive.open(at, length - TAG_BYTES, counter)) return 0;
    this.#window.mark(counter);
    return 1;
  }

  wipe(): void {
    this.#send.wipe();
    this.#receive.wipe();
  }
}
