/**
 * Memory that flows use within one call and keep nothing in: one set for all guests of a data plane, of whom one runs at a
 * time. What a guest has to keep, it keeps in pages of the slab.
 */
import type { Slab } from '../../stack/buffer/slab.ts';
import { IOVEC_SIZE, type Memory } from '../../sys/memory.ts';
import { PACKET_INFO_SPACE } from '../../sys/packet-info.ts';
import { MMSGHDR_SIZE, putMsghdr, SOCKADDR_SIZE, SOCKADDR_UN_SIZE } from '../../sys/socket.ts';
import { HostScratch } from '../host/scratch.ts';
import { payloadRegion, ReceiveSlots } from '../udp/batch.ts';

/** Datagrams that leave in one call: as many as a batch has frames. */
export const MAX_DATAGRAMS_OUT = 64;

export class FlowScratch extends HostScratch {
  /** 2 MiB, where datagrams are received; anything up to `SLOT_SIZE` bytes may pass through the beginning of it. */
  readonly payloads: number;
  /** For sockets that are connected, for those of whose datagrams the sender counts, and for those of local forwards. */
  readonly plainSlots: ReceiveSlots;
  readonly namedSlots: ReceiveSlots;
  readonly localSlots: ReceiveSlots;
  /** Among the structures: headers of datagrams to be sent to a connected peer, with one I/O vector each. */
  readonly outHeaders: number;
  readonly outIovecs: number;

  constructor(slab: Slab, memory: Memory) {
    super(slab, memory);
    this.payloads = payloadRegion(slab);
    this.plainSlots = new ReceiveSlots(slab, memory, this.payloads, 0, 0);
    this.namedSlots = new ReceiveSlots(slab, memory, this.payloads, SOCKADDR_SIZE, 0);
    this.localSlots = new ReceiveSlots(slab, memory, this.payloads, SOCKADDR_UN_SIZE, PACKET_INFO_SPACE);
    const { structures } = memory;
    this.outHeaders = structures.region(MAX_DATAGRAMS_OUT * MMSGHDR_SIZE);
    this.outIovecs = structures.region(MAX_DATAGRAMS_OUT * IOVEC_SIZE);
    for (let i = 0; i < MAX_DATAGRAMS_OUT; i++) {
      const iovec = this.outIovecs + i * IOVEC_SIZE;
      putMsghdr(memory, this.outHeaders + i * MMSGHDR_SIZE, 0, 0, iovec, 1, 0, 0);
    }
  }
}
