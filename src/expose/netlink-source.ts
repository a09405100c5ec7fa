/**
 * Looking by a NETLINK_SOCK_DIAG socket that was made in the guest's namespace, and so tells of that one whoever asks. Plain
 * reads and writes: what is asked for is there at once.
 *
 * An answer that is byte for byte the one before is not read again: the usual case, and a copy and a comparison are all it
 * costs.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { Protocol } from './event.ts';
import type { OpenSocket } from './open-socket.ts';
import { diagEnd, diagRequest, readDiag } from './sock-diag.ts';
import { READ_MAX, type SocketSource } from './socket-source.ts';

/** The kernel gives no longer pieces. */
const PIECE_BYTES = 32768;
/** Answers that were interrupted are asked for again so often. */
const TRIES = 3;

/** What is asked in one dump, and the answer. */
interface Question {
  readonly proto: Protocol;
  readonly request: Uint8Array;
  answer: Buffer;
  length: number;
  sockets: OpenSocket[];
}

export class NetlinkSource implements SocketSource {
  readonly method = 'netlink';
  readonly #fd: number;
  readonly #questions: Question[];
  #spare: Buffer = Buffer.alloc(2 * PIECE_BYTES);
  #all: readonly OpenSocket[] = [];

  /** `fd`, which it closes, does not block. */
  constructor(fd: number) {
    this.#fd = fd;
    const question = (proto: Protocol, family: 4 | 6): Question => ({
      ...{ proto, request: diagRequest(proto, family), answer: Buffer.alloc(2 * PIECE_BYTES) },
      ...{ length: -1, sockets: [] },
    });
    this.#questions = [question('tcp', 4), question('tcp', 6), question('udp', 4), question('udp', 6)];
  }

  look(): readonly OpenSocket[] {
    let hasChanged = false;
    for (const question of this.#questions) {
      if (this.#ask(question)) hasChanged = true;
    }
    if (hasChanged) this.#all = this.#questions.flatMap(({ sockets }) => sockets);
    return this.#all;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** True: the answer is another than before. */
  #ask(question: Question): boolean {
    let length = this.#dump(question.request);
    for (let tries = 1; length < 0 && tries < TRIES; tries++) length = this.#dump(question.request);
    // So much coming and going that no answer is whole: what there was is as good.
    if (length < 0) return false;
    const answer = this.#spare;
    if (length === question.length && answer.compare(question.answer, 0, length, 0, length) === 0)
      return false;
    this.#spare = question.answer;
    question.answer = answer;
    question.length = length;
    const view = new DataView(answer.buffer, answer.byteOffset, length);
    question.sockets = readDiag(view, question.proto, READ_MAX);
    return true;
  }

  /** Bytes of the answer, in `#spare`; -1: it was interrupted. */
  #dump(request: Uint8Array): number {
    writeSync(this.#fd, request);
    let length = 0;
    for (;;) {
      if (this.#spare.length < length + PIECE_BYTES)
        this.#spare = Buffer.concat([this.#spare], 2 * this.#spare.length);
      const count = readSync(this.#fd, this.#spare, length, PIECE_BYTES, null);
      const end = diagEnd(new DataView(this.#spare.buffer, this.#spare.byteOffset + length, count));
      length += count;
      if (end === 'done') return length;
      if (end === 'interrupted') {
        this.#drain();
        return -1;
      }
      if (end !== 'more') throw new Error(`sock_diag: ${getSystemErrorName(end)}`);
    }
  }

  /** Whatever is left of an answer. */
  #drain(): void {
    try {
      while (readSync(this.#fd, this.#spare, 0, PIECE_BYTES, null) > 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}
