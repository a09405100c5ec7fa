/** Frames out of a stream of them, each behind its length in 32 bits, big-endian, however the stream comes in pieces. */
const LENGTH_BYTES = 4;

export class FrameCutter {
  #kept: Buffer = Buffer.alloc(0);

  /** The frames that are whole now. What they are in is the caller's only until the next piece. */
  add(piece: Buffer): Buffer[] {
    const all = this.#kept.length === 0 ? piece : Buffer.concat([this.#kept, piece]);
    const frames: Buffer[] = [];
    let at = 0;
    while (all.length - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + all.readUInt32BE(at);
      if (end > all.length) break;
      frames.push(all.subarray(at + LENGTH_BYTES, end));
      at = end;
    }
    this.#kept = all.subarray(at);
    return frames;
  }
}

/** The length that comes in front of a frame. */
export function lengthPrefix(length: number): Buffer {
  const prefix = Buffer.allocUnsafe(LENGTH_BYTES);
  prefix.writeUInt32BE(length);
  return prefix;
}
