/**
 * Queries on their way to the resolvers: those of a batch of frames that go by the same socket leave in one call, from
 * where they lie in the frames. What is in the box is borrowed until `flush`, and so is the scratch that names it.
 */
import { EAGAIN, EINTR, ENOBUFS } from '../../sys/errno.ts';
import { MMSGHDR_SIZE, send, sendmmsg } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { MAX_DATAGRAMS_OUT } from '../flow/scratch.ts';
import { isPendingError } from '../host/datagram-socket.ts';
import type { DnsSocket } from './sockets.ts';

export interface OutboxOwner {
  readonly context: FlowContext;
  /** The newest `count` queries of `socket` could not be sent. */
  onUnsent(socket: DnsSocket, count: number): void;
  /** The resolver refused what was sent by `socket`, but for the newest `but` queries. */
  onRefused(socket: DnsSocket, but: number): void;
}

export class DnsOutbox {
  readonly #owner: OutboxOwner;
  #socket: DnsSocket | null = null;
  #count = 0;
  /** The datagram added last. */
  #offset = 0;
  #length = 0;

  constructor(owner: OutboxOwner) {
    this.#owner = owner;
  }

  /** Send the `length` bytes at `offset` by `socket`, whose newest query it is. */
  add(socket: DnsSocket, offset: number, length: number): void {
    if (this.#socket !== socket || this.#count === MAX_DATAGRAMS_OUT) this.flush();
    this.#socket = socket;
    this.#offset = offset;
    this.#length = length;
    const { memory, scratch } = this.#owner.context;
    memory.putIovec(scratch.outIovecs, this.#count++, offset, length);
  }

  flush(): void {
    const socket = this.#socket;
    if (socket === null) return;
    const count = this.#count;
    this.#socket = null;
    this.#count = 0;
    let sent = 0;
    let wasRefused = false;
    while (sent < count) {
      const n = this.#send(socket, sent, count);
      if (n > 0) {
        sent += n;
      } else if (isPendingError(n) && !wasRefused) {
        // Said of earlier ones, and now it is off the socket.
        wasRefused = true;
      } else if (n !== -EINTR) {
        // A full queue of the host drops, as any router does.
        if (n !== -EAGAIN && n !== -ENOBUFS) this.#owner.onUnsent(socket, count - sent);
        break;
      }
    }
    if (wasRefused) this.#owner.onRefused(socket, sent);
  }

  /** How many of them left, or `-errno`. */
  #send(socket: DnsSocket, sent: number, count: number): number {
    const { memory, scratch } = this.#owner.context;
    if (count > 1) return sendmmsg(memory, socket.fd, scratch.outHeaders + sent * MMSGHDR_SIZE, count - sent);
    const n = send(memory, socket.fd, this.#offset, this.#length);
    return n < 0 ? n : 1;
  }
}
