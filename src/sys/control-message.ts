/** Ancillary data of sendmsg(2) and recvmsg(2): cmsg(3) on arena memory. */
import type { Memory } from './memory.ts';

/** struct cmsghdr: length (8), level (4), type (4). */
export const CMSGHDR_SIZE = 16;

/** Bytes that a message with `size` bytes of data takes (CMSG_SPACE). */
export function controlSpace(size: number): number {
  return CMSGHDR_SIZE + ((size + 7) & ~7);
}

/** Write the header of a message at `at`, and zeros where its `size` bytes of data go; where that is. */
export function putControlMessage(
  memory: Memory,
  at: number,
  level: number,
  type: number,
  size: number,
): number {
  const { view } = memory;
  memory.putSize(at, CMSGHDR_SIZE + size);
  view.setUint32(at + 8, level, true);
  view.setUint32(at + 12, type, true);
  for (let i = CMSGHDR_SIZE; i < controlSpace(size); i += 4) view.setUint32(at + i, 0, true);
  return at + CMSGHDR_SIZE;
}

/**
 * Find the message (`level`, `type`) with at least `size` bytes of data among `length` bytes at `at`; where its data
 * begin, or -1.
 */
export function findControlMessage(
  memory: Memory,
  at: number,
  length: number,
  level: number,
  type: number,
  size: number,
): number {
  const { view } = memory;
  const end = at + length;
  let message = at;
  while (message + CMSGHDR_SIZE <= end) {
    const messageLength = view.getUint32(message, true);
    if (messageLength < CMSGHDR_SIZE || message + messageLength > end) return -1;
    if (
      view.getUint32(message + 8, true) === level &&
      view.getUint32(message + 12, true) === type &&
      messageLength >= CMSGHDR_SIZE + size
    ) {
      return message + CMSGHDR_SIZE;
    }
    message += (messageLength + 7) & ~7;
  }
  return -1;
}
