/** The reading half of a link on a descriptor that gives a frame a read: when to read, and what the end of it means. */
import type { Descriptor } from '../sys/descriptor.ts';
import { BATCH_FRAMES, type FrameOwner, type LinkServices } from './device-link.ts';

/** Turns in a row that may bring a single frame each. */
const LONE_FRAMES = 3;

export class FrameReader {
  readonly #services: LinkServices;
  readonly #descriptor: Descriptor;
  /** Frames of the batch at hand: how many there may be, and how many there were. */
  #most = BATCH_FRAMES;
  #count = 0;
  /** What the last read said. */
  #result = 0;
  /** The last batch was a single frame. */
  #isLone = false;
  #lastTurn = 0;
  /** Turns in a row that brought frames. */
  #inARow = 0;

  constructor(services: LinkServices, descriptor: Descriptor) {
    this.#services = services;
    this.#descriptor = descriptor;
  }

  /** Frames of the last batch. */
  get count(): number {
    return this.#count;
  }

  /** Let `owner` take a batch. What the read said that came after its last frame, if there was one: 0 or `-errno`; else 1. */
  run(owner: FrameOwner): number {
    const { turn, batchFrames } = this.#services.clock;
    // A guest that asks and waits sends one frame at a time: looking for a second one would be a call in vain. One that
    // connects, acknowledges and closes does so a few turns in a row. More are a train, which is read to its end.
    this.#inARow = turn - this.#lastTurn > 1 ? 1 : this.#inARow + 1;
    // Between the turns of others nobody can tell.
    const isAlone = batchFrames === BATCH_FRAMES;
    this.#most = isAlone && this.#isLone && this.#inARow <= LONE_FRAMES ? 1 : BATCH_FRAMES;
    this.#lastTurn = turn;
    this.#count = 0;
    this.#result = 1;
    owner.onFrames();
    this.#isLone = this.#count === 1;
    return Math.min(this.#result, 1);
  }

  /** Read frame `index` of the batch into its slot: its length, or 0: there is none. */
  read(index: number): number {
    if (index >= this.#most) return 0;
    const n = this.#services.frames.read(this.#descriptor.fd, index);
    this.#result = n;
    if (n <= 0) return 0;
    this.#count = index + 1;
    return n;
  }
}
