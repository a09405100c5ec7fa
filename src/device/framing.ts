/**
 * How frames are kept apart on a byte stream: each behind its length, in 32 bits big-endian (QEMU, passt) or 16 bits
 * little-endian (hyperkit, gvisor-tap-vsock's vsock and stdio forms). Pure; in place, nothing is copied.
 */
import type { Framing } from '../device-spec.ts';

export type StreamFraming = Exclude<Framing, 'bare'>;

/** Least bytes of a frame: an Ethernet header, or an IPv4 header where there is none. */
export const LEAST_FRAME = { ethernet: 14, ip: 20 } as const;
/** The longest frame that anybody may send: 65,535 bytes of IP packet behind an Ethernet header. */
export const MOST_FRAME = 65549;

export const LENGTH_BYTES: Record<StreamFraming, number> = { be32: 4, le16: 2 };

/** The length before `at` says nothing that a frame can have. */
export const BAD_LENGTH = -1;

/** What the length that begins at `at` says; its bytes must be there. */
export function announcedLength(bytes: Uint8Array, at: number, framing: StreamFraming): number {
  const b0 = bytes[at] as number;
  const b1 = bytes[at + 1] as number;
  if (framing === 'le16') return b0 | (b1 << 8);
  return ((b0 << 24) | (b1 << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)) >>> 0;
}

/**
 * The length of the frame whose own length begins at `at`: 0: not all of it is there (before `end`); `BAD_LENGTH`: what
 * is there cannot be one. The frame itself is behind its length.
 */
export function cutFrame(
  bytes: Uint8Array,
  at: number,
  end: number,
  framing: StreamFraming,
  least: number,
): number {
  const prefix = LENGTH_BYTES[framing];
  if (end - at < prefix) return 0;
  const length = announcedLength(bytes, at, framing);
  if (length < least || length > MOST_FRAME) return BAD_LENGTH;
  return end - at - prefix < length ? 0 : length;
}

/** Write the length of a frame. */
export function putLength(bytes: Uint8Array, at: number, length: number, framing: StreamFraming): void {
  if (framing === 'le16') {
    bytes[at] = length;
    bytes[at + 1] = length >>> 8;
    return;
  }
  bytes[at] = length >>> 24;
  bytes[at + 1] = length >>> 16;
  bytes[at + 2] = length >>> 8;
  bytes[at + 3] = length;
}
