/**
 * Echo requests to the outside, through an unprivileged ping socket (icmp(7), `net.ipv4.ping_group_range`): one per
 * guest address and identifier. The kernel puts its own identifier on the wire; sequence numbers, data and hop limits
 * are kept, and errors from routers on the way are passed on, so that traceroute works.
 */

import { ANY_ADDRESS } from '../../stack/transport/flow-table.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { ICMP_HEADER_LEN, ICMP4_ECHO_REPLY, ICMP6_ECHO_REPLY } from '../../stack/wire/icmp.ts';
import { findControlMessage } from '../../sys/control-message.ts';
import { EPOLLERR } from '../../sys/epoll.ts';
import { EMSGSIZE } from '../../sys/errno.ts';
import {
  IP_MTU_DISCOVER,
  IP_PMTUDISC_DO,
  IP_PMTUDISC_WANT,
  IP_RECVTTL,
  IP_TTL,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_MTU_DISCOVER,
  IPV6_RECVHOPLIMIT,
  recvmsg,
  sendto,
} from '../../sys/socket.ts';
import { DatagramFlow, type DatagramFlowOwner } from '../flow/datagram-flow.ts';
import { type ErrorSink, isPendingError } from '../host/datagram-socket.ts';
import type { QueuedError } from '../host/error-queue.ts';
import { readSockaddr } from '../host/scratch.ts';

/** RFC 5508 REQ-2. */
const IDLE_MS = 60_000;
const MESSAGES_PER_TURN = 32;

export interface PingFlowOwner extends DatagramFlowOwner {
  /** 64 KiB to receive a reply in. */
  readonly buffer: number;
  readonly bufferSize: number;
  readonly peer: IpAddress;
  mayReceive(src: IpAddress): boolean;
  reportError(flow: PingFlow, error: QueuedError): void;
}

export class PingFlow extends DatagramFlow<PingFlowOwner> implements ErrorSink {
  /** Of the last request that was larger than this. */
  pathMtu = 0;
  #dontFragment = false;

  constructor(owner: PingFlowOwner, guest: IpAddress, identifier: number) {
    super(owner, IDLE_MS, 'icmp', guest, ANY_ADDRESS, (identifier << 16) >>> 0, null);
  }

  /** Open the host socket; 0 or `-errno`. `first` is where the guest pings first, told in events too. */
  open(first: IpAddress): number {
    const { isV4 } = first;
    const result = this.socket.open(first, isV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, this);
    if (result < 0) return result;
    this.socket.receiveErrors();
    this.socket.setOption(IP_RECVTTL, IPV6_RECVHOPLIMIT, 1);
    // The identifier stands where others have a port.
    this.opened(first, 0);
    return 0;
  }

  /**
   * Send the echo request of `length` bytes at `offset` (ICMP header included; its checksum and identifier are the
   * kernel's business) to `to`, one hop on. One that may not be fragmented and is larger than
   * the path takes fails with EMSGSIZE, and `pathMtu` is how much that is.
   */
  send(to: IpAddress, offset: number, length: number, ttl: number, dontFragment: boolean): number {
    this.used();
    this.record.bytesOut += length - ICMP_HEADER_LEN;
    this.socket.setHopLimit(ttl - this.#hops);
    if (dontFragment !== this.#dontFragment) {
      this.#dontFragment = dontFragment;
      const discovery = dontFragment ? IP_PMTUDISC_DO : IP_PMTUDISC_WANT;
      this.socket.setOption(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, discovery);
    }
    let result = this.#send(to, offset, length);
    if (result === -EMSGSIZE) {
      this.pathMtu = 0;
      this.socket.readErrors(this);
      if (this.pathMtu > 0) return result;
    }
    // What came of an earlier request (traceroute has many on their way) is reported once; then this one goes out.
    if (result === -EMSGSIZE || isPendingError(result)) {
      result = this.#send(to, offset, length);
      if (result === -EMSGSIZE) this.socket.readErrors(this);
    }
    return result;
  }

  #send(to: IpAddress, offset: number, length: number): number {
    const { memory, scratch } = this.context;
    // Each time: reading the errors puts an address there as well.
    scratch.putAddress(to, 0, 0);
    return sendto(memory, this.socket.fd, offset, length, scratch.sockaddr, scratch.sockaddrLength);
  }

  onIo(events: number): void {
    if (this.socket.fd < 0) return;
    if ((events & EPOLLERR) !== 0) this.socket.readErrors(this);
    for (let i = 0; i < MESSAGES_PER_TURN; i++) if (!this.#receiveOne()) return;
    this.context.poller.ready(this);
  }

  onHostError(error: QueuedError): void {
    // What our own kernel did not send it does not quote.
    if (error.errno === EMSGSIZE && error.quoted === 0) {
      this.pathMtu = error.rest;
      return;
    }
    this.owner.reportError(this, error);
  }

  protected onIdle(): void {
    this.close();
  }

  #receiveOne(): boolean {
    const { context, buffer, bufferSize, peer } = this.owner;
    const { memory, scratch, icmp } = context;
    scratch.putReceive(buffer, bufferSize);
    const n = recvmsg(memory, this.socket.fd, scratch.msghdr, 0);
    if (n < 0) return false;
    const view = memory.view;
    const expected = this.guest.isV4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
    if (n < ICMP_HEADER_LEN || view.getUint8(buffer) !== expected) return true;
    if (readSockaddr(memory, scratch.sockaddr, peer) < 0 || !this.owner.mayReceive(peer)) return true;
    this.used();
    this.owner.touch(this);
    this.record.bytesIn += n - ICMP_HEADER_LEN;
    const rest = ((this.guestPort << 16) | view.getUint16(buffer + 6)) >>> 0;
    const ttl = Math.max(1, this.#receivedTtl() - this.#hops);
    icmp.sendEchoReply(peer, this.guest, rest, buffer + ICMP_HEADER_LEN, n - ICMP_HEADER_LEN, ttl);
    return true;
  }

  /** How many we are between the guest and the host. */
  get #hops(): number {
    return this.context.own.isHop ? 1 : 0;
  }

  /** The hop limit the reply arrived with, from the control message; 64 when there is none. */
  #receivedTtl(): number {
    const { scratch, memory } = this.context;
    const { isV4 } = this.guest;
    const at = findControlMessage(
      memory,
      scratch.control,
      scratch.receivedControl,
      isV4 ? IPPROTO_IP : IPPROTO_IPV6,
      isV4 ? IP_TTL : IPV6_HOPLIMIT,
      4,
    );
    return at < 0 ? 64 : memory.view.getUint32(at, true);
  }
}
