/** Beginning and end of service: the ready descriptor, and the one place that ends the process. */
import { closeSync, writeSync } from 'node:fs';
import type { Supervisor } from '../control/supervisor.ts';

/**
 * The data plane leaves within one turn, or as soon as it has loaded, which takes a busy machine seconds. A process that
 * does not end is worse than one that ends badly.
 */
const STOP_TIMEOUT_MS = 15_000;

/**
 * Tell whoever started us that packets flow: the byte `1`, and then the end of the stream. Does nothing for −1. The
 * standard streams stay open: what is opened next would take their place, and get what is meant for them.
 */
export function signalReady(fd: number): void {
  if (fd < 0) return;
  try {
    writeSync(fd, '1');
  } catch {
    // The reader has gone; that is its own business.
  }
  if (fd <= 2) return;
  try {
    closeSync(fd);
  } catch {
    // Closed by somebody else already.
  }
}

/** End the process with `code` after the data plane has ended. Further calls change nothing. */
export class Ending {
  private readonly supervisor: Supervisor;
  private begun = false;

  constructor(supervisor: Supervisor) {
    this.supervisor = supervisor;
  }

  get started(): boolean {
    return this.begun;
  }

  finish(code: number): void {
    if (this.begun) return;
    this.begun = true;
    process.exitCode = code;
    // A data plane that does not leave would also hold up process.exit for ever.
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), STOP_TIMEOUT_MS).unref();
    void this.supervisor.stop().then(() => process.exit(code));
  }
}
