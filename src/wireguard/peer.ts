/**
 * A peer: its sessions, what waits for one, and its timers (the WireGuard paper §5.4 to §6). All times are arguments.
 *
 * There are up to three sessions: the one in use, the one before it, whose packets may still be on their way, and the one
 * that answers the peer's initiation, which is used as soon as the peer has shown that it has it too.
 */
import { TimerNode, type Timers } from '../loop.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { Stamp } from './cookie.ts';
import { DATA_COUNTER_AT, DATA_OVERHEAD, DATA_PACKET_AT, MessageType, RECEIVER_AT } from './message.ts';
import { type RemoteKeys, type SentInitiation, TIMESTAMP_BYTES, wipeState } from './noise.ts';
import { OuterAddress } from './outer-address.ts';
import type { Bytes } from './primitives.ts';
import {
  INITIATION_INTERVAL_MS,
  JITTER_MS,
  KEEPALIVE_TIMEOUT_MS,
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_MS,
  REKEY_AFTER_MESSAGES,
  REKEY_AFTER_MS,
  REKEY_ATTEMPT_MS,
  REKEY_TIMEOUT_MS,
  ZERO_KEYS_MS,
} from './times.ts';
import type { Session } from './transport.ts';

const NEVER = Number.POSITIVE_INFINITY;
/** Packets that wait for a session. */
const QUEUE_MAX = 128;
/** Packets are padded to a multiple of so many bytes. */
const PADDING = 16;
/** Initiations one after the other before it is given up. */
const ATTEMPTS_MAX: number = REKEY_ATTEMPT_MS / REKEY_TIMEOUT_MS;

/** What is known of a peer at the start. */
export interface PeerConfig extends RemoteKeys {
  /** ms, 0 = none. */
  readonly persistentKeepaliveMs: number;
}

/** Whoever has the peer's packets. */
export interface PeerOwner {
  /** There is a session where there was none. */
  onUp(): void;
  /** The last session is gone, or none could be made. */
  onDown(reason: string): void;
  /** The peer is elsewhere from now on. */
  onRoamed(endpoint: OuterAddress): void;
}

/** What a peer needs of the whole. */
export interface PeerServices {
  /** Memory that packets are in. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly timers: Timers;
  /** Where packets that waited are put: room for the largest message. */
  readonly scratch: number;
  /** Most bytes of an inner packet. */
  readonly mtu: number;
  /** Send the message of `length` bytes at `at`. */
  send(at: number, length: number, to: OuterAddress): void;
  /** Make a new initiation, send it, and keep it in `peer.sent`. */
  initiate(peer: Peer, nowMs: number): void;
  /** A number below `below`. */
  randomBelow(below: number): number;
  /** An index is nobody's any more. */
  release(index: number): void;
  unixMs(): number;
}

export class Peer extends TimerNode implements RemoteKeys {
  readonly publicKey: Uint8Array;
  readonly shared: Uint8Array;
  readonly presharedKey: Uint8Array;
  readonly stamp: Stamp;
  readonly endpoint: OuterAddress = new OuterAddress();
  hasEndpoint = false;
  owner: PeerOwner | null = null;
  /** Our initiation that waits for its response. */
  sent: SentInitiation | null = null;
  /** When the last handshake was over (ms since 1970, 0 = never). */
  lastHandshakeMs = 0;
  /** Bytes of messages received and sent, where counting makes no numbers on the heap. */
  readonly #bytes = new Float64Array(2);
  /** Inner address that was last found to be this peer's. */
  readonly lastAllowed: IpAddress = new IpAddress();
  readonly #services: PeerServices;
  readonly #persistentMs: number;
  #previous: Session | null = null;
  #current: Session | null = null;
  #next: Session | null = null;
  readonly #queue: Uint8Array[] = [];
  #isUp = false;
  #attempts = 0;
  #lastSentHandshakeMs: number = Number.NEGATIVE_INFINITY;
  #lastTimestamp: Bytes = new Uint8Array(TIMESTAMP_BYTES);
  #lastInitiationMs: number = Number.NEGATIVE_INFINITY;
  /** A handshake was begun because the session that packets come by is about to end. */
  #refreshing = false;
  /** More packets came while a keep-alive was due already. */
  #needsAnotherKeepalive = false;
  #retryMs = NEVER;
  #keepaliveMs = NEVER;
  #silentMs = NEVER;
  #zeroKeysMs = NEVER;
  #persistentAtMs = NEVER;

  constructor(config: PeerConfig, services: PeerServices) {
    super();
    this.publicKey = config.publicKey;
    this.shared = config.shared;
    this.presharedKey = config.presharedKey;
    this.stamp = new Stamp(config.publicKey);
    this.#persistentMs = config.persistentKeepaliveMs;
    this.#services = services;
  }

  get rxBytes(): number {
    return this.#bytes[0]!;
  }

  get txBytes(): number {
    return this.#bytes[1]!;
  }

  /** A message of the peer's has come. */
  countReceived(length: number): void {
    this.#bytes[0]! += length;
  }

  countSent(length: number): void {
    this.#bytes[1]! += length;
  }

  /** Begin to keep the peer reachable, where that was asked for. */
  start(nowMs: number): void {
    if (this.#persistentMs > 0 && this.hasEndpoint) this.#sendKeepalive(nowMs);
  }

  /**
   * Send the inner packet at `at`, of which nothing else is kept: there are 16 bytes of room in front of it and 32 behind
   * it. False: it was not taken, as nobody knows where the peer is.
   */
  transmit(at: number, length: number, nowMs: number): boolean {
    const session = this.#usable(nowMs);
    if (session !== null) {
      this.#sendPacket(session, at, length, nowMs);
      return true;
    }
    if (!this.hasEndpoint) return false;
    if (this.#queue.length >= QUEUE_MAX) this.#queue.shift();
    this.#queue.push(this.#services.bytes.slice(at, at + length));
    this.handshake(nowMs, false);
    return true;
  }

  /** Begin a handshake, unless one was begun just now. */
  handshake(nowMs: number, isRetry: boolean): void {
    if (!isRetry) this.#attempts = 0;
    if (!this.hasEndpoint || nowMs - this.#lastSentHandshakeMs < REKEY_TIMEOUT_MS) return;
    this.#lastSentHandshakeMs = nowMs;
    this.#services.initiate(this, nowMs);
    this.#retryMs = nowMs + REKEY_TIMEOUT_MS + this.#services.randomBelow(JITTER_MS);
    this.#onSent(nowMs);
    this.#schedule();
  }

  /** May an initiation with this time be answered? Then no other that is older may. */
  admits(time: Bytes, nowMs: number): boolean {
    if (nowMs - this.#lastInitiationMs < INITIATION_INTERVAL_MS) return false;
    if (Buffer.compare(time, this.#lastTimestamp) <= 0) return false;
    this.#lastTimestamp = time;
    this.#lastInitiationMs = nowMs;
    return true;
  }

  /** Our response to the peer's initiation has gone: `session` is used once the peer has shown that it has it. */
  onResponded(session: Session, nowMs: number): void {
    this.#drop(this.#next);
    this.#drop(this.#previous);
    this.#previous = null;
    this.#next = session;
    this.#lastSentHandshakeMs = nowMs;
    this.#zeroKeysMs = nowMs + ZERO_KEYS_MS;
    this.#onSent(nowMs);
    this.#schedule();
  }

  /** The response to our initiation has come. */
  onResponse(session: Session, nowMs: number): void {
    this.#forgetInitiation();
    this.#drop(this.#previous);
    if (this.#next !== null) {
      // The peer began one at the same time: what it sends by that is still taken.
      this.#previous = this.#next;
      this.#next = null;
      this.#drop(this.#current);
    } else this.#previous = this.#current;
    this.#current = session;
    this.#zeroKeysMs = nowMs + ZERO_KEYS_MS;
    this.#onComplete(nowMs);
    // The peer waits for a sign that we have its keys.
    if (this.#queue.length === 0) this.#sendKeepalive(nowMs);
    else this.#sendQueued(nowMs);
    this.#schedule();
  }

  /**
   * A message of `session` has been opened. It has come from `from`; `hasPacket`: it was no mere keep-alive.
   */
  onData(session: Session, from: OuterAddress, hasPacket: boolean, nowMs: number): void {
    this.setEndpoint(from);
    if (session === this.#next) {
      this.#drop(this.#previous);
      this.#previous = this.#current;
      this.#current = session;
      this.#next = null;
      this.#onComplete(nowMs);
      this.#sendQueued(nowMs);
    }
    this.onHeard(nowMs);
    if (hasPacket) {
      if (this.#keepaliveMs === NEVER) this.#keepaliveMs = nowMs + KEEPALIVE_TIMEOUT_MS;
      else this.#needsAnotherKeepalive = true;
    }
    const age = nowMs - session.createdMs;
    const isAging = age > REJECT_AFTER_MS - KEEPALIVE_TIMEOUT_MS - REKEY_TIMEOUT_MS;
    if (session === this.#current && session.isInitiator && isAging && !this.#refreshing) {
      this.#refreshing = true;
      this.handshake(nowMs, false);
    }
    this.#schedule();
  }

  /** Something that only the peer can have sent has come. */
  onHeard(nowMs: number): void {
    this.#silentMs = NEVER;
    if (this.#persistentMs > 0) this.#persistentAtMs = nowMs + this.#persistentMs;
  }

  /** May packets of `session` still be taken? */
  accepts(session: Session, nowMs: number): boolean {
    return nowMs - session.createdMs <= REJECT_AFTER_MS;
  }

  /** There is a session. */
  get isUp(): boolean {
    return this.#isUp;
  }

  setEndpoint(from: OuterAddress): void {
    if (this.hasEndpoint && this.endpoint.equals(from)) return;
    const hadOne = this.hasEndpoint;
    this.endpoint.copyFrom(from);
    this.hasEndpoint = true;
    if (hadOne) this.owner?.onRoamed(this.endpoint);
  }

  onTimer(nowMs: number): void {
    if (nowMs >= this.#retryMs) this.#retry(nowMs);
    if (nowMs >= this.#keepaliveMs) {
      this.#keepaliveMs = NEVER;
      this.#sendKeepalive(nowMs);
      if (this.#needsAnotherKeepalive) {
        this.#needsAnotherKeepalive = false;
        this.#keepaliveMs = nowMs + KEEPALIVE_TIMEOUT_MS;
      }
    }
    if (nowMs >= this.#silentMs) {
      this.#silentMs = NEVER;
      this.handshake(nowMs, false);
    }
    if (nowMs >= this.#persistentAtMs) {
      this.#persistentAtMs = NEVER;
      this.#sendKeepalive(nowMs);
    }
    if (nowMs >= this.#zeroKeysMs) this.#zeroKeys('silent for too long');
    this.#schedule();
  }

  /** Wipe all keys of the peer's sessions. */
  close(): void {
    this.owner = null;
    this.#zeroKeys('');
    this.shared.fill(0);
    this.presharedKey.fill(0);
    this.#retryMs = NEVER;
    this.#keepaliveMs = NEVER;
    this.#silentMs = NEVER;
    this.#persistentAtMs = NEVER;
    this.#services.timers.cancel(this);
  }

  /** The session to send by, or null. */
  #usable(nowMs: number): Session | null {
    const session = this.#current;
    if (session === null || session.counter >= REJECT_AFTER_MESSAGES) return null;
    return nowMs - session.createdMs < REJECT_AFTER_MS ? session : null;
  }

  #sendPacket(session: Session, at: number, length: number, nowMs: number): void {
    const { bytes, view, mtu } = this.#services;
    const padded = Math.max(length, Math.min(Math.ceil(length / PADDING) * PADDING, mtu));
    bytes.fill(0, at + length, at + padded);
    const message = at - DATA_PACKET_AT;
    const counter = session.seal(at, padded);
    view.setUint32(message, MessageType.Data, true);
    view.setInt32(message + RECEIVER_AT, session.remoteIndex, true);
    view.setUint32(message + DATA_COUNTER_AT, counter >>> 0, true);
    view.setUint32(message + DATA_COUNTER_AT + 4, Math.floor(counter / 2 ** 32), true);
    this.countSent(padded + DATA_OVERHEAD);
    this.#services.send(message, padded + DATA_OVERHEAD, this.endpoint);
    if (length > 0 && this.#silentMs === NEVER) {
      const jitterMs = this.#services.randomBelow(JITTER_MS);
      this.#silentMs = nowMs + KEEPALIVE_TIMEOUT_MS + REKEY_TIMEOUT_MS + jitterMs;
    }
    this.#onSent(nowMs);
    const isOld = session.isInitiator && nowMs - session.createdMs >= REKEY_AFTER_MS;
    if (isOld || session.counter >= REKEY_AFTER_MESSAGES) this.handshake(nowMs, false);
    this.#schedule();
  }

  /** An empty packet, or what waits. */
  #sendKeepalive(nowMs: number): void {
    if (this.#queue.length > 0) {
      this.#sendQueued(nowMs);
      return;
    }
    const session = this.#usable(nowMs);
    if (session === null) this.handshake(nowMs, false);
    else this.#sendPacket(session, this.#services.scratch + DATA_PACKET_AT, 0, nowMs);
  }

  #sendQueued(nowMs: number): void {
    const session = this.#usable(nowMs);
    if (session === null) {
      this.handshake(nowMs, false);
      return;
    }
    const { bytes, scratch } = this.#services;
    const at = scratch + DATA_PACKET_AT;
    for (const packet of this.#queue.splice(0)) {
      bytes.set(packet, at);
      this.#sendPacket(session, at, packet.length, nowMs);
    }
  }

  /** Something that the peer can tell is ours has gone. */
  #onSent(nowMs: number): void {
    this.#keepaliveMs = NEVER;
    this.#needsAnotherKeepalive = false;
    if (this.#persistentMs > 0) this.#persistentAtMs = nowMs + this.#persistentMs;
  }

  #onComplete(nowMs: number): void {
    this.#retryMs = NEVER;
    this.#attempts = 0;
    this.#refreshing = false;
    this.lastHandshakeMs = this.#services.unixMs();
    this.onHeard(nowMs);
    if (this.#isUp) return;
    this.#isUp = true;
    this.owner?.onUp();
  }

  #retry(nowMs: number): void {
    this.#retryMs = NEVER;
    if (this.#attempts < ATTEMPTS_MAX) {
      this.#attempts++;
      this.handshake(nowMs, true);
      return;
    }
    this.#queue.length = 0;
    this.#keepaliveMs = NEVER;
    this.#forgetInitiation();
    if (this.#zeroKeysMs === NEVER) this.#zeroKeysMs = nowMs + ZERO_KEYS_MS;
    this.#goDown('the peer does not answer');
  }

  #zeroKeys(reason: string): void {
    this.#zeroKeysMs = NEVER;
    this.#drop(this.#previous);
    this.#drop(this.#current);
    this.#drop(this.#next);
    this.#previous = null;
    this.#current = null;
    this.#next = null;
    this.#queue.length = 0;
    this.#forgetInitiation();
    this.#goDown(reason);
  }

  #goDown(reason: string): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.owner?.onDown(reason);
  }

  #forgetInitiation(): void {
    if (this.sent === null) return;
    wipeState(this.sent);
    this.#services.release(this.sent.index);
    this.sent = null;
  }

  #drop(session: Session | null): void {
    if (session === null) return;
    session.wipe();
    this.#services.release(session.localIndex);
  }

  #schedule(): void {
    const next = Math.min(
      this.#retryMs,
      this.#keepaliveMs,
      this.#silentMs,
      this.#zeroKeysMs,
      this.#persistentAtMs,
    );
    // Mostly the same: a packet changes no deadline.
    if (next === this.deadline) return;
    this.deadline = next;
    this.#services.timers.update(this);
  }
}
