/**
 * Pipes that bytes of spliced connections pass through. A connection has one for each direction that has much to pass, and only
 * for as long.
 *
 * Limits: `SPARE_MAX` wait for another use.
 */
import { close } from '../../sys/io.ts';
import { pipe, setPipeSize } from '../../sys/splice.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';

/** Bytes of a pipe, where its user may have that much (fs.pipe-user-pages-soft). */
export const PIPE_BYTES: number = 256 * 1024;
const SPARE_MAX = 8;

/** Empty whenever it changes hands. */
export interface Pipe {
  readonly reading: number;
  readonly writing: number;
}

export class Pipes {
  readonly #context: FlowContext;
  readonly #spare: Pipe[] = [];

  constructor(context: FlowContext) {
    this.#context = context;
  }

  /** Null: there is none to be had. */
  take(): Pipe | null {
    const { memory, scratch, descriptors } = this.#context;
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    if (!descriptors.hasRoom(DescriptorUse.Tcp) || pipe(memory, scratch.option) < 0) return null;
    descriptors.take(DescriptorUse.Tcp);
    descriptors.take(DescriptorUse.Tcp);
    const made = {
      reading: memory.view.getInt32(scratch.option, true),
      writing: memory.view.getInt32(scratch.option + 4, true),
    };
    setPipeSize(made.writing, PIPE_BYTES);
    return made;
  }

  /** `isEmpty`: nothing is left in it. */
  giveBack(used: Pipe, isEmpty: boolean): void {
    if (isEmpty && this.#spare.length < SPARE_MAX) this.#spare.push(used);
    else this.#close(used);
  }

  /** Those that wait are closed. */
  clear(): void {
    for (const spare of this.#spare.splice(0)) this.#close(spare);
  }

  #close({ reading, writing }: Pipe): void {
    const { descriptors } = this.#context;
    close(reading);
    close(writing);
    descriptors.giveBack(DescriptorUse.Tcp);
    descriptors.giveBack(DescriptorUse.Tcp);
  }
}
