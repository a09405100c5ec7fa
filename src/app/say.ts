/**
 * Text on standard output and standard error, as a program says it whose readers may have gone or be stuck: what cannot be
 * written is lost, and nothing else happens. `process.stderr.write` would wait, throw, or end the process with an EPIPE.
 */
import { LineOutput } from './line-output.ts';

/** Bytes that wait for whoever reads standard error. */
const ERRORS_MAX = 256 * 1024;

let output: LineOutput | undefined;
let errors: LineOutput | undefined;

/** Standard error, also for the log, so that everything there comes in one order. */
export function standardError(): LineOutput {
  errors ??= new LineOutput(2, ERRORS_MAX);
  return errors;
}

export function sayOut(text: string): void {
  output ??= new LineOutput(1);
  output.text(text);
}

export function sayError(text: string): void {
  standardError().text(text);
}
