/**
 * The bytes of a file as it grows, from its beginning, as `tail -F` has it: a file that becomes shorter, or another one of
 * the same name, is read from its beginning. It need not be there yet. A watch tells of changes at once; a look each second
 * finds what no watch sees (a network file system, a directory that was made anew).
 */
import { closeSync, type FSWatcher, fstatSync, openSync, readSync, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

const LOOK_MS = 1000;
/** Bytes that are read before others on this thread have their turn. */
const PIECE_MAX = 64 * 1024;

export interface FileHandlers {
  piece: (bytes: Buffer) => void;
  /** The next piece is a beginning. */
  restarted: () => void;
}

export class FollowedFile {
  readonly #path: string;
  readonly #handlers: FileHandlers;
  readonly #buffer = Buffer.allocUnsafe(PIECE_MAX);
  readonly #timer: NodeJS.Timeout;
  readonly #watcher: FSWatcher | undefined;
  #fd = -1;
  #identity = '';
  #position = 0;
  #isReading = false;

  constructor(path: string, handlers: FileHandlers) {
    this.#path = path;
    this.#handlers = handlers;
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
    this.#watcher = this.#watch();
    this.#look();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
    this.#forget();
  }

  #watch(): FSWatcher | undefined {
    try {
      const name = basename(this.#path);
      const watcher = watch(dirname(this.#path), { persistent: false }, (_kind, changed) => {
        if (changed === null || changed === name) this.#look();
      });
      return watcher.on('error', () => watcher.close());
    } catch {
      // Then there are the looks.
      return undefined;
    }
  }

  #look(): void {
    // Whoever reads looks again when all is read.
    if (this.#isReading) return;
    try {
      if (this.#fd < 0 && !this.#open()) return;
      if (!this.#read()) return;
      const now = identityOf(this.#path);
      if (now === this.#identity) return;
      // All of the old one is read.
      this.#forget();
      this.#look();
    } catch {
      this.#forget();
    }
  }

  #open(): boolean {
    const identity = identityOf(this.#path);
    if (identity === '') return false;
    this.#fd = openSync(this.#path, 'r');
    this.#identity = identityOf(this.#fd);
    this.#position = 0;
    this.#handlers.restarted();
    return true;
  }

  /** False: there is more, and it is read in a turn of its own. */
  #read(): boolean {
    const { size } = fstatSync(this.#fd);
    if (size < this.#position) {
      this.#position = 0;
      this.#handlers.restarted();
    }
    const length = readSync(this.#fd, this.#buffer, 0, PIECE_MAX, this.#position);
    this.#position += length;
    if (length > 0) this.#handlers.piece(this.#buffer.subarray(0, length));
    if (length < PIECE_MAX) return true;
    this.#isReading = true;
    setImmediate(() => {
      this.#isReading = false;
      this.#look();
    });
    return false;
  }

  #forget(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    this.#identity = '';
  }
}

/** Of a regular file; empty: there is none. A FIFO in this place must not block us. */
function identityOf(file: string | number): string {
  const stat = typeof file === 'number' ? fstatSync(file) : statSync(file, { throwIfNoEntry: false });
  return stat?.isFile() === true ? `${stat.dev}:${stat.ino}` : '';
}
