/**
 * The peer's end of a link: raw frames written to and read from a TAP or a packet socket, and given to whoever has the
 * port. A frame that the kernel does not take at once waits.
 */
import { EAGAIN, EINTR } from '../../../src/sys/errno.ts';
import { read, setNonBlocking, write } from '../../../src/sys/io.ts';
import { libcFunction } from '../../../src/sys/libc.ts';
import { Memory } from '../../../src/sys/memory.ts';
import { type Decoded, decode, frame, TCP } from '../lab/packets.ts';

const POLLIN = 1;
/** How long the event loop may be held up when there is nothing to read. */
const WAIT_MS = 1;
/** Frames taken from one wire before the other is looked at. */
const BATCH = 64;
const FRAME_MAX = 128 * 1024;

const cPoll = libcFunction('poll', 'int', ['uintptr_t', 'ulong', 'int']);
const memory = new Memory(new ArrayBuffer(FRAME_MAX + 4096));
const bytes = Buffer.from(memory.view.buffer as ArrayBuffer);

export class Wire {
  readonly fd: number;
  readonly #receivers = new Map<number, (segment: Decoded) => void>();
  #waiting: Buffer[] = [];

  constructor(fd: number) {
    this.fd = fd;
    setNonBlocking(fd);
  }

  /** TCP segments for this port of the peer go to `receiver`. */
  claim(port: number, receiver: (segment: Decoded) => void): void {
    this.#receivers.set(port, receiver);
  }

  release(port: number): void {
    this.#receivers.delete(port);
  }

  /** Send an IP packet. */
  send(packet: Buffer): void {
    const whole = frame(packet);
    if (this.#waiting.length > 0 || !this.#write(whole)) this.#waiting.push(whole);
  }

  /** Take what has arrived, and send what had to wait. */
  turn(): void {
    while (this.#waiting.length > 0 && this.#write(this.#waiting[0] as Buffer)) this.#waiting.shift();
    for (let i = 0; i < BATCH; i++) {
      const n = read(memory, this.fd, 0, FRAME_MAX);
      if (n <= 0) return;
      const segment = decode(Buffer.from(bytes.subarray(0, n)));
      if (segment.protocol === TCP) this.#receivers.get(segment.dstPort)?.(segment);
    }
  }

  #write(whole: Buffer): boolean {
    whole.copy(bytes);
    const n = write(memory, this.fd, 0, whole.length);
    if (n === -EAGAIN || n === -EINTR) return false;
    if (n !== whole.length) throw new Error(`write to the link: ${n}`);
    return true;
  }
}

/** Keeps frames moving on some wires, beside everything else that Node does, until it is stopped. */
export class Pump {
  readonly #wires: readonly Wire[];
  #stopped = false;
  readonly #ended: Promise<void>;

  constructor(wires: readonly Wire[]) {
    this.#wires = wires;
    this.#ended = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.#wires.forEach((wire, i) => {
        memory.view.setInt32(FRAME_MAX + 8 * i, wire.fd, true);
        memory.view.setInt32(FRAME_MAX + 8 * i + 4, POLLIN, true);
      });
      cPoll(memory.address(FRAME_MAX, 8 * this.#wires.length), this.#wires.length, WAIT_MS);
      for (const wire of this.#wires) wire.turn();
      await new Promise(setImmediate);
    }
  }
}
