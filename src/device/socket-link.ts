/**
 * A packet socket as a `Link`: one Ethernet frame per packet, nothing in front of it. Unix datagram sockets (gVisor,
 * slirpnetstack's -fd, QEMU's dgram) and SOCK_SEQPACKET (User Mode Linux "bess").
 *
 * Unlike a TAP such a socket can be full: its peer reads when it likes. Frames then wait in a bounded queue, and `full`
 * tells TCP to make no more of them; what comes all the same (datagrams, control messages) waits in the rest of the queue,
 * and beyond that is dropped like on any link.
 *
 * Limits: the peer of a datagram socket can vanish without a sign: frames are then refused, one by one, until it is back
 * or we are ended. There are no offloads: every checksum is ours.
 */
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { EAGAIN, ENOBUFS } from '../sys/errno.ts';
import { write } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';
import type { DeviceLink } from './device-link.ts';
import { SendQueue } from './send-queue.ts';
import { TapLink } from './tap-link.ts';

/** Bytes of frames that may wait. */
const QUEUE_BYTES = 1024 * 1024;
/** `full` from here on. */
const FULL_BYTES = 256 * 1024;

export class SocketLink implements DeviceLink {
  readonly medium = 'ethernet';
  readonly mtu: number;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly vnetLength = 0;
  readonly isLocal = false;
  readonly endsWithPeer: boolean;
  readonly #memory: Memory;
  /** Reads and writes whole packets as on a TAP without headers. */
  readonly #packets: TapLink;
  readonly #queue: SendQueue;

  /** Takes over `fd`, which is non-blocking. `endsWithPeer`: the socket is connection-oriented. */
  constructor(fd: number, mtu: number, endsWithPeer: boolean, slab: Slab, memory: Memory) {
    this.mtu = mtu;
    this.endsWithPeer = endsWithPeer;
    this.#memory = memory;
    const properties = { medium: 'ethernet', mtu, vnetHeader: false } as const;
    const offloads = { checksumOffload: false, tso: false, uso: false };
    this.#packets = new TapLink(fd, { ...properties, ...offloads }, slab, memory);
    this.#queue = new SendQueue(slab, QUEUE_BYTES);
  }

  get fd(): number {
    return this.#packets.fd;
  }

  get full(): boolean {
    return this.#queue.used >= FULL_BYTES;
  }

  get waiting(): boolean {
    return this.#queue.used > 0;
  }

  slot(index: number): number {
    return this.#packets.slot(index);
  }

  receive(index: number): number {
    return this.#packets.receive(index);
  }

  transmit(frame: TxFrame): number {
    if (this.#queue.used === 0) {
      const result = this.#packets.transmit(frame);
      if (result !== -EAGAIN && result !== -ENOBUFS) return result;
    }
    return this.#queue.push(frame) ? 0 : -ENOBUFS;
  }

  flush(): void {
    const queue = this.#queue;
    while (queue.used > 0) {
      const result = write(this.#memory, this.fd, queue.offset, queue.length);
      if (result === -EAGAIN || result === -ENOBUFS) return;
      // Sent, or refused for good.
      queue.shift();
    }
  }

  close(): void {
    this.#packets.close();
  }
}
