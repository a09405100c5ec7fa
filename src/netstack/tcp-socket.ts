/**
 * A TCP connection of a stack, as a program uses it: bytes in and out, an end of each direction, and a close with its
 * reason. Everything that it calls is called when the stack is at rest, so that it may call the stack.
 */
import { TimerNode } from '../loop.ts';
import { Parts } from '../stack/buffer/byte-queue.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { TcpConnection } from '../stack/tcp/connection.ts';
import {
  EV_CLOSED,
  EV_DELIVER,
  EV_ESTABLISHED,
  EV_FIN,
  EV_READABLE,
  EV_RESET,
  type TcpEnvironment,
  TcpSegmentOut,
} from '../stack/tcp/owner.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import type { TcpHeader } from '../stack/wire/tcp.ts';

/**
 * Why a connection is over: both directions have ended; the other end has reset it, refused it or not answered; an ICMP
 * error said that there is no way; or this program has aborted it.
 */
export type TcpCloseReason = 'ended' | 'reset' | 'refused' | 'timeout' | 'unreachable' | 'aborted';

/** Somebody wants to connect. It is answered once, now or later; meanwhile the other end waits. */
export interface ConnectionRequest {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** The connection opens: set the handlers before returning to the loop. */
  accept(): TcpSocket;
  refuse(): void;
}

/** What a socket needs of its stack. */
export interface SocketOwner {
  readonly slab: Slab;
  readonly environment: TcpEnvironment;
  readonly nowMs: number;
  /** It has something to do when the frames that are there have been looked at. */
  touch(socket: TcpSocket): void;
  /** The program has done something from outside. */
  wake(): void;
  /** Its deadline may be earlier. */
  reschedule(socket: TcpSocket): void;
  transmit(socket: TcpSocket, segment: TcpSegmentOut): void;
  /** To be called when the stack is at rest. */
  later(call: () => void): void;
  /** It is over, but for TIME-WAIT. */
  ended(socket: TcpSocket): void;
}

/** A chunk that is read at once. */
const CHUNK = 65536;
/** How long to wait for packet memory, in ms. */
const MEMORY_RETRY_MS = 50;

const segment = new TcpSegmentOut();
const parts = new Parts(8);

export class TcpSocket extends TimerNode {
  /** It is open: bytes can be written. */
  onOpen: (() => void) | null = null;
  /** Bytes have come, in order; they are the program's to keep. Without a handler they wait, and the other end with them. */
  onData: ((bytes: Uint8Array) => void) | null = null;
  /** The other end has no more to send. */
  onEnd: (() => void) | null = null;
  /** `write` had taken less than it was given, and would take more now. */
  onDrain: (() => void) | null = null;
  /** Called once, last of all. */
  onClose: ((reason: TcpCloseReason) => void) | null = null;

  /** @internal Key in the stack's table; `guest` is the other end. */
  readonly guest: IpAddress;
  /** @internal */
  readonly remote: IpAddress;
  /** @internal */
  readonly ports: number;
  /** @internal */
  keyHash = 0;
  /** @internal */
  readonly connection: TcpConnection;
  /** @internal */
  touched = false;
  readonly #owner: SocketOwner;
  #paused = false;
  #open = false;
  #over = false;
  #endTold = false;
  #wantsDrain = false;
  #retryAt: number = Number.POSITIVE_INFINITY;

  /** @internal */
  constructor(owner: SocketOwner, peer: IpAddress, own: IpAddress, ports: number) {
    super();
    this.#owner = owner;
    this.guest = peer.clone();
    this.remote = own.clone();
    this.ports = ports;
    this.connection = new TcpConnection(owner.environment, peer.isV4);
  }

  get localAddress(): string {
    return this.remote.toString();
  }

  get localPort(): number {
    return this.ports & 0xffff;
  }

  get remoteAddress(): string {
    return this.guest.toString();
  }

  get remotePort(): number {
    return this.ports >>> 16;
  }

  /** As RFC 9293 names it, e.g. `ESTABLISHED`. */
  get state(): string {
    return this.connection.stateName;
  }

  /** It was closed, and `onClose` is or will be called. */
  get isOver(): boolean {
    return this.#over;
  }

  get isOpen(): boolean {
    return this.#open && !this.#over;
  }

  /** Send bytes: how many of them were taken, 0 before it is open. If not all, `onDrain` tells when to go on. */
  write(bytes: Uint8Array): number {
    if (!this.isOpen) {
      this.#wantsDrain = !this.#over;
      return 0;
    }
    const { slab, environment } = this.#owner;
    const { queue } = this.connection.snd;
    const room = Math.min(bytes.length, this.connection.wanted(environment.sendLimit));
    let taken = 0;
    while (taken < room) {
      const found = queue.reserve(room - taken, parts);
      if (found === 0) {
        this.#retryAt = this.#owner.nowMs + MEMORY_RETRY_MS;
        break;
      }
      for (let i = 0; i < parts.count; i++) {
        const length = parts.length[i] as number;
        slab.bytes.set(bytes.subarray(taken, taken + length), parts.offset[i] as number);
        taken += length;
      }
      queue.commit(found);
    }
    this.#wantsDrain = taken < bytes.length;
    this.#wake();
    return taken;
  }

  /** There is no more to send. Bytes may still come. */
  end(): void {
    if (this.#over) return;
    this.connection.closeSend();
    this.#wake();
  }

  /** Reset the connection. */
  abort(): void {
    if (this.#over) return;
    this.connection.abort();
    this.flush();
    this.close('aborted');
    this.#owner.wake();
  }

  /** Leave what comes where it is: when there is enough of it, the other end has to wait. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  #wake(): void {
    this.#owner.touch(this);
    this.#owner.wake();
  }

  /** @internal A segment of it. */
  onSegment(h: TcpHeader, offset: number, length: number): number {
    const c = this.connection;
    let events = c.onSegment(h, offset, length, this.#owner.nowMs);
    if ((events & EV_DELIVER) !== 0) {
      const { deliverOffset, deliverLength } = c.rcv;
      const takes = !this.#over && this.#mayRead() && c.rcv.queue.readable === 0;
      if (takes) this.#deliver(this.#owner.slab.bytes.slice(deliverOffset, deliverOffset + deliverLength));
      events |= c.takeDelivered(takes ? deliverLength : 0);
    }
    this.react(events, 'reset');
    this.#owner.touch(this);
    return events;
  }

  /** @internal At the end of a batch: acknowledge, read, send. */
  settle(): void {
    this.touched = false;
    if (this.#over) return;
    this.connection.acknowledgeBatch();
    this.#read();
    this.flush();
    this.#drain();
  }

  /** @internal */
  onTimer(nowMs: number): void {
    if (nowMs >= this.#retryAt) this.#retryAt = Number.POSITIVE_INFINITY;
    this.react(this.connection.onTimeout(nowMs), 'timeout');
    this.#owner.touch(this);
  }

  /** @internal Send what there is to send. */
  flush(): void {
    const c = this.connection;
    while (c.pollTransmit(this.#owner.nowMs, segment)) this.#owner.transmit(this, segment);
    this.deadline = Math.min(c.nextTimeout, this.#retryAt);
    this.#owner.reschedule(this);
  }

  /** @internal */
  react(events: number, why: 'reset' | 'timeout'): void {
    if (events === 0 || this.#over) return;
    if ((events & EV_RESET) !== 0) {
      this.flush();
      this.close(!this.#open && why === 'reset' ? 'refused' : why);
      return;
    }
    if ((events & EV_ESTABLISHED) !== 0) {
      this.#open = true;
      this.connection.armKeepalive(this.#owner.nowMs);
      this.#owner.later(() => this.onOpen?.());
    }
    if ((events & (EV_READABLE | EV_FIN | EV_CLOSED)) !== 0) this.#read();
  }

  /** @internal It is over for the program. */
  close(reason: TcpCloseReason): void {
    if (this.#over) return;
    this.#over = true;
    this.deadline = Number.POSITIVE_INFINITY;
    this.connection.release();
    this.#owner.ended(this);
    this.#owner.later(() => this.onClose?.(reason));
  }

  #mayRead(): boolean {
    return !this.#paused && this.onData !== null;
  }

  #deliver(bytes: Uint8Array): void {
    this.#owner.later(() => this.onData?.(bytes));
  }

  /** Pass on what was kept, and then that there is no more. */
  #read(): void {
    const c = this.connection;
    const { queue } = c.rcv;
    while (queue.readable > 0 && this.#mayRead()) {
      const length = queue.peek(CHUNK, parts);
      const bytes = new Uint8Array(length);
      let at = 0;
      for (let i = 0; i < parts.count; i++) {
        const offset = parts.offset[i] as number;
        bytes.set(this.#owner.slab.bytes.subarray(offset, offset + (parts.length[i] as number)), at);
        at += parts.length[i] as number;
      }
      c.consume(length);
      this.#deliver(bytes);
    }
    if (queue.readable > 0) return;
    if (c.rcv.finReceived && !this.#endTold) {
      this.#endTold = true;
      this.#owner.later(() => this.onEnd?.());
    }
    if (!c.isOver) return;
    // The acknowledgment of the other end's FIN may still be due.
    this.flush();
    this.close('ended');
  }

  #drain(): void {
    const { sendLimit } = this.#owner.environment;
    if (!this.#wantsDrain || !this.isOpen || this.#retryAt !== Number.POSITIVE_INFINITY) return;
    if (this.connection.wanted(sendLimit) < sendLimit / 2) return;
    this.#wantsDrain = false;
    this.#owner.later(() => this.onDrain?.());
  }
}
