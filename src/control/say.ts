/**
 * Text on standard output and standard error, as a program says it whose readers may have gone: what cannot be written is
 * lost, and nothing else happens. `process.stderr.write` would throw, or end the process with an EPIPE.
 */
import { writeSync } from 'node:fs';

/** A reader that shares a non-blocking pipe with us gets this long, in steps, to take what we say. */
const PATIENCE_STEPS = 50;
const STEP_MS = 10;

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STEP_MS);
}

function say(fd: 1 | 2, text: string): void {
  let rest = Buffer.from(text);
  for (let step = 0; rest.length > 0 && step < PATIENCE_STEPS; ) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
      step++;
      pause();
    }
  }
}

export function sayOut(text: string): void {
  say(1, text);
}

export function sayError(text: string): void {
  say(2, text);
}
