/**
 * What the stack knows of a device: it takes frames, made of one run of headers and any number of payload pieces, and
 * may do checksums and segmentation.
 */
import { Parts } from '../buffer/byte-queue.ts';
import { VnetHeader } from '../wire/vnet-header.ts';

/** Payload pieces in one frame: a 64 KiB super-segment over 16 KiB pages, or a batch of datagrams. */
export const MAX_PARTS = 64;

/**
 * One frame to send. Borrowed: `transmit` is done with it when it returns. `headOffset` has at least
 * `VNET_HEADER_LEN` writable bytes in front of it, for the device's own header.
 */
export class TxFrame {
  headOffset = 0;
  /** Link, network and transport headers. */
  headLength = 0;
  /** The payload, in pieces. */
  parts: Parts = new Parts(MAX_PARTS);
  /** Bytes in `parts`. */
  payloadLength = 0;
  /** What the device is to do: checksum (`csumStart`, `csumOffset`) and segmentation. Zeroed when there is nothing. */
  readonly offload: VnetHeader = new VnetHeader();
}

export interface Link {
  readonly medium: 'ethernet' | 'ip';
  /** Bytes of IP packet. May be another number in the next turn: an interface can be changed while in use. */
  readonly mtu: number;
  /** Bytes of the longest IP packet that may come, where that is more than what may go. */
  readonly mru?: number | undefined;
  /** Checksums of what we send may be left to the device. */
  readonly checksumOffload: boolean;
  /** TCP super-segments may be sent. */
  readonly tso: boolean;
  /** UDP batches may be sent. */
  readonly uso: boolean;
  /** So much waits to be taken by the device that TCP should not send more for now. Always false for most devices. */
  readonly full: boolean;
  /** A frame longer than `mtu` has come: if it was raised and that is not known yet, now is the time. */
  refreshMtu(): void;
  /** Send a frame; negative: it was not taken, `-errno`. */
  transmit(frame: TxFrame): number;
}
