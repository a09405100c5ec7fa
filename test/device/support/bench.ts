/** A link on real descriptors, in a real loop, with a guest that takes what comes. */
import assert from 'node:assert/strict';
import {
  BATCH_FRAMES,
  type DeviceLink,
  type EndReason,
  type LinkOwner,
  type LinkServices,
  type PeerEvent,
  RxFrame,
} from '../../../src/device/device-link.ts';
import { FrameIo } from '../../../src/device/frame-io.ts';
import { SocketLink } from '../../../src/device/socket-link.ts';
import { TapLink } from '../../../src/device/tap-link.ts';
import { EventLoop } from '../../../src/engine/event-loop.ts';
import { Slab } from '../../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../../src/stack/link/link.ts';
import { EAGAIN } from '../../../src/sys/errno.ts';
import { close, read, write } from '../../../src/sys/io.ts';
import { Memory } from '../../../src/sys/memory.ts';
import { AF_UNIX, socketpair } from '../../../src/sys/socket.ts';

const FIXED_BYTES: number = 8 * 1024 * 1024;
export const FRAME = 1514;

/** A pair of sockets, one of them the link's, and a guest that takes what comes. */
export class Bench implements LinkOwner {
  readonly slab: Slab = new Slab(FIXED_BYTES, 128);
  readonly memory: Memory = new Memory(this.slab.buffer as ArrayBuffer);
  readonly errors: unknown[] = [];
  /** What the loop takes for the time. */
  now = 1000;
  readonly loop: EventLoop = new EventLoop(
    this.memory,
    this.slab,
    (error) => this.errors.push(error),
    () => this.now,
  );
  readonly services: LinkServices = {
    memory: this.memory,
    poller: this.loop,
    timers: this.loop.timers,
    clock: this.loop.clock,
    frames: new FrameIo(this.slab, this.memory),
    touched: () => {
      this.touches++;
    },
    onPeer: (event) => this.peers.push(event),
    log: (_, message) => this.logs.push(message),
  };
  readonly logs: string[] = [];
  readonly peers: PeerEvent[] = [];
  /** How often the link asked to be flushed. */
  touches = 0;
  /** Frames that the guest takes of a batch. */
  mostTaken: number = BATCH_FRAMES;
  /** What came, frame by frame, and what each `onFrames` found. */
  readonly frames: Buffer[] = [];
  readonly results: number[][] = [];
  gone = '';
  /** Frames that were taken and could not be sent. */
  unsent = 0;
  reason = '';
  /** The link's descriptor, and the peer's. */
  readonly fd: number;
  readonly peer: number;
  readonly at: number = this.slab.region(70_000);
  link: DeviceLink | null = null;
  /** Why it was down, and who was there. */
  readonly downs: string[] = [];
  readonly ups: string[] = [];
  /** After the first frame of a batch. */
  onFirst: () => void = () => {};
  readonly received: RxFrame = new RxFrame();

  constructor(type: number) {
    assert.equal(socketpair(this.memory, AF_UNIX, type, this.at), 0);
    this.fd = this.memory.view.getInt32(this.at, true);
    this.peer = this.memory.view.getInt32(this.at + 4, true);
  }

  socket(endsWithPeer: boolean): SocketLink {
    const link = new SocketLink(
      this.fd,
      { medium: 'ethernet', mtu: 1500, endsWithPeer, probe: false },
      this.services,
    );
    this.link = link;
    assert.equal(link.open(this), 0);
    return link;
  }

  tap(vnetHeader: boolean): TapLink {
    const offloads = { checksumOffload: true, tso: true, uso: true };
    const link = new TapLink(
      this.fd,
      { medium: 'ethernet', mtu: 1500, vnetHeader, ...offloads },
      this.services,
    );
    this.link = link;
    assert.equal(link.open(this), 0);
    return link;
  }

  onFrames(): void {
    const results: number[] = [];
    this.results.push(results);
    for (let index = 0; index < this.mostTaken; index++) {
      const result = this.link?.receive(index, this.received) ?? 0;
      results.push(result);
      if (result === 0) break;
      if (result > 0) {
        const { offset, length } = this.received;
        this.frames.push(Buffer.from(this.slab.bytes.subarray(offset, offset + length)));
      }
      if (index === 0) this.onFirst();
    }
  }

  onMtu(): void {
    assert.fail('the MTU is what it was');
  }

  onUnsent(frames: number): void {
    this.unsent += frames;
  }

  onGone(reason: EndReason, text: string): void {
    this.reason = reason;
    this.gone = text;
    this.link?.close();
  }

  onDown(reason: EndReason): void {
    this.downs.push(reason);
  }

  onUp(peer: string): void {
    this.ups.push(peer);
  }

  /** Open any link. */
  use<L extends DeviceLink>(link: L): L {
    this.link = link;
    assert.equal(link.open(this), 0);
    return link;
  }

  /** A turn that waits for nothing; how many events there were. */
  turn(): number {
    this.loop.ready({ waiting: false, onIo: () => {} });
    const events = this.loop.turn() - 1;
    this.link?.flush();
    assert.deepEqual(this.errors, []);
    return events;
  }

  /** From the peer. */
  put(bytes: Buffer): void {
    this.slab.bytes.set(bytes, this.at);
    assert.equal(write(this.memory, this.peer, this.at, bytes.length), bytes.length);
  }

  /** At the peer; null: there is nothing. */
  get(most: number = 70_000): Buffer | null {
    const n = read(this.memory, this.peer, this.at, most);
    if (n === -EAGAIN) return null;
    assert.ok(n >= 0);
    return Buffer.from(this.slab.bytes.subarray(this.at, this.at + n));
  }

  /** Send a frame whose first bytes are `number`. */
  transmit(number: number, length: number = FRAME): number {
    const frame = new TxFrame();
    frame.headOffset = this.at + 64;
    frame.headLength = 54;
    frame.parts.add(this.at + 256, length - 54);
    frame.payloadLength = length - 54;
    this.slab.view.setUint32(frame.headOffset, number);
    return this.link?.transmit(frame) ?? -1;
  }

  /** Turns until `condition` holds. */
  until(condition: () => boolean, what: string): void {
    for (let i = 0; i < 1000; i++) {
      if (condition()) return;
      this.turn();
    }
    assert.fail(`${what}: not after 1000 turns`);
  }

  /** For those who have many. */
  closeLoop(): void {
    this.loop.close();
  }

  end(): void {
    this.link?.close();
    close(this.peer);
  }
}
