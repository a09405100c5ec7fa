/**
 * Frames of the control protocol: 32 bits big-endian that say how many bytes of JSON follow, 1 to 1,048,576.
 *
 * What has come of a frame is kept in one buffer that grows with it, never ahead of it: a length alone reserves nothing.
 */
import { ProtocolFault } from './protocol-fault.ts';

export const FRAME_MAX = 1_048_576;
const HEADER_BYTES = 4;
/** What the buffer has when there is nothing in it. */
const IDLE_BYTES = 64 * 1024;

export class FrameDecoder {
  #buffer: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  /** Nothing of another frame has come. */
  get isEmpty(): boolean {
    return this.#start === this.#end;
  }

  push(chunk: Uint8Array): void {
    this.#makeRoom(chunk.length);
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next frame's content, until the next `push`; undefined: it is not complete. @throws ProtocolFault */
  next(): Buffer | undefined {
    if (this.#end - this.#start < HEADER_BYTES) return undefined;
    const length = this.#buffer.readUInt32BE(this.#start);
    if (length === 0 || length > FRAME_MAX)
      throw new ProtocolFault(`a frame of ${length} bytes; accepted: 1 to ${FRAME_MAX}`);
    const from = this.#start + HEADER_BYTES;
    if (this.#end - from < length) return undefined;
    this.#start = from + length;
    return this.#buffer.subarray(from, this.#start);
  }

  /** For `length` bytes more. */
  #makeRoom(length: number): void {
    const held = this.#end - this.#start;
    const needed = held + length;
    const isTooLarge = held === 0 && this.#buffer.length > IDLE_BYTES && needed <= IDLE_BYTES;
    if (this.#end + length <= this.#buffer.length && !isTooLarge) return;
    // Twice as much, so that a frame in many small pieces is not copied for each of them.
    const size = Math.max(needed, Math.min(2 * held, FRAME_MAX + HEADER_BYTES));
    const target = size > this.#buffer.length || isTooLarge ? Buffer.allocUnsafeSlow(size) : this.#buffer;
    this.#buffer.copy(target, 0, this.#start, this.#end);
    this.#buffer = target;
    this.#start = 0;
    this.#end = held;
  }
}

/** @throws RangeError when it is too long for a frame */
export function encodeFrame(message: object): Buffer {
  const text = JSON.stringify(message);
  const length = Buffer.byteLength(text);
  if (length > FRAME_MAX) throw new RangeError(`a message of ${length} bytes`);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  frame.writeUInt32BE(length, 0);
  frame.write(text, HEADER_BYTES);
  return frame;
}
