/**
 * One UDP mapping: a guest address and port, and the host socket that speaks for it to every destination (RFC 4787
 * REQ-1, endpoint-independent mapping). The socket is not connected; answers are let in only from where the policy
 * would let the guest go.
 *
 * Sending. The manager gathers consecutive datagrams of a batch that share flow, destination and size; they leave in
 * one sendmsg(2) with UDP_SEGMENT. Where the path does not take that (a route with a smaller MTU), they leave singly.
 *
 * Receiving. recvmmsg(2) of up to 32 datagrams; those that follow each other with the same sender and size go to the
 * guest as one batch where the device takes it.
 */

import { ANY_ADDRESS } from '../../stack/transport/flow-table.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { EPOLLERR } from '../../sys/epoll.ts';
import { ECONNREFUSED, EHOSTUNREACH, EINTR } from '../../sys/errno.ts';
import { DatagramFlow, type DatagramFlowOwner } from '../flow/datagram-flow.ts';
import { END_OF_FILE, Half } from '../flow/record.ts';
import type { ErrorSink } from '../host/datagram-socket.ts';
import { QueuedError } from '../host/error-queue.ts';
import type { Target } from '../target/target.ts';
import type { DatagramBatch, ReceiveSlots, SenderJudge } from './batch.ts';

/** Datagrams of other ports: RFC 4787 REQ-5 asks for at least two minutes. */
const IDLE_MS = 180_000;
/** One question, one answer (REQ-5 (b) allows less for well-known ports). */
const DNS_IDLE_MS = 10_000;
const DNS_PORT = 53;
/** Below this the guest counts hops (traceroute); from it on the system's own value serves. */
const TTL_OF_INTEREST = 32;
/** recvmmsg calls in one turn. */
const RECEIVES_PER_TURN = 8;

/** Filled and passed on within one call; shared by all flows. */
const unsent = new QueuedError();

export interface UdpFlowOwner extends DatagramFlowOwner, SenderJudge {
  readonly slots: ReceiveSlots;
  /** Pass on what the network, or the host's own kernel, said about one of the flow's datagrams. */
  reportError(flow: UdpFlow, error: QueuedError): void;
}

export class UdpFlow extends DatagramFlow<UdpFlowOwner> implements ErrorSink {
  constructor(owner: UdpFlowOwner, guest: IpAddress, port: number, dstPort: number) {
    const idleMs = dstPort === DNS_PORT ? DNS_IDLE_MS : IDLE_MS;
    super(owner, idleMs, 'udp', guest, ANY_ADDRESS, (port << 16) >>> 0, null);
  }

  /** Open the host socket; 0 or `-errno`. `first` is where the guest wants to send first, told in events. */
  open(first: Target): number {
    const result = this.socket.open(first.address, 0, this);
    if (result < 0) return result;
    this.socket.receiveErrors();
    this.opened(first.address, first.port);
    return result;
  }

  /** Send the datagrams of `batch` to `target`. */
  send(batch: DatagramBatch, target: Target, ttl: number): void {
    if (target.port !== DNS_PORT) this.idleMs = IDLE_MS;
    this.#onUse();
    this.record.bytesOut += batch.length;
    this.socket.setHopLimit(ttl < TTL_OF_INTEREST ? ttl - (this.context.own.isHop ? 1 : 0) : 0);
    this.context.scratch.putAddress(target.address, target.port, target.scopeId);
    const result = this.socket.send(batch);
    if (result === 0 || !unsent.setLocal(-result, 0, target.address.isV4)) return;
    unsent.destination.copyFrom(target.address);
    unsent.port = target.port;
    unsent.quoted = batch.lengthAt(batch.count - 1);
    this.owner.reportError(this, unsent);
  }

  onIo(events: number): void {
    if (this.socket.fd < 0) return;
    if ((events & EPOLLERR) !== 0) this.socket.readErrors(this);
    this.#receive();
  }

  onHostError(error: QueuedError): void {
    this.owner.reportError(this, error);
  }

  protected onIdle(): void {
    this.record.endedWhole(Half.GuestRead, END_OF_FILE);
    this.close();
  }

  #onUse(): void {
    this.used();
    this.owner.touch(this);
  }

  #receive(): void {
    const { context, slots } = this.owner;
    for (let turn = 0; turn < RECEIVES_PER_TURN; turn++) {
      const count = this.socket.receive(slots);
      if (count < 0) {
        if (count === -EINTR || count === -ECONNREFUSED || count === -EHOSTUNREACH) continue;
        return;
      }
      this.#onUse();
      this.record.bytesIn += slots.deliver(count, this.guest, this.guestPort, this.owner);
      if (count < slots.count) return;
    }
    context.poller.ready(this);
  }
}
