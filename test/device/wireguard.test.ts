/** Two WireGuard interfaces on real sockets of the loopback interface, in one loop. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import {
  BATCH_FRAMES,
  type LinkOwner,
  type LinkServices,
  type PeerEvent,
  RxFrame,
} from '../../src/device/device-link.ts';
import { FrameIo } from '../../src/device/frame-io.ts';
import { WireGuardInterface } from '../../src/device/wireguard-interface.ts';
import type { WireGuardLink } from '../../src/device/wireguard-link.ts';
import type { WireGuardDevice } from '../../src/device-spec.ts';
import { EventLoop } from '../../src/engine/event-loop.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { EHOSTUNREACH, EMSGSIZE } from '../../src/sys/errno.ts';
import { Memory } from '../../src/sys/memory.ts';
import { PrivateKey } from '../../src/wireguard/primitives.ts';
import { packet } from '../wireguard/support/ends.ts';

const MTU = 1420;
const KEYS = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)] as const;
const ADDRESSES = ['10.9.0.1', '10.9.0.2'] as const;

class Bench {
  readonly slab = new Slab(8 * 1024 * 1024, 128);
  readonly memory = new Memory(this.slab.buffer as ArrayBuffer, 65_536);
  readonly errors: unknown[] = [];
  readonly loop = new EventLoop(this.memory, this.slab, (error) => this.errors.push(error));
  readonly frames = new FrameIo(this.slab, this.memory);
  readonly sides: Side[] = [];

  /** Interface `which`, that knows the other one; a port to find it at, or none. */
  side(which: 0 | 1, port: number): Side {
    const side = new Side(this, which, port);
    this.sides.push(side);
    return side;
  }

  runUntil(condition: () => boolean): void {
    // The loop blocks where nothing is to come: a test that hangs there is one that fails.
    while (!condition()) {
      this.loop.turn();
      for (const { link } of this.sides) link.flush();
      assert.deepEqual(this.errors, []);
    }
  }

  close(): void {
    for (const { link } of this.sides) link.close();
  }
}

class Side implements LinkOwner {
  readonly interface: WireGuardInterface;
  readonly link: WireGuardLink;
  readonly received: Buffer[] = [];
  readonly peers: PeerEvent[] = [];
  isEmpty = false;
  /** Frames that are taken at a time. */
  most = BATCH_FRAMES;
  readonly #bench: Bench;
  readonly #head: number;
  readonly #payload: number;
  readonly #frame = new RxFrame();
  readonly #out = new TxFrame();

  constructor(bench: Bench, which: 0 | 1, port: number) {
    this.#bench = bench;
    this.#head = bench.slab.region(4096);
    this.#payload = bench.slab.region(4096);
    const { memory, frames, loop } = bench;
    const device: WireGuardDevice = {
      ...{
        kind: 'wireguard',
        interface: `wg${which}`,
        privateKey: KEYS[which].slice(),
        listenPort: 0,
        mtu: MTU,
      },
      peer: {
        publicKey: new PrivateKey(KEYS[1 - which]!).publicKey,
        presharedKey: new Uint8Array(32).fill(5),
        allowedIps: [{ address: ADDRESSES[1 - which]!, bits: 128 }],
        endpoint: port === 0 ? null : { address: '127.0.0.1', port },
        keepaliveSeconds: 0,
      },
    };
    this.interface = new WireGuardInterface(
      { memory, frames, poller: loop, timers: loop.timers, clock: loop.clock },
      device,
      () => {
        this.isEmpty = true;
      },
    );
    const services: LinkServices = {
      ...{ memory, frames, poller: loop, timers: loop.timers, clock: loop.clock },
      touched: () => undefined,
      onPeer: (event) => this.peers.push(event),
      log: () => undefined,
    };
    this.link = this.interface.join(services, device);
    assert.equal(this.link.open(this), 0);
  }

  /** Headers and payload apart, as the stack has them. */
  transmit(bytes: Buffer): number {
    const { slab } = this.#bench;
    const head = Math.min(20, bytes.length);
    slab.bytes.set(bytes.subarray(0, head), this.#head);
    slab.bytes.set(bytes.subarray(head), this.#payload);
    this.#out.headOffset = this.#head;
    this.#out.headLength = head;
    this.#out.payloadLength = bytes.length - head;
    this.#out.parts.count = 1;
    this.#out.parts.offset[0] = this.#payload;
    this.#out.parts.length[0] = bytes.length - head;
    return this.link.transmit(this.#out);
  }

  onFrames(): void {
    for (let index = 0; index < this.most; index++) {
      if (this.link.receive(index, this.#frame) === 0) return;
      const { offset, length } = this.#frame;
      this.received.push(Buffer.from(this.#bench.slab.bytes.subarray(offset, offset + length)));
    }
  }

  onMtu(): void {
    return;
  }

  onUnsent(): void {
    assert.fail('everything can be sent');
  }

  onGone(): void {
    return;
  }

  onDown(): void {
    return;
  }

  onUp(): void {
    return;
  }
}

let bench: Bench;
afterEach(() => bench.close());

function connected(): [Side, Side] {
  bench = new Bench();
  const server = bench.side(0, 0);
  const client = bench.side(1, server.interface.port);
  client.transmit(packet(ADDRESSES[1], ADDRESSES[0]));
  bench.runUntil(() => server.received.length === 1);
  server.received.length = 0;
  return [server, client];
}

test('links L-40: a packet to a server, and one back, through sockets', () => {
  const [server, client] = connected();
  const back = packet(ADDRESSES[0], ADDRESSES[1], 1400);
  assert.equal(server.transmit(back), 1420);
  bench.runUntil(() => client.received.length === 1);
  assert.deepEqual(client.received, [back]);
});

test('what the peers have sent and received is told, and what was not taken', () => {
  const [server, client] = connected();
  const atServer = server.link.gauges();
  const atClient = client.link.gauges();
  assert.equal(atServer['peer.up'], 1);
  assert.equal(atServer['peer.rx_bytes'], atClient['peer.tx_bytes']);
  assert.ok(atServer['peer.rx_bytes']! > 148);
  assert.ok(Math.abs(atServer['peer.last_handshake_seconds']! - Date.now() / 1000) < 60);
  assert.equal(atServer['wireguard.not_allowed'], 0);
  client.transmit(packet('10.9.0.7', ADDRESSES[0]));
  client.link.flush();
  bench.runUntil(() => server.link.gauges()['wireguard.not_allowed'] === 1);
});

test('packets of one turn arrive whole and in order, whatever their sizes', () => {
  const [server, client] = connected();
  const sizes = [...Array(150).fill(1400), 800, 0, ...Array(40).fill(33), ...Array(40).fill(1399), 1400];
  const sent = sizes.map((size, index) => {
    const bytes = packet(ADDRESSES[1], ADDRESSES[0], size);
    bytes.writeUInt16BE(index, 4);
    return bytes;
  });
  for (const bytes of sent) assert.equal(client.transmit(bytes), bytes.length);
  client.link.flush();
  bench.runUntil(() => server.received.length === sent.length);
  assert.deepEqual(server.received, sent);
});

test('a guest that takes a frame at a time gets them all', () => {
  const [server, client] = connected();
  server.most = 1;
  for (let i = 0; i < 100; i++) client.transmit(packet(ADDRESSES[1], ADDRESSES[0], i));
  client.link.flush();
  bench.runUntil(() => server.received.length === 100);
  assert.deepEqual(
    server.received.map(({ length }) => length),
    Array.from({ length: 100 }, (_, i) => 20 + i),
  );
});

test('links L-49: what is not for the peer, too long, or for one whom nobody knows is not taken', () => {
  const [server] = connected();
  assert.equal(server.transmit(packet(ADDRESSES[0], '10.9.0.3')), -EHOSTUNREACH);
  assert.equal(server.transmit(packet(ADDRESSES[0], ADDRESSES[1], MTU)), -EMSGSIZE);
  const lonely = bench.side(1, 0);
  assert.equal(lonely.transmit(packet(ADDRESSES[1], ADDRESSES[0])), -EHOSTUNREACH);
});

test('a closed link gives the port back with the last peer', () => {
  const [server, client] = connected();
  const { port } = server.interface;
  server.link.close();
  assert.ok(server.isEmpty);
  assert.ok(!client.isEmpty);
  server.link.close();
  const next = bench.side(0, 0);
  assert.notEqual(next.interface.port, 0);
  assert.ok(port > 0);
});
