/**
 * One TCP flow: the guest's connection, ended in our stack, and a host socket that speaks for it.
 *
 * Theory of operation. Two connections that behave as one:
 *
 *   guest SYN → host connect succeeds → SYN-ACK; refused → RST; no route → ICMP
 *   host client (a local forward) → SYN to the guest; refused, unreachable or silent → the client is reset
 *   guest data → upload.ts → host socket; host data → download.ts → guest
 *   FIN ↔ shutdown, RST ↔ reset, in both directions, each half on its own
 *
 * This file has what happens to the flow as a whole: how it opens, what the events of either side mean for the other,
 * and how it ends: when both directions have ended, or at a reset. Its manager (flows.ts) then forgets it.
 */

import { type IoHandler, TimerNode } from '../../loop.ts';
import type { LruNode } from '../../stack/buffer/lru.ts';
import { TcpConnection } from '../../stack/tcp/connection.ts';
import {
  EV_BAD_ACK,
  EV_CLOSED,
  EV_DELIVER,
  EV_ESTABLISHED,
  EV_FIN,
  EV_READABLE,
  EV_RESET,
  type TcpEnvironment,
  TcpSegmentOut,
} from '../../stack/tcp/owner.ts';
import type { Keyed } from '../../stack/transport/flow-table.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import type { TcpHeader } from '../../stack/wire/tcp.ts';
import { EPOLLERR, EPOLLHUP, EPOLLOUT } from '../../sys/epoll.ts';
import { EAGAIN, ECONNREFUSED, ECONNRESET, ETIMEDOUT } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import type { FlowEnds, FlowInfo } from '../flow/info.ts';
import {
  END_OF_FILE,
  type EndsSource,
  endpoint,
  FlowRecord,
  Half,
  type LocalForward,
  localEnd,
  remoteEnd,
  targetEnd,
} from '../flow/record.ts';
import type { RemoteForward } from '../target/remote-forwards.ts';
import { TcpDownload, type TcpDownloadOwner } from './download.ts';
import { TcpHostSocket } from './host-socket.ts';
import type { SpareParts } from './spare-parts.ts';
import { TcpUpload, type TcpUploadOwner } from './upload.ts';
import { NOT_LISTED, type Uploader } from './window-share.ts';

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
  /** What the guest wanted to open has come to nothing. */
  failed(flow: TcpFlow): void;
  /** The guest has opened it. */
  opened(flow: TcpFlow): void;
  /** Packet memory is short, and this flow has to wait. */
  makeRoom(): void;
  /** Both sides are done, or the flow was cut: forget it. */
  ended(flow: TcpFlow): void;
  readonly spareParts: SpareParts;
}

/**
 * What a frame to the guest takes of a turn beside its payload, in bytes. Its system call and headers are some 5 us, in which
 * more than that is copied, and 20 us of code that is new: a turn of the smallest segments is 1 to 5 ms (G-7).
 */
const FRAME_COST = 8192;

/**
 * How long a host may take nothing of what a guest that is gone has left for it. As long as Linux goes on asking for the
 * window of a connection that its program has closed (tcp_orphan_retries).
 */
const LEFT_BEHIND_MS = 300_000;

/** Filled and used within one call; shared by all flows. */
const segment = new TcpSegmentOut();

export class TcpFlow
  extends TimerNode
  implements IoHandler, Keyed, LruNode, EndsSource, Uploader, TcpUploadOwner, TcpDownloadOwner
{
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
  readonly #socket: TcpHostSocket;
  readonly #upload: TcpUpload;
  readonly #download: TcpDownload;
  waiting = false;
  /** Payload of the guest's SYN: it is not taken, but a refusal counts it (RFC 9293 §3.10.7.1). */
  synBytes = 0;
  dialing = false;
  /** When the connect for the guest began. */
  dialSince = 0;
  /** In the owner's list of flows to look at when the batch ends. */
  touched = false;
  /** Bytes of the guest in this batch of frames. */
  burst = 0;
  burstAt: number = NOT_LISTED;
  over = false;
  /** When what the guest left is given up, if the host goes on taking none of it; and how much that was. */
  #giveUpAt = Number.POSITIVE_INFINITY;
  #leftBehind = 0;

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
    this.#socket = new TcpHostSocket(owner.context);
    this.#upload = new TcpUpload(this, this.connection, this.#socket, this.record, owner.spareParts);
    this.#download = new TcpDownload(this, owner.context, this.connection, this.#socket, this.record);
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
    return this.#socket.attach(fd, this);
  }

  /** A segment of this flow from the guest. Payload at `offset`, borrowed. Returns events that need the packet. */
  onSegment(h: TcpHeader, offset: number, length: number): number {
    const c = this.connection;
    const now = this.#owner.context.clock.nowMs;
    // Anything but the next bytes in line may touch what is kept: what was gathered comes before that.
    if (this.#upload.isGathering && h.seq !== c.rcv.nxt) this.#upload.writeGathered();
    if (this.over) return 0;
    const silence = c.silenceBefore(h, length, now);
    if (silence >= 0) this.#socket.keepAlive(silence);
    let events = c.onSegment(h, offset, length, now);
    if ((events & EV_DELIVER) !== 0) {
      this.burst += c.rcv.deliverLength;
      const taken = this.#upload.gather(c.rcv.deliverOffset, c.rcv.deliverLength);
      events |= c.takeDelivered(taken);
    }
    this.#react(events);
    if (!this.over) {
      if (c.acknowledgeFull()) {
        this.#upload.writeGathered();
        if (this.over) return 0;
        this.flush();
      } else {
        this.#owner.touch(this);
      }
    }
    return events & EV_BAD_ACK;
  }

  /** The bytes of the last segment lie where the next one's may: they cannot wait for the end of the batch. */
  endGathering(): void {
    this.#upload.writeGathered();
  }

  /** End of the batch: acknowledge and send. */
  settle(): void {
    this.touched = false;
    this.#upload.writeGathered();
    if (this.over) return;
    const c = this.connection;
    c.acknowledgeBatch();
    this.#download.pump();
    this.flush();
    // The host is gone, and the guest has all it had sent: nothing holds the other half any more (T-20).
    if (this.#socket.broken && !this.over && c.snd.isDone) this.abort();
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
    const socket = this.#socket;
    if ((events & EPOLLERR) !== 0 && socket.eof && !socket.broken) {
      this.hostFailed(-ECONNRESET);
      this.#drain();
      if (this.over) return;
    }
    socket.noteReadable(events);
    if ((events & EPOLLOUT) !== 0 && !socket.writable) {
      socket.writable = true;
      this.#drain();
      if (this.over) return;
    }
    this.#download.pump();
    this.flush();
  }

  onTimer(nowMs: number): void {
    if (this.over) return;
    if (nowMs >= this.#giveUpAt) {
      this.record.ended(Half.HostWrite, ETIMEDOUT);
      this.#end(true);
      return;
    }
    // Our SYN goes out again: the guest may still be unknown.
    if (this.dialing && this.record.isLocal) this.#owner.context.solicitor.solicit(this.guest);
    const events = this.connection.onTimeout(nowMs);
    if ((events & EV_RESET) !== 0) this.record.ended(Half.GuestRead, ETIMEDOUT);
    this.#react(events);
    if (nowMs >= this.#download.retryAt) {
      this.#download.retryAt = Number.POSITIVE_INFINITY;
      if (!this.over) this.#download.pump();
    }
    this.flush();
  }

  /** Send what there is to send, as far as the turn allows, and set the timer. */
  flush(): void {
    const c = this.connection;
    const context = this.#owner.context;
    const now = context.clock.nowMs;
    const { link, clock } = context;
    while (!link.full && c.pollTransmit(now, segment)) {
      this.#transmit();
      // A window that opens, or one that is lost, is a mebibyte in the smallest segments; many flows may have one at once.
      clock.sendLeft -= segment.length + FRAME_COST;
      if (clock.sendLeft <= 0) {
        if (!this.over) context.poller.ready(this);
        break;
      }
    }
    // Looked at again in the turn in which there is room.
    if (link.full) this.#owner.touch(this);
    if (this.over) return;
    this.deadline = Math.min(c.nextTimeout, this.#download.retryAt, this.#giveUpAt);
    context.timers.update(this);
  }

  /** Cut the flow: RST to the guest, reset to the host. */
  abort(): void {
    this.connection.abort();
    try {
      if (this.connection.pollTransmit(this.#owner.context.clock.nowMs, segment)) this.#transmit();
    } finally {
      this.#end(true);
    }
  }

  /** There is no room for it, not yet open, with what errno: the guest is not told, and asks again. */
  giveWay(error: number = EAGAIN): void {
    this.record.ended(Half.HostRead, error);
    this.#end(true);
  }

  /** The guest is gone for good. What it had brought to an end is passed on as that, anything else is cut. */
  leave(): void {
    this.#upload.writeGathered();
    const { rcv } = this.connection;
    this.#end(!rcv.finReceived || rcv.queue.readable > 0);
  }

  /** Give everything back without a word to the guest. Called by the owner or at a reset. */
  #end(reset: boolean, reason = ''): void {
    if (this.over) return;
    this.over = true;
    const context = this.#owner.context;
    this.#upload.drop();
    this.record.closed(context, this, reason);
    if ((this.dialing || this.#isHalfOpen) && !this.record.isLocal) this.#owner.failed(this);
    if (this.dialing) {
      this.dialing = false;
      this.#owner.dialEnded(this);
    }
    this.#notHalfOpen();
    context.timers.cancel(this);
    this.#socket.close(reset);
    this.connection.release();
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

  /** There is no host, and that is all that is told of the flow; the guest may yet see a connection. */
  tellFailure(reason: string): void {
    this.record.closed(this.#owner.context, this, reason);
  }

  /** Our SYN may have gone nowhere: send it again. */
  repeatSyn(): void {
    this.connection.repeatSyn();
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
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) {
      const error = this.#socket.takeError();
      if (error !== 0) {
        this.refuse(error);
        return;
      }
    }
    if ((events & EPOLLOUT) === 0) return;
    this.dialing = false;
    this.#owner.dialEnded(this);
    this.#socket.noteReadable(events);
    const { forward } = this.record;
    if (forward?.kind === 'remote' && forward.proxyHeader !== 0) {
      const { guest, guestPort, remote, remotePort } = this;
      const result = this.#socket.writeProxyHeader(forward.proxyHeader, guest, guestPort, remote, remotePort);
      if (result < 0) {
        this.refuse(-result);
        return;
      }
    }
    this.connection.accept(this.#owner.context.clock.nowMs);
    this.#isHalfOpen = true;
    this.#owner.halfOpen(this);
    this.record.opened(this.#owner.context, this);
    this.flush();
  }

  #react(events: number): void {
    if (events === 0 || this.over) return;
    const c = this.connection;
    if ((events & EV_RESET) !== 0) {
      if (this.record.guestRead === 0)
        this.record.ended(Half.GuestRead, this.dialing ? ECONNREFUSED : ECONNRESET);
      else this.record.ended(Half.GuestWrite, ECONNRESET);
      this.flush();
      // What the guest sent before its own end still reaches the host (P-03): a reset would take it back, here, in our
      // host's kernel and, where its reader has not come to it yet, in the other's. So it matters that there was any, not
      // whether it was acknowledged (which SIOCOUTQ would tell).
      const mayLose = this.record.bytesOut > 0 || c.rcv.queue.readable > 0;
      if (c.rcv.finReceived && !this.#socket.broken && mayLose) this.#endWhenRead();
      else this.#end(true);
      return;
    }
    if ((events & EV_ESTABLISHED) !== 0) {
      if (this.#isHalfOpen) this.#owner.opened(this);
      this.#notHalfOpen();
      c.armKeepalive(this.#owner.context.clock.nowMs);
      if (this.dialing) {
        this.dialing = false;
        this.#owner.dialEnded(this);
        this.record.opened(this.#owner.context, this);
      }
    }
    if ((events & EV_FIN) !== 0) this.record.ended(Half.GuestRead, END_OF_FILE);
    if ((events & EV_READABLE) !== 0) this.#drain();
    else if ((events & EV_FIN) !== 0) this.#upload.passFinOn();
    if ((events & EV_CLOSED) !== 0) this.#endWhenRead();
  }

  makeRoom(): void {
    this.#owner.makeRoom();
  }

  /** Pass on what is kept. */
  #drain(): void {
    this.#upload.drain();
    this.#endWhenRead();
  }

  /**
   * The host socket refuses bytes. What the host sent before an orderly end must still reach the guest (P-03), so the flow
   * goes on for that. Otherwise it is cut.
   */
  hostFailed(error: number): void {
    this.record.ended(Half.HostWrite, -error);
    if (this.#socket.eof && !this.connection.snd.isDone) this.#socket.broken = true;
    else this.abort();
  }

  /** The guest's connection is over: so is the flow, when the host has read everything. */
  #endWhenRead(): void {
    if (this.over || !this.connection.isOver) return;
    const left = this.connection.rcv.queue.readable;
    if (left > 0 && !this.#socket.broken) {
      // Nobody but the host holds the flow any more.
      if (left === this.#leftBehind) return;
      this.#leftBehind = left;
      this.#giveUpAt = this.#owner.context.clock.nowMs + LEFT_BEHIND_MS;
      this.flush();
      return;
    }
    // The acknowledgment of the guest's FIN may still be due.
    this.flush();
    this.#end(this.#socket.broken);
  }

  #transmit(): void {
    const { egress } = this.#owner.context;
    const h = segment.header;
    h.srcPort = this.remotePort;
    h.dstPort = this.guestPort;
    const out = egress.beginTcp(this.remote, this.guest, h);
    const { length, mss } = segment;
    if (length > 0) this.connection.snd.queue.slice(segment.queueOffset, length, out.parts);
    out.payloadLength = length;
    if (length > mss) out.segmentSize = mss;
    egress.send();
  }

  get isOver(): boolean {
    return this.over;
  }

  /** What there is to tell of the flow now. */
  info(nowMs: number): FlowInfo {
    return this.record.info(nowMs, this.connection.stateName, this);
  }

  ends(): FlowEnds {
    const { context } = this.#owner;
    const { forward, isLocal } = this.record;
    const guest = endpoint(this.guest, this.guestPort);
    const seen = endpoint(this.remote, this.remotePort);
    const hostLocal = localEnd(context, this.#socket.fd);
    const hostRemote = remoteEnd(context, this.#socket.fd);
    if (isLocal) return { left: hostRemote, leftLocal: hostLocal, right: guest, rightLocal: seen };
    // Not connected (yet): where to.
    const target = forward?.kind === 'remote' ? targetEnd(forward, this.remotePort) : seen;
    const right = hostRemote.address === '' ? target : hostRemote;
    return { left: guest, leftLocal: seen, right, rightLocal: hostLocal };
  }
}
