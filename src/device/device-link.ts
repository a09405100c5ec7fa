/** A `Link` as its owner sees it: a descriptor to wait for, and frames to be read from it in batches. */
import type { Link } from '../stack/link/link.ts';

/** Frames per batch; also what bounds the share of a turn that input may take. */
export const BATCH_FRAMES = 64;

export interface DeviceLink extends Link {
  /** Non-blocking, and the link's; -1 once it is closed. */
  readonly fd: number;
  /** Bytes of virtio-net header in front of every frame received: 0 or `VNET_HEADER_LEN`. */
  readonly vnetLength: number;
  /** The other end can close for good, which then reads as the end of file. */
  readonly endsWithPeer: boolean;
  /** The other end is this machine's kernel: frames are neither lost nor late on the way. */
  readonly isLocal: boolean;
  /** Frames wait for the device to take them: `flush` is to be called when the descriptor is writable. */
  readonly waiting: boolean;
  /** Where slot `index` (0 … BATCH_FRAMES - 1) begins. What is read there stays until the next batch. */
  slot(index: number): number;
  /** Read one frame into slot `index`: its length with the virtio-net header, or `-errno`; 0 = end of file. */
  receive(index: number): number;
  /** Send what waits, as far as the device takes it. */
  flush(): void;
  /** No frame comes or goes any more. May be called at any time. */
  close(): void;
}
