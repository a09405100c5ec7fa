/**
 * Bytes of a TCP flow from the guest to the host.
 *
 * In-order payload is gathered where it lies in the frames of a batch and written at the end of the batch, or when there
 * is enough of it: fewer calls, and fewer wake-ups of the reader. What the host socket does not take is copied into
 * the connection's queue, which closes the guest's window by itself, and passed on when the socket has room. The guest's FIN follows
 * the last byte.
 */
import { Parts } from '../../stack/buffer/byte-queue.ts';
import type { TcpConnection } from '../../stack/tcp/connection.ts';
import { EAGAIN } from '../../sys/errno.ts';
import type { FlowRecord } from '../flow/record.ts';
import type { TcpHostSocket } from './host-socket.ts';
import type { SpareParts } from './spare-parts.ts';

/** Frames gathered at most, and their bytes. */
export const GATHER_PARTS = 64;
const GATHER_BYTES = 256 * 1024;
/** Bytes written at once of what is kept, and pieces over its pages of 16 KiB, plus one for the offset. */
const DRAIN_BYTES = 256 * 1024;
const DRAIN_PARTS = 17;

/** Filled and used within one call; shared by all flows. */
const waiting = new Parts(DRAIN_PARTS);

export interface TcpUploadOwner {
  /** The host socket refuses bytes, with `-errno`: the flow goes on without them, or is over. */
  hostFailed(error: number): void;
  /** Cut the flow. */
  abort(): void;
}

export class TcpUpload {
  readonly #owner: TcpUploadOwner;
  readonly #connection: TcpConnection;
  readonly #socket: TcpHostSocket;
  readonly #record: FlowRecord;
  readonly #spareParts: SpareParts;
  /** Pieces of the frames of this batch, in order, on their way to the host; null = none. */
  #gathered: Parts | null = null;
  #gatheredBytes = 0;
  #finPassedOn = false;

  constructor(
    owner: TcpUploadOwner,
    connection: TcpConnection,
    socket: TcpHostSocket,
    record: FlowRecord,
    spareParts: SpareParts,
  ) {
    this.#owner = owner;
    this.#connection = connection;
    this.#socket = socket;
    this.#record = record;
    this.#spareParts = spareParts;
  }

  get isGathering(): boolean {
    return this.#gathered !== null;
  }

  /** Put guest bytes on the list for the host; how many were taken (all or none). */
  gather(offset: number, length: number): number {
    if (this.#socket.broken) return length;
    if (!this.#socket.writable) return 0;
    this.#gathered ??= this.#spareParts.borrow();
    this.#gathered.add(offset, length);
    this.#gatheredBytes += length;
    if (this.#gatheredBytes >= GATHER_BYTES || this.#gathered.count === GATHER_PARTS) this.writeGathered();
    return length;
  }

  /** Write what was gathered. What the host does not take is kept by the connection, which has nothing readable yet. */
  writeGathered(): void {
    const parts = this.#gathered;
    if (parts === null) return;
    const total = this.#gatheredBytes;
    this.#gathered = null;
    this.#gatheredBytes = 0;
    const n = this.#socket.write(parts, total);
    if (n > 0) this.#record.bytesOut += n;
    if (n >= 0 || n === -EAGAIN) this.#keep(parts, Math.max(n, 0));
    else this.#owner.hostFailed(n);
    this.#spareParts.giveBack(parts);
  }

  /** Forget what was gathered: the flow is over. */
  drop(): void {
    const parts = this.#gathered;
    if (parts === null) return;
    this.#gathered = null;
    this.#gatheredBytes = 0;
    this.#spareParts.giveBack(parts);
  }

  /** Pass on what is kept, as far as the host takes it. */
  drain(): void {
    const c = this.#connection;
    const socket = this.#socket;
    while (c.rcv.queue.readable > 0 && socket.writable && !socket.broken) {
      const offered = c.rcv.queue.peek(DRAIN_BYTES, waiting);
      const n = socket.write(waiting, offered);
      if (n > 0) {
        this.#record.bytesOut += n;
        c.consume(n);
      } else if (n < 0 && n !== -EAGAIN) {
        this.#owner.hostFailed(n);
      }
    }
    if (socket.broken && c.rcv.queue.readable > 0) c.consume(c.rcv.queue.readable);
    this.passFinOn();
  }

  /** FIN for the host, once it has all bytes of the guest. */
  passFinOn(): void {
    const c = this.#connection;
    const socket = this.#socket;
    if (!c.rcv.finReceived || this.#finPassedOn) return;
    this.writeGathered();
    if (socket.fd < 0 || c.rcv.queue.readable > 0) return;
    this.#finPassedOn = true;
    // When both sides are done close(2) follows at once, and says the same. FINs that cross (CLOSING) are not that far.
    if (!socket.broken && c.timeWait === null) socket.endWriting();
  }

  /** Let the connection keep what lies behind the first `taken` bytes of `parts`. */
  #keep(parts: Parts, taken: number): void {
    const c = this.#connection;
    let skip = taken;
    for (let i = 0; i < parts.count; i++) {
      const length = parts.length[i] as number;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      if (!c.keepDelivered((parts.offset[i] as number) + skip, length - skip)) {
        let lost = -skip;
        for (; i < parts.count; i++) lost += parts.length[i] as number;
        // A FIN behind them was taken already, and cannot be given back.
        if (c.rcv.finReceived) this.#owner.abort();
        else c.giveBackDelivered(lost);
        return;
      }
      skip = 0;
    }
  }
}
