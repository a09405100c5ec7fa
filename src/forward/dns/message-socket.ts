/**
 * DNS messages over a stream socket, each behind two bytes that say its length (RFC 1035 §4.2.2, RFC 7766 §8). They come in
 * any pieces. What the other end does not take waits here; who sends looks at `backlog`.
 */

import type { IoHandler } from '../../loop.ts';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../sys/epoll.ts';
import { EAGAIN, EINTR } from '../../sys/errno.ts';
import { recv, send } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { HostDescriptor } from '../host/descriptor.ts';
import { SLOT_SIZE } from '../udp/batch.ts';

const LENGTH_BYTES = 2;
const READS_PER_TURN = 8;
const NOTHING = Buffer.alloc(0);

export interface MessageOwner {
  /** A whole message, without its length; it is the owner's. */
  onMessage(socket: DnsMessageSocket, message: Buffer): void;
  /** What waited has left. */
  onDrained(socket: DnsMessageSocket): void;
  /** The other end will send no more, but may still listen; closed (`fd` -1): it is gone. */
  onEnd(socket: DnsMessageSocket): void;
}

export class DnsMessageSocket extends HostDescriptor implements IoHandler {
  waiting = false;
  /** Nothing is read: the owner has enough to do. */
  #paused = false;
  readonly #owner: MessageOwner;
  /** Bytes of a length that came so far, and their value. */
  #lengthBytes = 0;
  #length = 0;
  /** The message that is coming, and how much of it is there. */
  #message: Buffer = NOTHING;
  #filled = 0;
  readonly #out: Buffer[] = [];
  #backlog = 0;
  /** Not connected yet, or the socket said EAGAIN. */
  #blocked = true;

  constructor(context: FlowContext, owner: MessageOwner) {
    super(context, DescriptorUse.Dns);
    this.#owner = owner;
  }

  /** Take over `fd`, connected or connecting; 0, or `-errno` and it is closed. */
  attach(fd: number): number {
    return this.hold(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, this);
  }

  /** Bytes that wait to be taken. */
  get backlog(): number {
    return this.#backlog;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.context.poller.ready(this);
  }

  send(message: Uint8Array): void {
    const framed = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
    framed.writeUInt16BE(message.length, 0);
    framed.set(message, LENGTH_BYTES);
    this.#out.push(framed);
    this.#backlog += framed.length;
    if (!this.#blocked) this.#write();
  }

  onIo(events: number): void {
    if (this.fd < 0) return;
    if ((events & EPOLLOUT) !== 0) {
      this.#blocked = false;
      this.#write();
    }
    const { memory, scratch, slab, poller } = this.context;
    const at = scratch.payloads;
    for (let i = 0; i < READS_PER_TURN; i++) {
      if (this.#paused || this.fd < 0) return;
      const n = recv(memory, this.fd, at, SLOT_SIZE);
      if (n === -EAGAIN) return;
      if (n === -EINTR) continue;
      if (n <= 0) {
        this.#paused = true;
        if (n < 0) this.close();
        this.#owner.onEnd(this);
        return;
      }
      // A copy: whoever gets a message sends others by way of the scratch.
      this.#take(Buffer.from(slab.bytes.subarray(at, at + n)));
    }
    poller.ready(this);
  }

  /** `bytes` came. */
  #take(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length && this.fd >= 0) {
      if (this.#lengthBytes < LENGTH_BYTES) {
        this.#length = (this.#length << 8) | (bytes[at++] as number);
        if (++this.#lengthBytes < LENGTH_BYTES) continue;
        this.#message = Buffer.allocUnsafe(this.#length);
        this.#filled = 0;
      }
      const n = bytes.copy(this.#message, this.#filled, at);
      at += n;
      this.#filled += n;
      if (this.#filled < this.#length) return;
      this.#lengthBytes = 0;
      this.#length = 0;
      const message = this.#message;
      this.#message = NOTHING;
      this.#owner.onMessage(this, message);
    }
  }

  #write(): void {
    const { memory, scratch, slab } = this.context;
    for (let first = this.#out[0]; first !== undefined; first = this.#out[0]) {
      const piece = first.subarray(0, SLOT_SIZE);
      slab.bytes.set(piece, scratch.payloads);
      const n = send(memory, this.fd, scratch.payloads, piece.length);
      if (n === -EINTR) continue;
      if (n === -EAGAIN) {
        this.#blocked = true;
        return;
      }
      if (n < 0) {
        this.close();
        this.#owner.onEnd(this);
        return;
      }
      this.#backlog -= n;
      if (n === first.length) this.#out.shift();
      else this.#out[0] = first.subarray(n);
    }
    this.#owner.onDrained(this);
  }
}
