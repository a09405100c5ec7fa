/**
 * Events as lines of the stream: a JSON object each, with nothing in it but printable ASCII, because some of the text is the
 * guest's (the name of a process is what it calls itself) and the line may be read on a terminal. A line has at most
 * `LINE_MAX` bytes with its end, so that one write(2) to a pipe is all of it or nothing (pipe(7), PIPE_BUF).
 */
import type { Present, StampedEvent } from './event-hub.ts';

/** Bytes. */
export const LINE_MAX = 4096;
/** Of a text in an event, in UTF-16 units; what is longer is cut. */
const TEXT_MAX = 128;

/** What a stream adds to the events of the guests. */
type StreamNote =
  | { type: 'dropped'; count: number }
  | { type: 'snapshot'; listeners: readonly unknown[]; forwards: readonly unknown[]; more: boolean };

export type Line = { t: string; guest?: string } & StreamNote;

/** Without its end. */
export function eventLine(seq: number, event: StampedEvent | Line): string {
  return printable(JSON.stringify({ v: 1, seq, ...event }, shorten));
}

/** Nothing in it that a terminal would act upon, and every character one byte. */
function printable(json: string): string {
  return json.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function shorten(_key: string, value: unknown): unknown {
  return typeof value === 'string' && value.length > TEXT_MAX ? `${value.slice(0, TEXT_MAX)}…` : value;
}

/** What a guest has, in as many lines as it takes: the last one says that there is no more. */
export function* snapshotLines(t: string, guest: string, present: Present): Generator<Line> {
  const empty = { t, guest, type: 'snapshot' as const, listeners: [], forwards: [], more: true };
  // The largest sequence number there is.
  const room = LINE_MAX - 1 - eventLine(Number.MAX_SAFE_INTEGER, empty).length;
  let part: { listeners: unknown[]; forwards: unknown[] } = { listeners: [], forwards: [] };
  let used = 0;
  for (const kind of ['listeners', 'forwards'] as const) {
    for (const one of present[kind]) {
      const size = printable(JSON.stringify(one, shorten)).length + 1;
      if (used + size > room) {
        yield { ...empty, ...part };
        part = { listeners: [], forwards: [] };
        used = 0;
      }
      part[kind].push(one);
      used += size;
    }
  }
  yield { ...empty, ...part, more: false };
}
