/**
 * A UDP socket of a link that packets pass inside of datagrams: received in batches, where frames of a device would be; sent
 * at the end of a turn, those of one destination and size in one go (UDP_SEGMENT) where the way out takes that.
 *
 * Limits: answers leave from the address that the host's routes choose; what the socket has no room for is lost, as on any
 * network. There is one socket for both families where the host has IPv6.
 */
import { DeviceError } from '../device-error.ts';
import { formatEndpoint, IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { controlSpace, putControlMessage } from '../sys/control-message.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EAFNOSUPPORT, EAGAIN, EINVAL, EIO, EMSGSIZE, ENOBUFS, errnoText } from '../sys/errno.ts';
import { close } from '../sys/io.ts';
import { IOVEC_SIZE, type Memory } from '../sys/memory.ts';
import {
  AF_INET,
  AF_INET6,
  bind,
  getsockname,
  IP_MTU_DISCOVER,
  IP_PMTUDISC_DO,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_MTU_DISCOVER,
  IPV6_V6ONLY,
  MMSGHDR_SIZE,
  putMsghdr,
  putSockaddr4,
  putSockaddr6,
  recvmmsg,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOCKADDR_SIZE,
  SOL_SOCKET,
  sendmmsg,
  sendto,
  setsockoptInt,
  socket,
  UDP_SEGMENT,
} from '../sys/socket.ts';
import { OuterAddress } from '../wireguard/outer-address.ts';
import { BATCH_FRAMES } from './device-link.ts';
import type { FrameIo } from './frame-io.ts';

/** Bytes asked for each way; the system may give less. */
const SOCKET_BYTES = 4 * 1024 * 1024;
/** Of datagrams that wait for the end of the turn. */
const QUEUE_BYTES = 256 * 1024;
const QUEUE_MAX = 64;
/** What one call with UDP_SEGMENT takes. */
const RUN_BYTES = 65_000;
const CONTROL_BYTES: number = controlSpace(2);
/** In a struct mmsghdr: bytes of the address, bytes of the message. */
const NAME_LENGTH_AT = 8;
const MSG_LENGTH_AT = 56;
const NAME_BYTES = 32;

export interface OuterSocketServices {
  readonly memory: Memory;
  readonly frames: FrameIo;
}

export interface OuterSocketOptions {
  /** Where it is bound; empty: everywhere. */
  address?: string;
  /** 0: the system's choice. */
  port: number;
  /** Bytes of the largest datagram that is queued. */
  largest: number;
  /** Datagrams are not cut on their way (DF): one to `to` was too long for it. Otherwise the host's system cuts them. */
  onTooLong?: (to: OuterAddress) => void;
}

export class OuterSocket {
  readonly port: number;
  /** Datagrams that could not be sent. */
  unsent = 0;
  readonly #memory: Memory;
  readonly #frames: FrameIo;
  readonly #descriptor: Descriptor;
  readonly #isIpv6: boolean;
  readonly #slots: number;
  readonly #slotBytes: number;
  readonly #slotCount: number;
  /** Headers, I/O vectors and addresses of what is received, which stay as they are. */
  readonly #received: number;
  readonly #senders: number;
  /** The same of what is sent. */
  readonly #headers: number;
  readonly #iovecs: number;
  readonly #names: number;
  readonly #controls: number;
  /** What waits to be sent. */
  readonly #lengths = new Int32Array(QUEUE_MAX);
  readonly #destinations: OuterAddress[];
  #queued = 0;
  /** By header of the call: its first datagram. */
  readonly #firsts = new Int32Array(QUEUE_MAX + 1);
  #takesRuns = true;
  readonly #onTooLong: ((to: OuterAddress) => void) | null;

  /** @throws DeviceError */
  constructor(services: OuterSocketServices, options: OuterSocketOptions) {
    const { memory, frames } = services;
    const { address = '', port, largest, onTooLong = null } = options;
    this.#onTooLong = onTooLong;
    this.#memory = memory;
    this.#frames = frames;
    const { slab } = frames;
    this.#slotBytes = Math.ceil(largest / 64) * 64;
    this.#slotCount = Math.max(1, Math.min(QUEUE_MAX, Math.floor(QUEUE_BYTES / this.#slotBytes)));
    this.#slots = slab.region(this.#slotCount * this.#slotBytes);
    this.#names = slab.region(QUEUE_MAX * NAME_BYTES);
    this.#controls = slab.region(QUEUE_MAX * CONTROL_BYTES);
    const { structures } = memory;
    this.#headers = structures.region(QUEUE_MAX * MMSGHDR_SIZE);
    this.#iovecs = structures.region(QUEUE_MAX * IOVEC_SIZE);
    this.#received = structures.region(BATCH_FRAMES * MMSGHDR_SIZE);
    this.#senders = slab.region(BATCH_FRAMES * NAME_BYTES);
    const slots = structures.region(BATCH_FRAMES * IOVEC_SIZE);
    for (let i = 0; i < BATCH_FRAMES; i++) {
      const iovec = slots + i * IOVEC_SIZE;
      memory.putIovec(iovec, 0, frames.slot(i), frames.slotSize);
      const sender = this.#senders + i * NAME_BYTES;
      putMsghdr(memory, this.#received + i * MMSGHDR_SIZE, sender, SOCKADDR_SIZE, iovec, 1, 0, 0);
    }
    this.#destinations = Array.from({ length: this.#slotCount }, () => new OuterAddress());
    const [fd, isIpv6] = openSocket(memory, frames.scratch, address, port);
    this.#descriptor = new Descriptor(fd);
    this.#isIpv6 = isIpv6;
    for (const option of [SO_RCVBUF, SO_SNDBUF])
      setsockoptInt(memory, fd, SOL_SOCKET, option, SOCKET_BYTES, frames.scratch);
    if (onTooLong !== null) {
      setsockoptInt(memory, fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, frames.scratch);
      if (isIpv6) setsockoptInt(memory, fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO, frames.scratch);
    }
    getsockname(memory, fd, frames.scratch);
    this.port = memory.view.getUint16(frames.scratch + 2);
  }

  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Read up to `BATCH_FRAMES` datagrams into the slots of frames; how many, or `-errno`. */
  receive(): number {
    const memory = this.#memory;
    const count = recvmmsg(memory, this.fd, this.#received, BATCH_FRAMES);
    // The system has put the lengths of addresses where it reads how much room there is for the next.
    for (let i = 0; i < count; i++)
      memory.structures.view.setUint32(
        this.#received + i * MMSGHDR_SIZE + NAME_LENGTH_AT,
        SOCKADDR_SIZE,
        true,
      );
    return count;
  }

  /** Bytes of datagram `index` of the batch. */
  lengthOf(index: number): number {
    return this.#memory.structures.view.getUint32(
      this.#received + index * MMSGHDR_SIZE + MSG_LENGTH_AT,
      true,
    );
  }

  /** Who has sent datagram `index` of the batch. */
  senderOf(index: number, out: OuterAddress): void {
    const { view } = this.#memory;
    const at = this.#senders + index * NAME_BYTES;
    out.port = view.getUint16(at + 2);
    out.scopeId = 0;
    if (!this.#isIpv6) {
      out.address.readV4(view, at + 4);
      return;
    }
    out.address.readV6(view, at + 8);
    if (out.address.isLinkLocal) out.scopeId = view.getUint32(at + 24, true);
  }

  /** Send `length` bytes at `at` now. */
  send(at: number, length: number, to: OuterAddress): void {
    const { scratch } = this.#frames;
    const result = sendto(this.#memory, this.fd, at, length, scratch, this.#putName(scratch, to));
    if (result < 0) this.unsent++;
    if (result === -EMSGSIZE) this.#onTooLong?.(to);
  }

  /** Where the next datagram to be queued goes. */
  get slot(): number {
    if (this.#queued === this.#slotCount) this.flush();
    return this.#slots + this.#queued * this.#slotBytes;
  }

  /** The next slot has been filled with `length` bytes. They are sent by `flush`. */
  push(length: number, to: OuterAddress): void {
    this.#lengths[this.#queued] = length;
    this.#destinations[this.#queued]!.copyFrom(to);
    this.#queued++;
  }

  /** Send what waits. */
  flush(): void {
    const count = this.#queued;
    this.#queued = 0;
    let done = 0;
    while (done < count) {
      const headers = this.#putRuns(done, count);
      const result = sendmmsg(this.#memory, this.fd, this.#headers, headers);
      const sent = Math.max(result, 0);
      done = this.#firsts[sent]!;
      if (result >= 0) continue;
      const next = this.#firsts[1]!;
      const isRun = next - done > 1;
      if (isRun && (result === -EINVAL || result === -EIO || result === -EMSGSIZE)) {
        this.#takesRuns = false;
        continue;
      }
      if (result === -EMSGSIZE && this.#onTooLong !== null) {
        // That was why a run was not taken.
        this.#takesRuns = true;
        this.#onTooLong(this.#destinations[done]!);
      }
      // No room: the others would find none either.
      const isFull = result === -EAGAIN || result === -ENOBUFS;
      this.unsent += (isFull ? count : next) - done;
      done = isFull ? count : next;
    }
  }

  close(): void {
    this.#queued = 0;
    this.#descriptor.close();
  }

  /** Describe datagrams `from` to `to` to the system, as few as can be; how many headers. */
  #putRuns(from: number, to: number): number {
    let headers = 0;
    let first = from;
    while (first < to) {
      this.#firsts[headers] = first;
      const next = this.#endOfRun(first, to);
      this.#putRun(headers, first, next);
      headers++;
      first = next;
    }
    this.#firsts[headers] = to;
    return headers;
  }

  /** Datagrams that can go with `first`: to the same place, of the same size; the last may be shorter. */
  #endOfRun(first: number, to: number): number {
    let next = first + 1;
    if (!this.#takesRuns) return next;
    const size = this.#lengths[first]!;
    const destination = this.#destinations[first]!;
    let bytes = size;
    while (next < to) {
      const length = this.#lengths[next]!;
      if (length > size || bytes + length > RUN_BYTES) break;
      if (!this.#destinations[next]!.equals(destination)) break;
      bytes += length;
      next++;
      if (length < size) break;
    }
    return next;
  }

  #putRun(index: number, first: number, next: number): void {
    const memory = this.#memory;
    const name = this.#names + index * NAME_BYTES;
    const nameLength = this.#putName(name, this.#destinations[first]!);
    const iovec = this.#iovecs + first * IOVEC_SIZE;
    for (let i = first; i < next; i++)
      memory.putIovec(iovec, i - first, this.#slots + i * this.#slotBytes, this.#lengths[i]!);
    const control = this.#controls + index * CONTROL_BYTES;
    const isRun = next - first > 1;
    if (isRun) {
      const at = putControlMessage(memory, control, IPPROTO_UDP, UDP_SEGMENT, 2);
      memory.view.setUint16(at, this.#lengths[first]!, true);
    }
    const header = this.#headers + index * MMSGHDR_SIZE;
    putMsghdr(memory, header, name, nameLength, iovec, next - first, control, isRun ? CONTROL_BYTES : 0);
  }

  #putName(at: number, { address, port, scopeId }: OuterAddress): number {
    const { w0, w1, w2, w3 } = address;
    if (!this.#isIpv6) return putSockaddr4(this.#memory, at, w3, port);
    return putSockaddr6(this.#memory, at, w0, w1, w2, w3, port, scopeId);
  }
}

/**
 * A socket at `text`, or on all addresses of the host: then of both families where it has IPv6. @throws DeviceError
 */
function openSocket(
  memory: Memory,
  scratch: number,
  text: string,
  port: number,
): [fd: number, isIpv6: boolean] {
  const address = text === '' ? new IpAddress() : parseIpAddress(text);
  const { w0, w1, w2, w3 } = address;
  let result = -EAFNOSUPPORT;
  for (const isIpv6 of text === '' ? [true, false] : [!address.isV4]) {
    const fd = socket(isIpv6 ? AF_INET6 : AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    result = fd;
    if (fd < 0) continue;
    if (isIpv6) setsockoptInt(memory, fd, IPPROTO_IPV6, IPV6_V6ONLY, address.isUnspecified ? 0 : 1, scratch);
    const length = isIpv6
      ? putSockaddr6(memory, scratch, w0, w1, w2, w3, port, 0)
      : putSockaddr4(memory, scratch, text === '' ? 0 : w3, port);
    result = bind(memory, fd, scratch, length);
    if (result === 0) return [fd, isIpv6];
    close(fd);
  }
  const where = text === '' ? `port ${port}` : formatEndpoint({ address: text, port });
  throw new DeviceError('link', -result, `UDP ${where}: ${errnoText(result)}`);
}
