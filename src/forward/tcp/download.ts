/**
 * Bytes of a TCP flow from the host to the guest: read straight into the pages of its connection, as far as the guest's
 * window and twice the congestion window reach and a little beyond, and kept there until the guest acknowledges them. A
 * full window stops the reading; an acknowledgment starts it again.
 *
 * All flows share the bytes of a turn (`Clock.bytesLeft`). One that is cut short asks for another turn.
 */

import type { IoHandler } from '../../loop.ts';
import { Parts } from '../../stack/buffer/byte-queue.ts';
import { PAGE_SIZE } from '../../stack/buffer/slab.ts';
import type { TcpConnection } from '../../stack/tcp/connection.ts';
import { EAGAIN } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { END_OF_FILE, type FlowRecord, Half } from '../flow/record.ts';
import type { TcpHostSocket } from './host-socket.ts';

/** Share of packet memory (one part in so many) that is never filled with bytes from the host, and when to try again. */
const MEMORY_RESERVE = 16;
const MEMORY_RETRY_MS = 20;
/** The same for a flow whose guest has shut its window: readers must find room however many do not read. */
const SHUT_RESERVE = 4;
const SHUT_RETRY_MS = 1000;
/** Bytes read ahead of the guest's window, so that an acknowledgment finds something to send. */
const READ_AHEAD = 65536;
/** Frames' worth of host bytes read at once. */
const READ_UNITS = 4;
/** And no less, where frames are small: a call costs as much as reading 30 of them. */
const READ_LEAST = 128 * 1024;
/** Pieces per read: 256 KiB over 16 KiB pages, plus one for the offset. */
const READ_PARTS = 17;

/** Filled and used within one call; shared by all flows. */
const room = new Parts(READ_PARTS);

export interface TcpDownloadOwner extends IoHandler {
  /** Send what there is to send. */
  flush(): void;
  /** Cut the flow. */
  abort(): void;
  /** Packet memory is short, and this flow has to wait. */
  makeRoom(): void;
}

export class TcpDownload {
  readonly #owner: TcpDownloadOwner;
  readonly #context: FlowContext;
  readonly #connection: TcpConnection;
  readonly #socket: TcpHostSocket;
  readonly #record: FlowRecord;
  /** What the last read of the host socket gave: small messages need no more than a page made ready. */
  #lastRead = 0;
  /** When to try again, for want of packet memory. */
  retryAt: number = Number.POSITIVE_INFINITY;

  constructor(
    owner: TcpDownloadOwner,
    context: FlowContext,
    connection: TcpConnection,
    socket: TcpHostSocket,
    record: FlowRecord,
  ) {
    this.#owner = owner;
    this.#context = context;
    this.#connection = connection;
    this.#socket = socket;
    this.#record = record;
  }

  /** Read as far as the window and this turn allow. */
  pump(): void {
    const c = this.#connection;
    const socket = this.#socket;
    if (socket.eof) return;
    const { clock, poller, pages } = this.#context;
    while (socket.readable) {
      const wanted = c.wanted(READ_AHEAD);
      // The guest takes nothing at the moment: its acknowledgment brings us back here.
      if (wanted <= 0) return;
      // A flow of small messages does not wait for the turns of those with many bytes.
      if (clock.bytesLeft <= 0 && this.#lastRead >= PAGE_SIZE) {
        poller.ready(this.#owner);
        return;
      }
      // What is read in one go leaves in one go: no short segment at the end of each read.
      const unit = this.#lastRead < PAGE_SIZE ? PAGE_SIZE : Math.max(READ_UNITS * c.transmitUnit, READ_LEAST);
      // The last pages are for bytes from guests: they complete what is held already, and so free memory.
      const shut = c.snd.wnd === 0;
      const scarce =
        pages.pagesUsed >= pages.pageCount - pages.pageCount / (shut ? SHUT_RESERVE : MEMORY_RESERVE);
      if (scarce) this.#owner.makeRoom();
      const reserved = scarce ? 0 : c.snd.queue.reserve(Math.min(wanted, unit), room);
      if (reserved === 0) {
        this.retryAt = clock.nowMs + (shut ? SHUT_RETRY_MS : MEMORY_RETRY_MS);
        return;
      }
      const n = socket.read(room, reserved);
      c.snd.queue.commit(Math.max(n, 0));
      if (n > 0) {
        clock.bytesLeft -= n;
        this.#record.bytesIn += n;
        this.#lastRead = n;
        // A host that hung up has little left, and its FIN goes with the last of it.
        if (!socket.hungUp || n === reserved) this.#owner.flush();
        // Over.
        if (socket.fd < 0) return;
      } else if (n === 0) {
        this.#record.ended(Half.HostRead, END_OF_FILE);
        c.closeSend();
      } else if (n !== -EAGAIN) {
        this.#record.ended(Half.HostRead, -n);
        this.#owner.abort();
        return;
      }
    }
  }
}
