/**
 * One host socket for datagrams (UDP or ping), as the flows own it: set-up, hop limit, error queue, sending, receiving,
 * close. It counts in the flows' budget of descriptors from `open` to `close`, and `close` may be called at any time.
 */

import type { IoHandler } from '../../loop.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { controlSpace, putControlMessage } from '../../sys/control-message.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import {
  EACCES,
  EAGAIN,
  ECONNREFUSED,
  EHOSTUNREACH,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENETUNREACH,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPERM,
} from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  connect,
  getsockoptInt,
  IP_RECVERR,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_RECVERR,
  IPV6_UNICAST_HOPS,
  IPV6_V6ONLY,
  putMsghdr,
  SO_ERROR,
  SO_RCVBUF,
  SOCK_DGRAM,
  SOL_SOCKET,
  send,
  sendmsg,
  sendto,
  setsockoptInt,
  socket,
  UDP_SEGMENT,
} from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import type { DatagramBatch, ReceiveSlots } from '../udp/batch.ts';
import { bindSource } from './bind-source.ts';
import { HostDescriptor } from './descriptor.ts';
import { QueuedError, readError } from './error-queue.ts';

const ERRORS_PER_TURN = 32;
/**
 * Receive buffer of a socket that has more to give than one call takes; the kernel cuts it to net.core.rmem_max and all
 * sockets together to net.ipv4.udp_mem. Its default holds about 90 datagrams of 1400 bytes, less than a millisecond of
 * a fast stream.
 */
const BUSY_RECEIVE_BYTES = 2 ** 20;
/** Bytes of ancillary data for the size of a segment. */
const SEGMENT_SPACE = controlSpace(2);

/** Filled and passed on within one call; shared by all sockets. */
const queuedError = new QueuedError();

/** Who is told what the network said about the socket's datagrams. */
export interface ErrorSink {
  onHostError(error: QueuedError): void;
}

export class HostDatagramSocket extends HostDescriptor {
  #isV4 = true;
  /** Hop limit that was set; 0 = the system's own. */
  #hopLimit = 0;
  #segmentation = true;
  #isEnlarged = false;

  constructor(context: FlowContext, use: DescriptorUse = DescriptorUse.Udp) {
    super(context, use);
  }

  /**
   * Open and watch (readable and errors, edge-triggered); 0 or `-errno`, and then nothing is held. `towards` is the first
   * destination, and `isOurs` says that it was not the guest who chose it.
   */
  open(towards: IpAddress, protocol: number, handler: IoHandler, isOurs = false): number {
    const { isV4 } = towards;
    const { memory, scratch } = this.context;
    const fd = socket(isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, protocol);
    if (fd < 0) return fd;
    // Or an IPv6 socket would let IPv4 datagrams in as mapped addresses.
    if (!isV4) setsockoptInt(memory, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, scratch.option);
    const bound = bindSource(this.context, fd, towards, isOurs);
    if (bound < 0) {
      close(fd);
      return bound;
    }
    return this.adopt(fd, isV4 ? AF_INET : AF_INET6, EPOLLIN, handler);
  }

  /** Take over and watch `fd`, a socket for datagrams; 0, or `-errno` and `fd` is closed. */
  adopt(fd: number, family: number, events: number, handler: IoHandler): number {
    const result = this.hold(fd, events, handler);
    if (result < 0) return result;
    this.#isV4 = family === AF_INET;
    this.#hopLimit = 0;
    this.#isEnlarged = false;
    // A unix socket would make one datagram of the batch.
    this.#segmentation = family !== AF_UNIX;
    return 0;
  }

  /** Keep what the network says about our datagrams, for `readErrors`. */
  receiveErrors(): void {
    this.setOption(IP_RECVERR, IPV6_RECVERR, 1);
  }

  /** Set an integer option of the IP level, whose number depends on the family. */
  setOption(name4: number, name6: number, value: number): void {
    const { memory, scratch } = this.context;
    const level = this.#isV4 ? IPPROTO_IP : IPPROTO_IPV6;
    setsockoptInt(memory, this.fd, level, this.#isV4 ? name4 : name6, value, scratch.option);
  }

  /** Connect to the address in `scratch.sockaddr`: only it may answer. */
  connect(): number {
    const { memory, scratch } = this.context;
    return connect(memory, this.fd, scratch.sockaddr, scratch.sockaddrLength);
  }

  /** 0 = the system's own. */
  setHopLimit(hopLimit: number): void {
    if (hopLimit === this.#hopLimit) return;
    this.#hopLimit = hopLimit;
    this.setOption(IP_TTL, IPV6_UNICAST_HOPS, hopLimit === 0 ? -1 : hopLimit);
  }

  /**
   * Send the datagrams of `batch` to the address in `scratch.sockaddr` (`scratch.sockaddrLength` 0: where the socket
   * is connected to). What the network says of them comes back through the error queue; a full host queue drops, as any
   * router does. 0, or `-errno` when there is no way for the last one from here, or it is forbidden (a firewall, a route).
   * `controlLength` bytes at `scratch.control` go with each datagram, `prefixLength` bytes at `scratch.message` in front.
   */
  send(batch: DatagramBatch, controlLength = 0, prefixLength = 0): number {
    if (batch.length > batch.size && this.#segmentation && prefixLength === 0) {
      const result = this.#sendSegmented(batch, controlLength);
      if (result >= 0 || result === -EAGAIN) return 0;
      if (isPendingError(result)) {
        // An error about an earlier datagram: this one was not sent yet.
        if (this.#sendSegmented(batch, controlLength) >= 0) return 0;
      } else if (isUnsegmentable(result)) {
        this.#segmentation = false;
      }
    }
    const { count } = batch;
    let result = 0;
    for (let i = 0; i < count; i++) {
      result = this.sendOne(batch.offsetAt(i), batch.lengthAt(i), controlLength, prefixLength);
      // Pending errors of earlier datagrams are reported once each; then the datagram goes out.
      if (isPendingError(result))
        result = this.sendOne(batch.offsetAt(i), batch.lengthAt(i), controlLength, prefixLength);
    }
    return isPendingError(result) || isForbidden(result) ? result : 0;
  }

  /** Send one datagram, as `send` does; the bytes that were sent, or `-errno`. */
  sendOne(offset: number, length: number, controlLength = 0, prefixLength = 0): number {
    const { memory, scratch } = this.context;
    if (controlLength === 0 && prefixLength === 0) {
      const { sockaddr, sockaddrLength } = scratch;
      return sockaddrLength === 0
        ? send(memory, this.fd, offset, length)
        : sendto(memory, this.fd, offset, length, sockaddr, sockaddrLength);
    }
    let pieces = 0;
    if (prefixLength > 0) memory.putIovec(scratch.iovec, pieces++, scratch.message, prefixLength);
    memory.putIovec(scratch.iovec, pieces++, offset, length);
    return this.#sendPieces(pieces, controlLength);
  }

  /** Receive into `slots` without waiting; how many datagrams there were, or `-errno`. */
  receive(slots: ReceiveSlots): number {
    const count = slots.receive(this.fd);
    if (count === slots.count && !this.#isEnlarged) this.#enlarge();
    return count;
  }

  /** Tell `sink` what the network said, a turn's share of it. */
  readErrors(sink: ErrorSink): void {
    const { memory, scratch } = this.context;
    for (let i = 0; i < ERRORS_PER_TURN; i++) {
      const result = readError(this.fd, scratch, queuedError);
      if (result < 0) break;
      if (result > 0) sink.onHostError(queuedError);
    }
    // Take the pending error off the socket too, or the next call would fail with it.
    getsockoptInt(memory, this.fd, SOL_SOCKET, SO_ERROR, scratch.option);
  }

  #enlarge(): void {
    const { memory, scratch } = this.context;
    this.#isEnlarged = true;
    // Not smaller than a system whose default is larger has made it.
    getsockoptInt(memory, this.fd, SOL_SOCKET, SO_RCVBUF, scratch.option);
    if (memory.view.getInt32(scratch.option, true) >= BUSY_RECEIVE_BYTES) return;
    setsockoptInt(memory, this.fd, SOL_SOCKET, SO_RCVBUF, BUSY_RECEIVE_BYTES, scratch.option);
  }

  #sendSegmented(batch: DatagramBatch, controlLength: number): number {
    const { memory, scratch } = this.context;
    const at = putControlMessage(memory, scratch.control + controlLength, IPPROTO_UDP, UDP_SEGMENT, 2);
    memory.view.setUint16(at, batch.size, true);
    scratch.putParts(batch.parts);
    return this.#sendPieces(batch.parts.count, controlLength + SEGMENT_SPACE);
  }

  /** Send what the first `pieces` I/O vectors name. */
  #sendPieces(pieces: number, controlLength: number): number {
    const { memory, scratch } = this.context;
    putMsghdr(
      memory,
      scratch.msghdr,
      scratch.sockaddr,
      scratch.sockaddrLength,
      scratch.iovec,
      pieces,
      scratch.control,
      controlLength,
    );
    return sendmsg(memory, this.fd, scratch.msghdr);
  }
}

function isForbidden(result: number): boolean {
  return result === -EPERM || result === -EACCES;
}

/**
 * Whether a call failed because datagrams do not leave in segments from here: no checksum offload on the way out (EIO), a
 * smaller MTU than the segments (EINVAL, EMSGSIZE), a kernel without UDP_SEGMENT (the others). What else goes wrong, a full
 * queue or a rule of the host's firewall, has nothing to do with it.
 */
function isUnsegmentable(result: number): boolean {
  switch (-result) {
    case EIO:
    case EINVAL:
    case EMSGSIZE:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
      return true;
    default:
      return false;
  }
}

/** Whether what a call failed with may have been said of an earlier datagram, and not of the one at hand. */
export function isPendingError(result: number): boolean {
  return result === -ECONNREFUSED || result === -EHOSTUNREACH || result === -ENETUNREACH;
}
