/**
 * A `Link` as its guest sees it. Everything about the device is the link's: descriptors, events and deadlines, what
 * stands in front of a frame or between two of them, what waits for room, whether the other end is still there.
 *
 * The link says that frames have come; the guest then takes a batch of them, one `receive` each. Where they lie is valid
 * until the next batch, so that datagrams of one batch can be gathered into one system call.
 */
import type { Clock, Poller, Timers } from '../loop.ts';
import type { Link } from '../stack/link/link.ts';
import { VnetHeader } from '../stack/wire/vnet-header.ts';
import type { Memory } from '../sys/memory.ts';
import type { FrameIo } from './frame-io.ts';

/** Frames per batch; also what bounds the share of a turn that input may take. */
export const BATCH_FRAMES = 64;

/** Bytes per frame of a batch, on average: what a frame at the end of the device's queue waits for is a few batches. */
export const BATCH_FRAME_BYTES = 8192;

/** One frame received. Filled by `receive`. */
export class RxFrame {
  offset = 0;
  length = 0;
  /** What the device says about it. */
  readonly offload: VnetHeader = new VnetHeader();
}

/**
 * Why a link's other end is there no more: it has closed, between two frames or within one; what it sent can be no frame; it
 * does not answer; or something else.
 */
export type EndReason = 'closed' | 'truncated' | 'oversized' | 'timeout' | 'error';

/** What became of a peer of an encrypted or plain tunnel, which is heard from or not. */
export type PeerEvent =
  | { type: 'peer.up' | 'peer.roamed'; endpoint: string }
  | { type: 'peer.down'; reason: string };

/** Whoever takes a link's frames. They and the end are told by the loop, never from within one of the link's own functions. */
export interface FrameOwner {
  /** Frames have come. What is left of them is told of again. */
  onFrames(): void;
  /** So many frames that `transmit` has taken could not be sent; told by `flush`, too. */
  onUnsent(frames: number): void;
  /** No frame comes any more, for good; all that had come were taken. The link is still to be closed. `text` says why. */
  onGone(reason: EndReason, text: string): void;
}

/** Whoever has the link for good. */
export interface LinkOwner extends FrameOwner {
  /** `mtu` is another one from now on. */
  onMtu(): void;
  /** Of a link whose other end comes and goes: it has gone, and there is none; `full` until the next one has come. */
  onDown(reason: EndReason, text: string): void;
  /** It has come; `peer` says who. Whatever was known of whoever was there before may be otherwise now. */
  onUp(peer: string): void;
}

export interface DeviceLink extends Link {
  /** The other end is this machine's kernel: frames are neither lost nor late on the way. */
  readonly isLocal: boolean;
  /** `owner` is told from now on. 0 or `-errno`. */
  open(owner: LinkOwner): number;
  /**
   * Take frame `index` (0 … `BATCH_FRAMES` - 1) of a batch, which begins with 0. 1: it is where `frame` says; 0: there is
   * none; negative: it cannot be used, for this drop reason, and counts as one of the batch.
   */
  receive(index: number, frame: RxFrame): number;
  /** Figures of its own, by name, where it has any. */
  gauges?(): Record<string, number>;
  /** The turn is over: hand on what was only collected in it. Wanted by `LinkServices.touched`. */
  flush(): void;
  /** No frame comes or goes any more, and the owner is told nothing. May be called at any time. */
  close(): void;
}

/** A link that has no more to tell than frames and its end. */
export interface FrameLink extends DeviceLink {
  open(owner: FrameOwner): number;
}

/** What all links of a data plane share. */
export interface LinkServices {
  readonly memory: Memory;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly clock: Pick<Clock, 'turn' | 'batchFrames' | 'nowMs'>;
  readonly frames: FrameIo;
  /** Call `flush` at the end of the turn. */
  touched(): void;
  /** A peer was heard of, is not any more, or has moved. */
  onPeer(event: PeerEvent): void;
  log(level: 'info' | 'warn' | 'debug', message: string, fields?: Record<string, unknown>): void;
}
