/**
 * Capture files in the classic pcap format (libpcap 2.4, microseconds), the one that every tool reads.
 *
 *   file   = file header (24), then records
 *   record = seconds (4), microseconds (4), bytes kept (4), bytes on the wire (4), the frame
 *
 * Records are collected in arena memory (a frame gets there by `copyWithin`, without an object per piece) and written
 * by `flush`, or before that when the memory is full. A write that fails ends the capture and nothing else; a regular
 * file is then cut back to its last whole record.
 *
 * Writing blocks: to a pipe whose reader is slow, it holds up its caller. Standard output is written to as it is, neither
 * opened anew nor emptied nor closed: it may be a socket, or the middle of a file, and others have it too. Left out on
 * purpose: pcapng, rotation.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import type { Slab } from '../stack/buffer/slab.ts';

/** Ethernet frames (LINKTYPE_ETHERNET). */
export const LINKTYPE_ETHERNET = 1;
/** IPv4 and IPv6 packets without a link header (LINKTYPE_RAW). */
export const LINKTYPE_RAW = 101;
/** Bytes of arena memory for records not yet written. */
export const PCAP_BUFFER_BYTES: number = 256 * 1024;
/** Bytes kept of one frame; more than any frame has, super-segments included. */
export const PCAP_SNAP_LENGTH = 262144;

const STANDARD_OUTPUT = '/dev/stdout';
/** How long to wait for the reader of a pipe that does not wait by itself. */
const RETRY_MS = 1;

const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const FILE_HEADER_LEN = 24;
const RECORD_HEADER_LEN = 16;

/** Where records are until they are written. One for all writers of a data plane: who begins has the one before write. */
export class PcapBuffer {
  readonly slab: Slab;
  readonly offset: number;
  #user: PcapWriter | null = null;

  constructor(slab: Slab) {
    this.slab = slab;
    this.offset = slab.region(PCAP_BUFFER_BYTES);
  }

  take(writer: PcapWriter): void {
    if (this.#user === writer) return;
    this.#user?.flush();
    this.#user = writer;
  }
}

export interface PcapOptions {
  linkType: number;
  /** Byte order of the headers; little-endian unless set. */
  bigEndian?: boolean;
  /** What the file header says of the bytes kept of a frame. */
  snapLength?: number;
  /** What it says of the time zone, in seconds east of UTC; the times in the file are UTC whatever it says. */
  zoneOffset?: number;
  /** Wall-clock time, ms since 1970 with a fraction. */
  now?: () => number;
  /** Told when there is something to be flushed after there was nothing. */
  onFilled?: () => void;
  /** Told once, when a write failed and the capture has ended. */
  onError?: (message: string) => void;
}

/** Monotonic, unlike `Date.now()`, so that records are in order; exact to a quarter of a microsecond. */
function wallClockMs(): number {
  return performance.timeOrigin + performance.now();
}

export class PcapWriter {
  readonly #slab: Slab;
  readonly #path: string;
  readonly #littleEndian: boolean;
  readonly #now: () => number;
  readonly #onError: (message: string) => void;
  readonly #onFilled: () => void;
  readonly #buffer: PcapBuffer;
  /** The descriptor is not ours alone. */
  readonly #isShared: boolean;
  #fd: number;
  /** Bytes in the buffer, all of them whole records. */
  #used = 0;
  /** Bytes in the file, all of them whole records. */
  #written = 0;

  /** Creates or empties the file. @throws DeviceError */
  constructor(buffer: PcapBuffer, path: string, options: PcapOptions) {
    this.#slab = buffer.slab;
    this.#buffer = buffer;
    this.#path = path;
    this.#isShared = path === STANDARD_OUTPUT;
    this.#littleEndian = options.bigEndian !== true;
    this.#now = options.now ?? wallClockMs;
    this.#onError = options.onError ?? (() => {});
    this.#onFilled = options.onFilled ?? (() => {});
    this.#fd = -1;
    let step: DeviceStep = 'capture';
    try {
      this.#fd = this.#isShared ? 1 : openSync(path, 'w', 0o644);
      step = 'captureHeader';
      this.#putFileHeader(options);
      this.#writeOut();
    } catch (error) {
      this.#release(this.#fd);
      const { errno = 0 } = error as NodeJS.ErrnoException;
      throw new DeviceError(step, -errno, `cannot write capture file '${path}': ${reason(error)}`);
    }
  }

  /** False once a write has failed, or after `close`. */
  get active(): boolean {
    return this.#fd >= 0;
  }

  /**
   * Begin the record of a frame of `length` bytes. Returns the arena offset where the frame is to be put, all of it before
   * the next call; or -1 when there is no capture (any more), or the frame is longer than any can be.
   */
  begin(length: number): number {
    const size = RECORD_HEADER_LEN + length;
    if (size > PCAP_BUFFER_BYTES) return -1;
    if (this.#used + size > PCAP_BUFFER_BYTES) this.flush();
    if (this.#fd < 0) return -1;
    this.#buffer.take(this);
    if (this.#used === 0) this.#onFilled();
    const view = this.#slab.view;
    const at = this.#buffer.offset + this.#used;
    const nowMs = this.#now();
    const seconds = Math.floor(nowMs / 1000);
    view.setUint32(at, seconds, this.#littleEndian);
    view.setUint32(at + 4, Math.floor((nowMs - seconds * 1000) * 1000), this.#littleEndian);
    view.setUint32(at + 8, length, this.#littleEndian);
    view.setUint32(at + 12, length, this.#littleEndian);
    this.#used += size;
    return at + RECORD_HEADER_LEN;
  }

  /** Write the records collected so far. Never throws. */
  flush(): void {
    if (this.#used === 0 || this.#fd < 0) return;
    try {
      this.#writeOut();
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** Write what there is and close the file. */
  close(): void {
    this.flush();
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    try {
      this.#release(fd);
    } catch (error) {
      this.#onError(`capture file '${this.#path}': ${reason(error)}`);
    }
  }

  #putFileHeader({ linkType, snapLength = PCAP_SNAP_LENGTH, zoneOffset = 0 }: PcapOptions): void {
    this.#buffer.take(this);
    const view = this.#slab.view;
    const at = this.#buffer.offset;
    view.setUint32(at, MAGIC_MICROSECONDS, this.#littleEndian);
    view.setUint16(at + 4, 2, this.#littleEndian);
    view.setUint16(at + 6, 4, this.#littleEndian);
    view.setInt32(at + 8, zoneOffset, this.#littleEndian);
    // Accuracy, which everybody leaves at zero.
    view.setUint32(at + 12, 0);
    view.setUint32(at + 16, snapLength, this.#littleEndian);
    view.setUint32(at + 20, linkType, this.#littleEndian);
    this.#used = FILE_HEADER_LEN;
  }

  #writeOut(): void {
    let done = 0;
    while (done < this.#used) {
      done += this.#write(this.#buffer.offset + done, this.#used - done);
    }
    this.#written += done;
    this.#used = 0;
  }

  #write(offset: number, length: number): number {
    for (;;) {
      try {
        return writeSync(this.#fd, this.#slab.bytes, offset, length);
      } catch (error) {
        // Whoever else has the descriptor may have made it one that does not wait.
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
  }

  #release(fd: number): void {
    if (fd >= 0 && !this.#isShared) closeSync(fd);
  }

  #giveUp(error: unknown): void {
    const fd = this.#fd;
    this.#fd = -1;
    this.#used = 0;
    try {
      if (!this.#isShared) ftruncateSync(fd, this.#written);
    } catch {
      // Not a regular file, or as unwell as before: it stays as it is.
    }
    try {
      this.#release(fd);
    } catch {
      // The descriptor is gone in any case.
    }
    this.#onError(`capture stopped: cannot write '${this.#path}': ${reason(error)}`);
  }
}

/** The first line of what went wrong. */
function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n', 1)[0] ?? '';
}
