/**
 * Descriptors that stay somebody else's: a link gets duplicates, and when it is closed the open files, which both have in
 * common, block again where they did.
 */
import { getSystemErrorName } from 'node:util';
import { DeviceError } from '../device-error.ts';
import { close, duplicate, setStatusFlags, statusFlags } from '../sys/io.ts';

interface Lent {
  /** The link's, and one that is kept for the end: the link closes its own, and the lender may close his. */
  copy: number;
  kept: number;
  flags: number;
}

export class Borrowed {
  readonly #lent = new Map<number, Lent>();

  /** @throws DeviceError */
  constructor(fds: readonly number[]) {
    for (const fd of new Set(fds)) {
      const flags = statusFlags(fd);
      const kept = flags < 0 ? flags : duplicate(fd);
      const copy = kept < 0 ? kept : duplicate(fd);
      if (kept >= 0) this.#lent.set(fd, { copy, kept, flags });
      if (copy >= 0) continue;
      this.drop();
      throw new DeviceError('descriptor', -copy, `descriptor ${fd}: ${getSystemErrorName(copy)}`);
    }
  }

  /** The link's own for that one. */
  of(fd: number): number {
    return this.#lent.get(fd)?.copy ?? -1;
  }

  /** The link, which has closed what was its own, is over. */
  giveBack(): void {
    for (const { kept, flags } of this.#lent.values()) {
      setStatusFlags(kept, flags);
      close(kept);
    }
    this.#lent.clear();
  }

  /** There is no link. */
  drop(): void {
    for (const { copy } of this.#lent.values()) if (copy >= 0) close(copy);
    this.giveBack();
  }
}
