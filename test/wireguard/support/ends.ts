/** Ends of WireGuard with a memory each, a clock that a test turns, and a network that keeps what is sent until it is carried. */

import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { TimerHeap } from '../../../src/timer-heap.ts';
import type { AllowedPrefix } from '../../../src/wireguard/allowed-ips.ts';
import { nodeCiphers } from '../../../src/wireguard/node-cipher.ts';
import { NO_PRESHARED_KEY } from '../../../src/wireguard/noise.ts';
import { OuterAddress } from '../../../src/wireguard/outer-address.ts';
import type { Peer } from '../../../src/wireguard/peer.ts';
import type { Bytes } from '../../../src/wireguard/primitives.ts';
import type { CipherMaker } from '../../../src/wireguard/transport.ts';
import { PACKET_ROOM, WireGuard } from '../../../src/wireguard/wireguard.ts';

/** Where a datagram that came is put, where one to send is made, and where the end writes its own. */
const RECEIVED_AT = 0;
const PACKET_AT: number = PACKET_ROOM + 16;
const SCRATCH: number = 2 * PACKET_AT;
const MEMORY_BYTES: number = SCRATCH + PACKET_ROOM;

export class Clock {
  nowMs = 1_000_000;
  /** ms since 1970. */
  get unixMs(): number {
    return 1_700_000_000_000 + this.nowMs - 1_000_000;
  }
}

export interface Datagram {
  bytes: Bytes;
  from: OuterAddress;
  to: OuterAddress;
}

/** `[address]:port` is not needed here: addresses of tests are IPv4. */
export function outer(text: string): OuterAddress {
  const [address, port] = text.split(':') as [string, string];
  const out = new OuterAddress();
  out.address.copyFrom(parseIpAddress(address));
  out.port = Number(port);
  return out;
}

export function prefix(text: string): AllowedPrefix {
  const [address, bits] = text.split('/') as [string, string];
  return { address: parseIpAddress(address), bits: Number(bits) + (address.includes(':') ? 0 : 96) };
}

export class End {
  readonly wireguard: WireGuard;
  readonly timers: TimerHeap = new TimerHeap();
  readonly address: OuterAddress;
  /** What was sent, until a test takes it. */
  outbox: Datagram[] = [];
  /** Inner packets that were received. */
  inbox: { peer: Peer; packet: Buffer }[] = [];
  ciphers: { made: number; wiped: number } = { made: 0, wiped: 0 };
  readonly #memory = new Uint8Array(MEMORY_BYTES);
  readonly #clock: Clock;
  /** Results of `random` to come, before those that only count. */
  readonly randoms: Bytes[] = [];
  #seed: number;

  constructor(clock: Clock, privateKey: Uint8Array, address: string, mtu = 1420) {
    this.#clock = clock;
    this.address = outer(address);
    this.#seed = privateKey[0]!;
    const ciphers = nodeCiphers(this.#memory);
    this.wireguard = new WireGuard(privateKey.slice(), {
      bytes: this.#memory,
      view: new DataView(this.#memory.buffer),
      timers: this.timers,
      scratch: SCRATCH,
      mtu,
      newCipher: (key) => this.#count(ciphers, key),
      random: (size) => this.randoms.shift() ?? this.#random(size),
      unixMs: () => clock.unixMs,
      send: (at, length, to) => {
        const copy = new OuterAddress();
        copy.copyFrom(to);
        const from = new OuterAddress();
        from.copyFrom(this.address);
        this.outbox.push({ bytes: this.#memory.slice(at, at + length), from, to: copy });
      },
    });
  }

  addPeer(end: { wireguard: { publicKey: Bytes } }, allowed: string[], options: PeerOptions = {}): Peer {
    const { presharedKey = NO_PRESHARED_KEY, persistentKeepaliveMs = 0, endpoint } = options;
    const { publicKey } = end.wireguard;
    const peer = this.wireguard.addPeer(
      { publicKey, presharedKey, persistentKeepaliveMs },
      allowed.map(prefix),
    );
    if (endpoint !== undefined) peer.setEndpoint(outer(endpoint));
    return peer;
  }

  /** Send an inner packet. */
  transmit(peer: Peer, packet: Uint8Array): boolean {
    this.#memory.set(packet, PACKET_AT);
    return peer.transmit(PACKET_AT, packet.length, this.#clock.nowMs);
  }

  receive(bytes: Uint8Array, from: OuterAddress = outer('192.0.2.99:9')): void {
    this.#memory.set(bytes, RECEIVED_AT);
    const { wireguard } = this;
    const peer = wireguard.receive(RECEIVED_AT, bytes.length, from, this.#clock.nowMs);
    if (peer === null) return;
    const { packetAt, packetLength } = wireguard;
    this.inbox.push({ peer, packet: Buffer.from(this.#memory.slice(packetAt, packetAt + packetLength)) });
  }

  /** What was sent since it was last asked. */
  take(): Datagram[] {
    return this.outbox.splice(0);
  }

  #count(ciphers: CipherMaker, key: Bytes): ReturnType<CipherMaker> {
    const cipher = ciphers(key);
    this.ciphers.made++;
    return {
      seal: (at, length, counter) => cipher.seal(at, length, counter),
      open: (at, length, counter) => cipher.open(at, length, counter),
      wipe: () => {
        this.ciphers.wiped++;
        cipher.wipe();
      },
    };
  }

  /** Not random, but each another. */
  #random(size: number): Bytes {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) {
      this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
      bytes[i] = this.#seed >>> 24;
    }
    return bytes;
  }
}

export interface PeerOptions {
  presharedKey?: Uint8Array;
  persistentKeepaliveMs?: number;
  endpoint?: string;
}

/** An IPv4 packet from one address to another, with `size` bytes of payload. */
export function packet(from: string, to: string, size = 0): Buffer {
  const bytes = Buffer.alloc(20 + size, 0x5a);
  bytes.fill(0, 0, 20);
  bytes[0] = 0x45;
  bytes.writeUInt16BE(20 + size, 2);
  bytes[8] = 64;
  bytes[9] = 17;
  bytes.writeUInt32BE(parseIpAddress(from).w3, 12);
  bytes.writeUInt32BE(parseIpAddress(to).w3, 16);
  return bytes;
}

/** Two ends that know each other; `a` knows where `b` is. */
export class Ends {
  readonly clock: Clock = new Clock();
  readonly a: End;
  readonly b: End;
  /** `b`, as `a` has it, and the other way round. */
  readonly peerB: Peer;
  readonly peerA: Peer;

  constructor(presharedKey: Uint8Array = NO_PRESHARED_KEY, keepaliveMs = 0) {
    this.a = new End(this.clock, new Uint8Array(32).fill(1), '192.0.2.1:1001');
    this.b = new End(this.clock, new Uint8Array(32).fill(2), '192.0.2.2:1002');
    this.peerB = this.a.addPeer(this.b, ['10.9.0.1/32'], {
      presharedKey: presharedKey.slice(),
      endpoint: '192.0.2.2:1002',
      persistentKeepaliveMs: keepaliveMs,
    });
    this.peerA = this.b.addPeer(this.a, ['10.9.0.2/32'], { presharedKey: presharedKey.slice() });
  }

  /** Carry everything until there is nothing left. */
  carry(): void {
    for (;;) {
      const fromA = this.a.take();
      const fromB = this.b.take();
      if (fromA.length + fromB.length === 0) return;
      for (const { bytes, from } of fromA) this.b.receive(bytes, from);
      for (const { bytes, from } of fromB) this.a.receive(bytes, from);
    }
  }

  /** A session between both, and nothing on its way. */
  connect(): void {
    this.a.transmit(this.peerB, packet('10.9.0.2', '10.9.0.1'));
    this.carry();
    this.a.inbox = [];
    this.b.inbox = [];
  }

  /** Turn the clock on to `atMs` after its start in steps of what is due; `each` after every step. */
  runTo(atMs: number, each: () => void = () => this.carry()): void {
    const end = 1_000_000 + atMs;
    for (;;) {
      const next = Math.min(this.a.timers.next, this.b.timers.next);
      if (next > end) break;
      this.clock.nowMs = Math.max(this.clock.nowMs, next);
      for (const { timers } of [this.a, this.b])
        timers.run(this.clock.nowMs, (error) => {
          throw error;
        });
      each();
    }
    this.clock.nowMs = end;
  }
}
