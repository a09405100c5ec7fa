/**
 * An end of WireGuard (https://www.wireguard.com/papers/wireguard.pdf): takes datagrams, and has the packets in them where
 * they lay; sends packets of its peers. Pure: sockets, time and random numbers are handed to it. Nothing in a datagram
 * throws, and to what is not from a peer nothing is said.
 *
 * Left out: fragments of the outer network are the kernel's business, and ECN is not copied between outside and inside.
 */
import type { Timers } from '../loop.ts';
import { IpAddress } from '../stack/wire/address.ts';
import { AllowedIps, type AllowedPrefix } from './allowed-ips.ts';
import { Gate } from './cookie.ts';
import { HandshakeLoad } from './handshake-load.ts';
import {
  COOKIE_BYTES,
  DATA_COUNTER_AT,
  DATA_OVERHEAD,
  DATA_PACKET_AT,
  INITIATION_BYTES,
  MessageType,
  messageType,
  RECEIVER_AT,
  RESPONSE_BYTES,
  RESPONSE_RECEIVER_AT,
  SENDER_AT,
} from './message.ts';
import {
  createInitiation,
  createResponse,
  openInitiation,
  openResponse,
  openTimestamp,
  type SessionKeys,
  timestamp,
  wipeState,
} from './noise.ts';
import type { OuterAddress } from './outer-address.ts';
import { Peer, type PeerConfig, type PeerServices } from './peer.ts';
import { type Bytes, KEY_BYTES, PrivateKey } from './primitives.ts';
import { type CipherMaker, Session } from './transport.ts';

/** What was not taken, by why, and what was sent for it. */
export class WireGuardCounters {
  /** No message of the protocol. */
  malformed = 0;
  /** A handshake message that is not for us, or of nobody we know. */
  unknown = 0;
  /** A handshake message that is old, or no answer to one of ours. */
  stale = 0;
  /** A handshake message that there was no time for. */
  limited = 0;
  /** A packet of no session, or one that is over. */
  noSession = 0;
  /** A packet that is not what the peer has sealed. */
  forged = 0;
  replayed = 0;
  /** A packet with an inner length that cannot be. */
  badPacket = 0;
  /** A packet with an inner address that is not the peer's. */
  notAllowed = 0;
  cookiesSent = 0;
}

export interface WireGuardServices {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly timers: Timers;
  /** Room for the largest message, of `PACKET_ROOM` bytes. */
  readonly scratch: number;
  readonly mtu: number;
  readonly newCipher: CipherMaker;
  random(size: number): Bytes;
  unixMs(): number;
  send(at: number, length: number, to: OuterAddress): void;
}

/** Bytes of the largest message. */
export const PACKET_ROOM: number = 65_535 + DATA_OVERHEAD;

const LEAST_IPV4 = 20;
const LEAST_IPV6 = 40;

interface Indexed {
  readonly peer: Peer;
  /** Null: the peer's initiation of ours. */
  readonly session: Session | null;
}

export class WireGuard {
  readonly counters: WireGuardCounters = new WireGuardCounters();
  readonly publicKey: Bytes;
  /** Of the packet that `receive` has found. */
  packetAt = 0;
  packetLength = 0;
  readonly #services: WireGuardServices;
  readonly #peerServices: PeerServices;
  readonly #local: PrivateKey;
  readonly #gate: Gate;
  readonly #load = new HandshakeLoad();
  readonly #peers = new Map<string, Peer>();
  readonly #allowed = new AllowedIps<Peer>();
  /** By our index, as a signed number, which needs no memory of its own. */
  readonly #indices = new Map<number, Indexed>();
  readonly #inner = new IpAddress();

  /** `privateKey` is wiped. */
  constructor(privateKey: Uint8Array, services: WireGuardServices) {
    this.#services = services;
    this.#local = new PrivateKey(privateKey);
    privateKey.fill(0);
    this.publicKey = this.#local.publicKey;
    this.#gate = new Gate(this.publicKey, services.random);
    const { bytes, view, timers, scratch, mtu } = services;
    this.#peerServices = {
      ...{ bytes, view, timers, scratch, mtu },
      send: (at, length, to) => services.send(at, length, to),
      initiate: (peer, nowMs) => this.#initiate(peer, nowMs),
      randomBelow: (below) => new DataView(services.random(4).buffer).getUint32(0) % below,
      release: (index) => this.#indices.delete(index),
      unixMs: () => services.unixMs(),
    };
  }

  /** @throws RangeError for a key that is none, our own or another peer's, and for a prefix that another peer has */
  addPeer(config: Omit<PeerConfig, 'shared'>, allowed: readonly AllowedPrefix[]): Peer {
    const shared = this.#local.agree(config.publicKey);
    const name = nameOf(config.publicKey);
    if (shared === null) throw new RangeError('a public key that no private key has');
    if (name === nameOf(this.publicKey)) throw new RangeError("a peer with our own interface's key");
    if (this.#peers.has(name)) throw new RangeError('two peers with one public key');
    const peer = new Peer({ ...config, shared }, this.#peerServices);
    for (const prefix of allowed) this.#allowed.add(prefix, peer);
    this.#peers.set(name, peer);
    return peer;
  }

  /** Forget a peer and its keys. */
  removePeer(peer: Peer): void {
    if (!this.#peers.delete(nameOf(peer.publicKey))) return;
    this.#allowed.remove(peer);
    peer.close();
  }

  /** Whether `address` is the inner one of `peer`. */
  isAllowed(peer: Peer, address: IpAddress): boolean {
    // Nobody's address is what the last one is at first.
    if (address.isUnspecified) return false;
    if (address.equals(peer.lastAllowed)) return true;
    if (this.#allowed.find(address) !== peer) return false;
    peer.lastAllowed.copyFrom(address);
    return true;
  }

  /** The peer whose packet was in the datagram of `length` bytes at `at`: `packetAt` says where; null: there was none. */
  receive(at: number, length: number, from: OuterAddress, nowMs: number): Peer | null {
    const { bytes, view } = this.#services;
    const type = length < DATA_OVERHEAD ? 0 : messageType(view.getUint32(at, true), length);
    if (type === MessageType.Data) return this.#onData(at, length, from, nowMs);
    // A copy, so that what is kept of it is ours.
    const message = type === 0 ? null : bytes.slice(at, at + length);
    if (message === null) this.counters.malformed++;
    else if (type === MessageType.Cookie) this.#onCookie(message, nowMs);
    else if (this.#mayLookAt(message, from, nowMs)) {
      if (type === MessageType.Initiation) this.#onInitiation(message, from, nowMs);
      else this.#onResponse(message, from, nowMs);
    }
    return null;
  }

  /** Wipe all keys. */
  close(): void {
    for (const peer of this.#peers.values()) peer.close();
    this.#peers.clear();
    this.#indices.clear();
  }

  #onData(at: number, length: number, from: OuterAddress, nowMs: number): Peer | null {
    const { view } = this.#services;
    const { counters } = this;
    const entry = this.#indices.get(view.getInt32(at + RECEIVER_AT, true));
    const session = entry?.session;
    if (entry === undefined || session == null || !entry.peer.accepts(session, nowMs)) {
      counters.noSession++;
      return null;
    }
    const { peer } = entry;
    const counter =
      view.getUint32(at + DATA_COUNTER_AT, true) + view.getUint32(at + DATA_COUNTER_AT + 4, true) * 2 ** 32;
    const packetAt = at + DATA_PACKET_AT;
    const opened = session.open(packetAt, length - DATA_PACKET_AT, counter);
    if (opened <= 0) {
      if (opened === 0) counters.forged++;
      else counters.replayed++;
      return null;
    }
    const plainLength = length - DATA_OVERHEAD;
    peer.countReceived(length);
    peer.onData(session, from, plainLength > 0, nowMs);
    if (plainLength === 0) return null;
    this.packetLength = this.#innerLength(packetAt, plainLength);
    if (this.packetLength === 0) {
      counters.badPacket++;
      return null;
    }
    if (!this.isAllowed(peer, this.#inner)) {
      counters.notAllowed++;
      return null;
    }
    this.packetAt = packetAt;
    return peer;
  }

  /** The length of the IP packet at `at` without its padding, 0 for what is none. Its source is in `#inner`. */
  #innerLength(at: number, length: number): number {
    const { view } = this.#services;
    const version = view.getUint8(at) >> 4;
    let total = 0;
    if (version === 4 && length >= LEAST_IPV4) {
      total = view.getUint16(at + 2);
      if (total < LEAST_IPV4) return 0;
      this.#inner.readV4(view, at + 12);
    } else if (version === 6 && length >= LEAST_IPV6) {
      total = view.getUint16(at + 4) + LEAST_IPV6;
      this.#inner.readV6(view, at + 8);
      if (this.#inner.isV4) return 0;
    }
    return total <= length ? total : 0;
  }

  /** Whether a handshake message is worth the work: what costs little is looked at first. */
  #mayLookAt(message: Bytes, from: OuterAddress, nowMs: number): boolean {
    if (!this.#gate.knowsUs(message)) {
      this.counters.unknown++;
      return false;
    }
    if (!this.#load.add(nowMs)) return true;
    if (this.#gate.knowsCookie(message, from, nowMs)) {
      if (this.#load.allows(from, nowMs)) return true;
      this.counters.limited++;
      return false;
    }
    this.counters.cookiesSent++;
    this.#write(COOKIE_BYTES, from, (out) => this.#gate.reply(out, message, from, nowMs));
    return false;
  }

  #onInitiation(message: Bytes, from: OuterAddress, nowMs: number): void {
    const initiation = openInitiation(message, this.#local);
    const peer = initiation === null ? undefined : this.#peers.get(nameOf(initiation.staticKey));
    const time = peer === undefined ? null : openTimestamp(message, initiation!, peer);
    if (initiation === null || peer === undefined || time === null) {
      if (initiation !== null) wipeState(initiation);
      this.counters.unknown++;
      return;
    }
    if (!peer.admits(time, nowMs)) {
      wipeState(initiation);
      this.counters.stale++;
      return;
    }
    const index = this.#newIndex();
    const ephemeral = this.#newKey();
    const response = new Uint8Array(RESPONSE_BYTES);
    const keys = createResponse(response, initiation, peer, ephemeral, index);
    if (keys === null) {
      this.counters.unknown++;
      return;
    }
    const session = this.#session(peer, keys, index, initiation.index, false, nowMs);
    peer.countReceived(message.length);
    peer.setEndpoint(from);
    peer.onHeard(nowMs);
    this.#sendStamped(peer, response, nowMs);
    peer.onResponded(session, nowMs);
  }

  #onResponse(message: Bytes, from: OuterAddress, nowMs: number): void {
    const head = new DataView(message.buffer);
    const index = head.getInt32(RESPONSE_RECEIVER_AT, true);
    const entry = this.#indices.get(index);
    const peer = entry?.peer;
    const sent = entry?.session === null ? peer?.sent : null;
    const keys = sent == null ? null : openResponse(message, sent, this.#local, peer!);
    if (keys === null || peer === undefined) {
      this.counters.stale++;
      return;
    }
    // The index goes from the initiation to the session.
    wipeState(sent!);
    peer.sent = null;
    const session = this.#session(peer, keys, index, head.getInt32(SENDER_AT, true), true, nowMs);
    peer.countReceived(message.length);
    peer.setEndpoint(from);
    peer.onResponse(session, nowMs);
  }

  #onCookie(message: Bytes, nowMs: number): void {
    const index = new DataView(message.buffer).getInt32(RECEIVER_AT, true);
    const peer = this.#indices.get(index)?.peer;
    if (peer === undefined || !peer.stamp.take(message, nowMs)) this.counters.stale++;
    else peer.countReceived(message.length);
  }

  #initiate(peer: Peer, nowMs: number): void {
    const { sent } = peer;
    if (sent !== null) {
      wipeState(sent);
      this.#indices.delete(sent.index);
    }
    const message = new Uint8Array(INITIATION_BYTES);
    const index = this.#newIndex();
    const time = timestamp(this.#services.unixMs());
    peer.sent = createInitiation(message, this.#local, peer, this.#newKey(), index, time);
    if (peer.sent === null) return;
    this.#indices.set(index, { peer, session: null });
    this.#sendStamped(peer, message, nowMs);
  }

  #sendStamped(peer: Peer, message: Bytes, nowMs: number): void {
    peer.stamp.put(message, nowMs);
    peer.countSent(message.length);
    this.#write(message.length, peer.endpoint, (out) => out.set(message));
  }

  #write(length: number, to: OuterAddress, fill: (out: Uint8Array) => void): void {
    const { bytes, scratch } = this.#services;
    fill(bytes.subarray(scratch, scratch + length));
    this.#services.send(scratch, length, to);
  }

  #session(
    peer: Peer,
    keys: SessionKeys,
    index: number,
    remoteIndex: number,
    isInitiator: boolean,
    nowMs: number,
  ): Session {
    const { newCipher } = this.#services;
    const [send, receive] = [newCipher(keys.send), newCipher(keys.receive)];
    keys.send.fill(0);
    keys.receive.fill(0);
    const session = new Session(index, remoteIndex, isInitiator, nowMs, send, receive);
    this.#indices.set(index, { peer, session });
    return session;
  }

  #newKey(): PrivateKey {
    const raw = this.#services.random(KEY_BYTES);
    const key = new PrivateKey(raw);
    raw.fill(0);
    return key;
  }

  #newIndex(): number {
    for (;;) {
      const index = new DataView(this.#services.random(4).buffer).getInt32(0, true);
      if (!this.#indices.has(index)) return index;
    }
  }
}

function nameOf(publicKey: Uint8Array): string {
  return Buffer.from(publicKey).toString('base64');
}
