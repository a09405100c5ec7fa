/**
 * Looking in /proc/PID/net, by files that were opened once: who has them open reads them wherever he is by then. It costs more
 * than asking the kernel, as the table of all connections is walked.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { Protocol } from './event.ts';
import type { OpenSocket } from './open-socket.ts';
import { readProcNet } from './proc-net.ts';
import { READ_MAX, type SocketSource } from './socket-source.ts';

/** As much as the kernel gives at a time is less. */
const PIECE_BYTES = 65536;

interface OpenFile {
  readonly proto: Protocol;
  readonly fd: number;
}

export class ProcSource implements SocketSource {
  readonly method = 'procfs';
  readonly #files: OpenFile[] = [];
  readonly #piece: Buffer = Buffer.alloc(PIECE_BYTES);
  #texts = '';
  #all: readonly OpenSocket[] = [];

  /** `directory`: /proc/PID/net of a process in the namespace. Throws if it cannot be read. */
  constructor(directory: string) {
    for (const [file, proto] of [
      ['tcp', 'tcp'],
      ['tcp6', 'tcp'],
      ['udp', 'udp'],
      ['udp6', 'udp'],
    ] as const) {
      try {
        this.#files.push({ proto, fd: openSync(`${directory}/${file}`, 'r') });
      } catch (error) {
        // A kernel without IPv6.
        if (file.endsWith('6') && (error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        this.close();
        throw error;
      }
    }
  }

  look(): readonly OpenSocket[] {
    const texts = this.#files.map(({ fd }) => this.#text(fd));
    const whole = texts.join('');
    if (whole !== this.#texts) {
      this.#texts = whole;
      this.#all = this.#files.flatMap(({ proto }, index) => readProcNet(texts[index] ?? '', proto, READ_MAX));
    }
    return this.#all;
  }

  close(): void {
    for (const { fd } of this.#files.splice(0)) closeSync(fd);
  }

  #text(fd: number): string {
    let text = '';
    for (let position = 0; ; ) {
      const count = readSync(fd, this.#piece, 0, PIECE_BYTES, position);
      if (count === 0) return text;
      position += count;
      text += this.#piece.toString('latin1', 0, count);
    }
  }
}
