/** Peers of a plain tunnel in one loop, and somebody who sends bare datagrams to it, on sockets of the loopback interface. */
import assert from 'node:assert/strict';
import { type AddressPlan, defaultAddresses } from '../../../src/config.ts';
import { BATCH_FRAMES, type LinkServices, type PeerEvent, RxFrame } from '../../../src/device/device-link.ts';
import { FrameIo } from '../../../src/device/frame-io.ts';
import { TunnelInterface } from '../../../src/device/tunnel-interface.ts';
import type { TunnelLink } from '../../../src/device/tunnel-link.ts';
import type { TunnelDevice } from '../../../src/device-spec.ts';
import { EventLoop } from '../../../src/engine/event-loop.ts';
import { Slab } from '../../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../../src/stack/link/link.ts';
import { type IpAddress, parseIpAddress } from '../../../src/stack/wire/address.ts';
import { EAGAIN } from '../../../src/sys/errno.ts';
import { close } from '../../../src/sys/io.ts';
import { Memory } from '../../../src/sys/memory.ts';
import {
  AF_INET,
  bind,
  getsockname,
  putSockaddr4,
  recv,
  SOCK_DGRAM,
  sendto,
  socket,
} from '../../../src/sys/socket.ts';

const LOOPBACK = 0x7f000001;
export const PLAN: AddressPlan = { ...defaultAddresses, ipv6: false, gateway4: '10.1.3.254' };

export class TunnelBench {
  readonly slab: Slab = new Slab(8 * 1024 * 1024, 128);
  readonly memory: Memory = new Memory(this.slab.buffer as ArrayBuffer, 65_536);
  readonly errors: unknown[] = [];
  now = 1000;
  readonly loop: EventLoop = new EventLoop(
    this.memory,
    this.slab,
    (error) => this.errors.push(error),
    () => this.now,
  );
  readonly frames: FrameIo = new FrameIo(this.slab, this.memory);
  readonly at: number = this.slab.region(70_000);
  readonly senders: Sender[] = [];
  readonly guests: TunnelGuest[] = [];
  /** Addresses of the host, besides the loopback ones. */
  readonly hosts: string[] = ['192.0.2.1'];
  interface: TunnelInterface | null = null;
  isEmpty = false;

  /** One more peer, with these prefixes. */
  guest(prefixes: readonly string[], more: Partial<TunnelDevice> = {}): TunnelGuest {
    const spec: TunnelDevice = {
      ...{ kind: 'tunnel', local: { address: '127.0.0.1', port: 0 }, remote: null },
      ...{ keepaliveSeconds: 0, isExposed: false, mtu: 0 },
      prefixes: prefixes.map((text) => {
        const [address = '', bits = '32'] = text.split('/');
        return { address, bits: address.includes(':') ? Number(bits) : Number(bits) + 96 };
      }),
      ...more,
    };
    const isLocal = (address: IpAddress): boolean => this.hosts.includes(address.toString());
    const { memory, frames, loop } = this;
    this.interface ??= new TunnelInterface(
      { memory, frames, poller: loop, clock: loop.clock, hostRoutes: { isLocal } },
      spec,
      () => {
        this.isEmpty = true;
      },
    );
    const guest = new TunnelGuest(this, this.interface, spec);
    this.guests.push(guest);
    return guest;
  }

  sender(): Sender {
    const sender = new Sender(this);
    this.senders.push(sender);
    return sender;
  }

  get counts(): Record<string, number> {
    const gauges = Object.entries(this.interface?.gauges() ?? {});
    return Object.fromEntries(
      gauges.filter(([, count]) => count > 0).map(([name, count]) => [name.replace(/^tunnel\./, ''), count]),
    );
  }

  /** Turns that wait for nothing, until nothing is left to be done. */
  settle(): void {
    for (let i = 0; i < 3; i++) {
      this.loop.ready({ waiting: false, onIo: () => {} });
      this.loop.turn();
      for (const { link } of this.guests) link.flush();
    }
    assert.deepEqual(this.errors, []);
  }

  pass(ms: number): void {
    this.now += ms;
    this.settle();
  }

  end(): void {
    for (const { link } of this.guests) link.close();
    for (const { fd } of this.senders) close(fd);
    this.loop.close();
  }
}

/** Whoever is at the inner side of a link. */
export class TunnelGuest {
  readonly link: TunnelLink;
  readonly received: Buffer[] = [];
  readonly peers: PeerEvent[] = [];
  readonly mtus: number[] = [];
  readonly #bench: TunnelBench;
  readonly #frame = new RxFrame();

  constructor(bench: TunnelBench, tunnel: TunnelInterface, spec: TunnelDevice) {
    this.#bench = bench;
    const { memory, frames, loop } = bench;
    const services: LinkServices = {
      ...{ memory, frames, poller: loop, timers: loop.timers, clock: loop.clock },
      touched: () => undefined,
      onPeer: (event) => this.peers.push(event),
      log: () => undefined,
    };
    this.link = tunnel.join(services, spec, PLAN);
    assert.equal(
      this.link.open({
        onFrames: () => this.#take(),
        onMtu: () => this.mtus.push(this.link.mtu),
        onUnsent: () => assert.fail('everything can be sent'),
        onGone: () => assert.fail('gone'),
        onDown: () => assert.fail('down'),
        onUp: () => assert.fail('up'),
      }),
      0,
    );
  }

  transmit(bytes: Buffer): number {
    const { slab, at } = this.#bench;
    slab.bytes.set(bytes, at);
    const frame = new TxFrame();
    frame.headOffset = at;
    frame.headLength = Math.min(20, bytes.length);
    frame.payloadLength = bytes.length - frame.headLength;
    frame.parts.add(at + frame.headLength, frame.payloadLength);
    return this.link.transmit(frame);
  }

  #take(): void {
    for (let index = 0; index < BATCH_FRAMES; index++) {
      if (this.link.receive(index, this.#frame) === 0) return;
      const { offset, length } = this.#frame;
      this.received.push(Buffer.from(this.#bench.slab.bytes.subarray(offset, offset + length)));
    }
  }
}

/** The simplest client there is: IP packets in datagrams. */
export class Sender {
  readonly fd: number;
  readonly port: number;
  readonly #bench: TunnelBench;

  constructor(bench: TunnelBench) {
    this.#bench = bench;
    const { memory, at } = bench;
    this.fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert.equal(bind(memory, this.fd, at, putSockaddr4(memory, at, LOOPBACK, 0)), 0);
    getsockname(memory, this.fd, at);
    this.port = memory.view.getUint16(at + 2);
  }

  get place(): string {
    return `127.0.0.1:${this.port}`;
  }

  send(bytes: Buffer): void {
    const { slab, memory, at } = this.#bench;
    slab.bytes.set(bytes, at + 64);
    const length = putSockaddr4(memory, at, LOOPBACK, this.#bench.interface?.port ?? 0);
    assert.equal(sendto(memory, this.fd, at + 64, bytes.length, at, length), bytes.length);
    this.#bench.settle();
  }

  /** What has come, in order. */
  received(): Buffer[] {
    const { slab, memory, at } = this.#bench;
    const found: Buffer[] = [];
    for (;;) {
      const n = recv(memory, this.fd, at, 70_000);
      if (n === -EAGAIN) return found;
      assert.ok(n >= 0);
      found.push(Buffer.from(slab.bytes.subarray(at, at + n)));
    }
  }
}

/** An IPv6 packet of UDP. */
export function packet6(from: string, to: string, size: number): Buffer {
  const bytes = Buffer.alloc(40 + size, 0x5a);
  bytes.fill(0, 0, 40);
  bytes[0] = 0x60;
  bytes.writeUInt16BE(size, 4);
  bytes[6] = 17;
  bytes[7] = 64;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  parseIpAddress(from).write(view, 8);
  parseIpAddress(to).write(view, 24);
  return bytes;
}
