/**
 * One TCP flow: the guest's connection, ended in our stack, and a host socket that speaks for it.
 *
 * Theory of operation. Two connections that behave as one:
 *
 *   guest SYN → host connect succeeds → SYN-ACK; refused → RST; no route → ICMP
 *   host client (a local forward) → SYN to the guest; refused, unreachable or silent → the client is reset
 *   guest data → straight from the frame into the host socket; what it does not take waits in `rcvQueue`, which
 *     closes the guest's window by itself
 *   host data → read into `sndQueue` as far as the guest's window and twice the congestion window reach, sent from
 *     there, kept until acknowledged
 *   FIN ↔ shutdown, RST ↔ reset, in both directions, each half on its own
 *
 * Host events are edge-triggered: `hostReadable` and `hostWritable` remember an edge until the socket says EAGAIN.
 * A flow ends when both directions have ended, or at a reset; its manager (tcp-flows.ts) then forgets it.
 */

import { Parts } from '../stack/buffer/byte-queue.ts';
import { PAGE_SIZE } from '../stack/buffer/slab.ts';
import {
  EV_BAD_ACK,
  EV_CLOSED,
  EV_DELIVER,
  EV_ESTABLISHED,
  EV_FIN,
  EV_READABLE,
  EV_RESET,
  TcpConnection,
  type TcpEnvironment,
  TcpState,
  tcpStateNames,
} from '../stack/tcp/connection.ts';
import { onSegment } from '../stack/tcp/input.ts';
import { pollTransmit, TcpSegmentOut, transmitUnit } from '../stack/tcp/output.ts';
import {
  consumeReceived,
  giveBackDelivered,
  keepDelivered,
  settleAck,
  takeDelivered,
  windowLimit,
} from '../stack/tcp/receive.ts';
import { seqDiff } from '../stack/tcp/seq.ts';
import { armKeepalive, nextTimeout, onTimeout } from '../stack/tcp/timeout.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import { emitProxyHeader } from '../stack/wire/proxy-protocol.ts';
import type { TcpHeader } from '../stack/wire/tcp.ts';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../sys/epoll.ts';
import { EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, ETIMEDOUT } from '../sys/errno.ts';
import { close, readv, writev } from '../sys/io.ts';
import {
  getsockoptInt,
  IPPROTO_TCP,
  SHUT_WR,
  SO_ERROR,
  SOL_SOCKET,
  send,
  setLingerZero,
  setsockoptInt,
  shutdown,
  TCP_NODELAY,
} from '../sys/socket.ts';
import { type FlowContext, type IoHandler, TimerNode } from './context.ts';
import type { FlowEnds, FlowInfo } from './flow-info.ts';
import {
  END_OF_FILE,
  endpoint,
  FlowRecord,
  Half,
  type LocalForward,
  localEnd,
  remoteEnd,
  targetEnd,
} from './flow-record.ts';
import type { Keyed } from './flow-table.ts';
import type { LruNode } from './lru.ts';
import type { RemoteForward } from './remote-forwards.ts';
import { NOT_LISTED, type Uploader } from './window-share.ts';

/** Bytes one flow may move from its host socket in one turn, so that a heavy one cannot starve the others. */
const TURN_BYTES = 256 * 1024;
/** Share of packet memory (one part in so many) that is never filled with bytes from the host, and when to try again. */
const MEMORY_RESERVE = 16;
const MEMORY_RETRY_MS = 20;
/** Guest bytes gathered from the frames of a batch before they are written to the host: fewer calls and wake-ups. */
const GATHER_BYTES = 256 * 1024;
/** Frames gathered at most. */
export const GATHER_PARTS = 16;
/** Bytes read ahead of the guest's window, so that an acknowledgment finds something to send. */
const READ_AHEAD = 65536;
/** Frames' worth of host bytes read at once. */
const READ_UNITS = 4;
/** Pieces per read or write of the host socket: 256 KiB over 16 KiB pages, plus one for the offset. */
const IO_PARTS = 17;

/** Where a flow reports to. */
export interface TcpFlowOwner {
  readonly context: FlowContext;
  /** The flow has something to send at the end of the batch. */
  touch(flow: TcpFlow): void;
  /** The connect is over, one way or the other: the host's, or for a local forward the guest's. */
  dialEnded(flow: TcpFlow): void;
  /** Connecting failed with `-errno`: tell the guest. The flow is ended afterwards. */
  refuse(flow: TcpFlow, error: number): void;
  /** The host has answered and the guest has not yet: a handshake that it may never complete. */
  halfOpen(flow: TcpFlow): void;
  halfOpenEnded(flow: TcpFlow): void;
  /** Packet memory is short, and this flow has to wait. */
  makeRoom(): void;
  /** Both sides are done, or the flow was cut: forget it. */
  ended(flow: TcpFlow): void;
  /** A list of pieces for gathering, on loan until given back. */
  borrowParts(): Parts;
  giveBackParts(parts: Parts): void;
}

/** Filled and used within one call; shared by all flows. */
const segment = new TcpSegmentOut();
const ioParts = new Parts(IO_PARTS);

export class TcpFlow extends TimerNode implements IoHandler, Keyed, LruNode, Uploader {
  readonly guest: IpAddress;
  readonly remote: IpAddress;
  readonly ports: number;
  keyHash = 0;
  /** Place among the half-open flows. */
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  #isHalfOpen = false;
  readonly record: FlowRecord;
  /** Question for the target's address, -1 = none. */
  nameRequest = -1;
  readonly connection: TcpConnection;
  readonly #owner: TcpFlowOwner;
  waiting = false;
  #fd = -1;
  #token = -1;
  dialing = false;
  /** In the owner's list of flows to look at when the batch ends. */
  touched = false;
  /** Bytes of the guest in this batch of frames. */
  burst = 0;
  burstAt: number = NOT_LISTED;
  over = false;
  #hostReadable = false;
  #hostWritable = true;
  /** The host said end of file. */
  #hostEof = false;
  /** The host hung up in its sending direction at least: read to the end without waiting for another edge. */
  #hostHungUp = false;
  /** The host takes no more bytes, but what it sent before is still on its way to the guest. */
  #hostBroken = false;
  /** Pieces of the frames of this batch, in order, on their way to the host; null = none. */
  #gathered: Parts | null = null;
  #gatheredBytes = 0;
  #guestFin = false;
  #hostShut = false;
  /** TCP_NODELAY is set before the second write; the first is never held back (RFC 9293 §3.7.4). */
  #writes = 0;
  /** What the last read of the host socket gave: small messages need no more than a page made ready. */
  #lastRead = 0;
  /** When to try again to read from the host, for want of packet memory. */
  #retryAt = Number.POSITIVE_INFINITY;

  constructor(
    owner: TcpFlowOwner,
    environment: TcpEnvironment,
    guest: IpAddress,
    remote: IpAddress,
    ports: number,
    forward: LocalForward | RemoteForward | null,
  ) {
    super();
    this.#owner = owner;
    this.guest = guest.clone();
    this.remote = remote.clone();
    this.ports = ports;
    this.record = new FlowRecord(owner.context, 'tcp', forward);
    this.connection = new TcpConnection(environment, guest.isV4);
  }

  get guestPort(): number {
    return this.ports >>> 16;
  }

  get remotePort(): number {
    return this.ports & 0xffff;
  }

  /**
   * Take over the host socket `fd`, which is connecting, or is the client of a local forward; 0 or `-errno`, and then
   * it is closed.
   */
  attach(fd: number): number {
    const { poller, descriptors } = this.#owner.context;
    const token = poller.add(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this);
    if (token < 0) {
      close(fd);
      return token;
    }
    descriptors.used++;
    this.#fd = fd;
    this.#token = token;
    return 0;
  }

  /** A segment of this flow from the guest. Payload at `offset`, borrowed. Returns events that need the packet. */
  onSegment(h: TcpHeader, offset: number, length: number): number {
    const c = this.connection;
    const now = this.#owner.context.clock.nowMs;
    // Anything but the next bytes in line may touch `rcvQueue`: what was gathered comes before that.
    if (this.#gathered !== null && h.seq !== c.rcvNxt) this.#writeGathered();
    if (this.over) return 0;
    let events = onSegment(c, h, offset, length, now);
    if ((events & EV_DELIVER) !== 0) {
      const taken = this.#gather(c.deliverOffset, c.deliverLength);
      events |= takeDelivered(c, taken, now);
    }
    this.#react(events);
    if (!this.over) {
      // A guest that fills its window must not wait for the end of the batch.
      if (seqDiff(c.rcvNxt, c.lastAckSent) * 4 >= windowLimit(c)) {
        this.#writeGathered();
        if (this.over) return 0;
        c.ackNow = true;
        this.flush();
      } else {
        this.#owner.touch(this);
      }
    }
    return events & EV_BAD_ACK;
  }

  /** The bytes of the last segment lie where the next one's may: they cannot wait for the end of the batch. */
  endGathering(): void {
    this.#writeGathered();
  }

  /** End of the batch: acknowledge and send. */
  settle(): void {
    this.touched = false;
    this.#writeGathered();
    if (this.over) return;
    settleAck(this.connection);
    if (this.#hostReadable) this.#pump();
    this.flush();
    // The host is gone, and the guest has all it had sent: nothing holds the other half any more (T-20).
    const c = this.connection;
    if (this.#hostBroken && !this.over && c.finSent && c.flight === 0) this.abort();
  }

  onIo(events: number): void {
    if (this.over) return;
    if (this.dialing) {
      if (!this.record.isLocal) {
        this.#onDialed(events);
        return;
      }
      // The client does not wait any more. One that only has no more to say (EPOLLRDHUP) still does.
      if ((events & EPOLLERR) !== 0) {
        this.abort();
        return;
      }
    }
    // A reset behind the host's end, which no read shows any more: nobody is there to hear the guest (T-20).
    if ((events & EPOLLERR) !== 0 && this.#hostEof && !this.#hostBroken) {
      if (!this.#hostFailed(-ECONNRESET)) return;
      this.#drain();
      if (this.over) return;
    }
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#hostHungUp = true;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#hostReadable = true;
    if ((events & EPOLLOUT) !== 0 && !this.#hostWritable) {
      this.#hostWritable = true;
      this.#drain();
      if (this.over) return;
    }
    if (this.#hostReadable) this.#pump();
    this.flush();
  }

  onTimer(nowMs: number): void {
    if (this.over) return;
    // Our SYN goes out again: the guest may still be unknown.
    if (this.dialing && this.record.isLocal) this.#owner.context.solicitor.solicit(this.guest);
    const events = onTimeout(this.connection, nowMs);
    if ((events & EV_RESET) !== 0) this.record.ended(Half.GuestRead, ETIMEDOUT);
    this.#react(events);
    if (nowMs >= this.#retryAt) {
      this.#retryAt = Number.POSITIVE_INFINITY;
      if (!this.over && this.#hostReadable) this.#pump();
    }
    this.flush();
  }

  /** Send everything there is to send, and set the timer. */
  flush(): void {
    const c = this.connection;
    const context = this.#owner.context;
    const now = context.clock.nowMs;
    const { link } = context;
    while (!link.full && pollTransmit(c, now, segment)) this.#transmit();
    // Looked at again in the turn in which there is room.
    if (link.full) this.#owner.touch(this);
    if (this.over) return;
    this.deadline = Math.min(nextTimeout(c), this.#retryAt);
    context.timers.update(this);
  }

  /** Cut the flow: RST to the guest, reset to the host. */
  abort(): void {
    this.connection.abort();
    if (pollTransmit(this.connection, this.#owner.context.clock.nowMs, segment)) this.#transmit();
    this.#end(true);
  }

  /** Give everything back without a word to the guest. Called by the owner or at a reset. */
  #end(reset: boolean, reason = ''): void {
    if (this.over) return;
    this.over = true;
    const context = this.#owner.context;
    this.#dropGathered();
    this.record.closed(context, () => this.#ends(), reason);
    if (this.dialing) {
      this.dialing = false;
      this.#owner.dialEnded(this);
    }
    this.#notHalfOpen();
    context.timers.cancel(this);
    if (this.#fd >= 0) {
      context.poller.forget(this.#token);
      if (reset) setLingerZero(context.memory, this.#fd, context.scratch.option);
      close(this.#fd);
      context.descriptors.used--;
      this.#fd = -1;
    }
    this.connection.rcvQueue.clear();
    this.connection.sndQueue.clear();
    this.#owner.ended(this);
  }

  #notHalfOpen(): void {
    if (!this.#isHalfOpen) return;
    this.#isHalfOpen = false;
    this.#owner.halfOpenEnded(this);
  }

  /** Connecting to the host failed: the guest is told, and the flow is over. */
  refuse(error: number, reason = ''): void {
    this.record.ended(Half.HostRead, error);
    this.#owner.refuse(this, -error);
    this.#end(false, reason);
  }

  /** Our SYN may have gone nowhere: send it again without waiting for its timer. */
  repeatSyn(): void {
    this.connection.synPending = true;
    this.flush();
  }

  /** The guest, to which we are connecting, cannot be reached: the host's client is reset. */
  dialFailed(error: number): void {
    this.record.ended(Half.GuestRead, error);
    this.abort();
  }

  /** The guest gave up before the host answered. */
  cancelDial(): void {
    this.record.ended(Half.GuestRead, ECONNRESET);
    this.#end(true);
  }

  #onDialed(events: number): void {
    const context = this.#owner.context;
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) {
      getsockoptInt(context.memory, this.#fd, SOL_SOCKET, SO_ERROR, context.scratch.option);
      const error = context.memory.view.getInt32(context.scratch.option, true);
      if (error !== 0) {
        this.refuse(error);
        return;
      }
    }
    if ((events & EPOLLOUT) === 0) return;
    this.dialing = false;
    this.#owner.dialEnded(this);
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) !== 0) this.#hostReadable = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0) this.#hostHungUp = true;
    if (!this.#sendProxyHeader()) return;
    this.connection.accept(context.clock.nowMs);
    this.#isHalfOpen = true;
    this.#owner.halfOpen(this);
    this.record.opened(this.#owner.context, () => this.#ends());
    this.flush();
  }

  /** Tell the host's service who the guest is, before anything else; false: that did not work, the flow is over. */
  #sendProxyHeader(): boolean {
    const { forward } = this.record;
    if (forward?.kind !== 'remote' || forward.proxyHeader === 0) return true;
    const { memory, scratch } = this.#owner.context;
    const length = emitProxyHeader(
      memory.view,
      scratch.message,
      forward.proxyHeader,
      this.guest,
      this.guestPort,
      this.remote,
      this.remotePort,
    );
    this.#beforeWrite();
    const n = send(memory, this.#fd, scratch.message, length);
    // A socket that is only just connected takes that much, or is closed again.
    if (n === length) return true;
    this.refuse(n < 0 ? -n : ECONNRESET);
    return false;
  }

  #react(events: number): void {
    if (events === 0 || this.over) return;
    const c = this.connection;
    if ((events & EV_RESET) !== 0) {
      if (this.record.guestRead === 0)
        this.record.ended(Half.GuestRead, this.dialing ? ECONNREFUSED : ECONNRESET);
      else this.record.ended(Half.GuestWrite, ECONNRESET);
      this.flush();
      // What the guest sent before its own end still reaches the host (P-03): a reset would take it back, here and in
      // the host's kernel.
      const mayLose = this.record.bytesOut > 0 || c.rcvQueue.readable > 0;
      if (this.#guestFin && !this.#hostBroken && mayLose) this.#endWhenRead();
      else this.#end(true);
      return;
    }
    if ((events & EV_ESTABLISHED) !== 0) {
      this.#notHalfOpen();
      armKeepalive(c, this.#owner.context.clock.nowMs);
      if (this.dialing) {
        this.dialing = false;
        this.#owner.dialEnded(this);
        this.record.opened(this.#owner.context, () => this.#ends());
      }
    }
    if ((events & EV_READABLE) !== 0) this.#drain();
    if ((events & EV_FIN) !== 0) {
      this.#guestFin = true;
      this.record.ended(Half.GuestRead, END_OF_FILE);
      this.#shutHost();
    }
    if (this.over) return;
    if ((events & EV_CLOSED) !== 0) {
      this.flush();
      this.#endWhenRead();
    }
  }

  /** Put guest bytes on the list for the host; how many were taken (all or none). */
  #gather(offset: number, length: number): number {
    this.burst += length;
    if (this.#hostBroken) return length;
    if (!this.#hostWritable) return 0;
    this.#gathered ??= this.#owner.borrowParts();
    this.#gathered.add(offset, length);
    this.#gatheredBytes += length;
    if (this.#gatheredBytes >= GATHER_BYTES || this.#gathered.count === GATHER_PARTS) this.#writeGathered();
    return length;
  }

  /** Write what was gathered. What the host does not take is kept in `rcvQueue`, in which nothing is readable yet. */
  #writeGathered(): void {
    const parts = this.#gathered;
    if (parts === null) return;
    const { memory, scratch } = this.#owner.context;
    const total = this.#gatheredBytes;
    this.#gathered = null;
    this.#gatheredBytes = 0;
    this.#beforeWrite();
    let n: number;
    if (parts.count === 1) {
      n = send(memory, this.#fd, parts.offset[0] as number, total);
    } else {
      scratch.putParts(parts);
      n = writev(memory, this.#fd, scratch.iovec, parts.count);
    }
    if (n > 0) this.record.bytesOut += n;
    if (n < total && n !== -EINTR) this.#hostWritable = false;
    if (n >= 0 || n === -EAGAIN || n === -EINTR) this.#keep(parts, Math.max(n, 0));
    else this.#hostFailed(n);
    this.#owner.giveBackParts(parts);
    // Interrupted by a signal: the host would have taken more.
    if (n === -EINTR) this.#drain();
  }

  /** Copy what lies behind the first `taken` bytes of `parts` into `rcvQueue`. */
  #keep(parts: Parts, taken: number): void {
    const c = this.connection;
    let skip = taken;
    for (let i = 0; i < parts.count; i++) {
      const length = parts.length[i] as number;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      if (!keepDelivered(c, (parts.offset[i] as number) + skip, length - skip)) {
        let lost = -skip;
        for (; i < parts.count; i++) lost += parts.length[i] as number;
        // A FIN behind them was taken already, and cannot be given back.
        if (c.finReceived) this.abort();
        else giveBackDelivered(c, lost);
        return;
      }
      skip = 0;
    }
  }

  #dropGathered(): void {
    const parts = this.#gathered;
    if (parts === null) return;
    this.#gathered = null;
    this.#gatheredBytes = 0;
    this.#owner.giveBackParts(parts);
  }

  /** Nagle's algorithm would hold back a small second write; the guest has its own. */
  #beforeWrite(): void {
    if (this.#writes === 1) {
      const { memory, scratch } = this.#owner.context;
      setsockoptInt(memory, this.#fd, IPPROTO_TCP, TCP_NODELAY, 1, scratch.option);
    }
    if (this.#writes < 2) this.#writes++;
  }

  /** Pass on what waits in `rcvQueue`. */
  #drain(): void {
    const c = this.connection;
    const { memory, scratch } = this.#owner.context;
    while (c.rcvQueue.readable > 0 && (this.#hostWritable || this.#hostBroken)) {
      if (this.#hostBroken) {
        consumeReceived(c, c.rcvQueue.readable);
        break;
      }
      const offered = c.rcvQueue.peek(TURN_BYTES, ioParts);
      scratch.putParts(ioParts);
      this.#beforeWrite();
      const n = writev(memory, this.#fd, scratch.iovec, ioParts.count);
      if (n > 0) {
        this.record.bytesOut += n;
        consumeReceived(c, n);
      }
      if (n === -EINTR) continue;
      if (n === -EAGAIN || (n >= 0 && n < offered)) this.#hostWritable = false;
      else if (n < 0) {
        if (!this.#hostFailed(n)) return;
      }
    }
    this.#shutHost();
    this.#endWhenRead();
  }

  /**
   * The host socket refuses bytes. What the host sent before an orderly end must still reach the guest (P-03); true
   * when the flow goes on for that. Otherwise it is cut.
   */
  #hostFailed(error: number): boolean {
    const c = this.connection;
    this.record.ended(Half.HostWrite, -error);
    if (this.#hostEof && (c.sndQueue.length > 0 || c.flight > 0 || !c.finSent)) {
      this.#hostBroken = true;
      return true;
    }
    this.abort();
    return false;
  }

  /** FIN for the host, once it has all bytes of the guest. */
  #shutHost(): void {
    if (!this.#guestFin || this.#hostShut) return;
    this.#writeGathered();
    if (this.over || this.connection.rcvQueue.readable > 0) return;
    this.#hostShut = true;
    // With the host's own end passed on already, close(2) follows as soon as the guest acknowledges it.
    const closing = this.#hostEof && this.connection.sndQueue.length === 0;
    if (!this.#hostBroken && !closing) shutdown(this.#fd, SHUT_WR);
  }

  /** The guest's connection is over: so is the flow, when the host has read everything. */
  #endWhenRead(): void {
    const state = this.connection.state;
    if (state !== TcpState.Closed && state !== TcpState.TimeWait) return;
    if (this.connection.rcvQueue.readable > 0 && !this.#hostBroken) return;
    this.#end(this.#hostBroken);
  }

  /** Host bytes to the guest, as far as its window and this flow's share of the turn reach. */
  #pump(): void {
    const c = this.connection;
    if (!c.isSynchronized || this.#hostEof || c.state === TcpState.TimeWait) return;
    const context = this.#owner.context;
    const { memory, scratch } = context;
    const { clock } = context;
    let budget = TURN_BYTES;
    while (this.#hostReadable) {
      // A flow of small messages does not wait for the turns of those with many bytes.
      const waits = clock.bytesLeft <= 0 && this.#lastRead >= PAGE_SIZE;
      if (budget <= 0 || waits) {
        context.poller.ready(this);
        return;
      }
      // What is read in one go leaves in one go: no short segment at the end of each read.
      const unit = this.#lastRead < PAGE_SIZE ? PAGE_SIZE : Math.max(READ_UNITS * transmitUnit(c), PAGE_SIZE);
      const reach = Math.min(c.sndWnd, 2 * Math.floor(c.congestion.cwnd)) + READ_AHEAD;
      const want = Math.min(c.sendRoom, reach - c.sndQueue.length, unit);
      // The guest takes nothing at the moment: its acknowledgment brings us back here.
      if (want <= 0) return;
      // The last pages are for bytes from guests: they complete what is held already, and so free memory.
      const { slab } = context;
      const scarce = slab.pagesUsed >= slab.pageCount - slab.pageCount / MEMORY_RESERVE;
      if (scarce) this.#owner.makeRoom();
      const room = scarce ? 0 : c.sndQueue.reserve(want, ioParts);
      if (room === 0) {
        this.#retryAt = clock.nowMs + MEMORY_RETRY_MS;
        return;
      }
      scratch.putParts(ioParts);
      const n = readv(memory, this.#fd, scratch.iovec, ioParts.count);
      c.sndQueue.commit(Math.max(n, 0));
      if (n > 0) {
        budget -= n;
        clock.bytesLeft -= n;
        this.record.bytesIn += n;
        this.#lastRead = n;
        if (n < room && !this.#hostHungUp) this.#hostReadable = false;
        // A host that hung up has little left, and its FIN goes with the last of it.
        if (!this.#hostHungUp || n === room) this.flush();
        if (this.over) return;
      } else if (n === 0) {
        this.#hostReadable = false;
        this.#hostEof = true;
        this.record.ended(Half.HostRead, END_OF_FILE);
        c.closeSend();
      } else if (n === -EAGAIN) {
        this.#hostReadable = false;
      } else if (n !== -EINTR) {
        this.record.ended(Half.HostRead, -n);
        this.abort();
        return;
      }
    }
  }

  #transmit(): void {
    const c = this.connection;
    const context = this.#owner.context;
    const { egress } = context;
    const h = segment.header;
    h.srcPort = this.remotePort;
    h.dstPort = this.guestPort;
    egress.parts.count = 0;
    if (segment.length > 0) c.sndQueue.slice(segment.queueOffset, segment.length, egress.parts);
    egress.sendTcp(this.remote, this.guest, h, segment.length, segment.mss);
  }

  /** What there is to tell of the flow now. */
  info(nowMs: number): FlowInfo {
    return this.record.info(nowMs, tcpStateNames[this.connection.state] as string, () => this.#ends());
  }

  #ends(): FlowEnds {
    const { context } = this.#owner;
    const { forward, isLocal } = this.record;
    const guest = endpoint(this.guest, this.guestPort);
    const seen = endpoint(this.remote, this.remotePort);
    const hostLocal = localEnd(context, this.#fd);
    const hostRemote = remoteEnd(context, this.#fd);
    if (isLocal) return { left: hostRemote, leftLocal: hostLocal, right: guest, rightLocal: seen };
    // Not connected (yet): where to.
    const target = forward?.kind === 'remote' ? targetEnd(forward, this.remotePort) : seen;
    const right = hostRemote.address === '' ? target : hostRemote;
    return { left: guest, leftLocal: seen, right, rightLocal: hostLocal };
  }
}
