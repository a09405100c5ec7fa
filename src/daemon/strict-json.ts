/**
 * JSON of which nobody can be of two minds (RFC 8259, I-JSON of RFC 7493): UTF-8, an object, no name twice in one object, no
 * half of a surrogate pair, nested 16 deep at most. `JSON.parse` reads it; what it lets pass is looked for in the text.
 */
import { ProtocolFault } from './protocol-fault.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

const DEPTH_MAX = 16;
const [QUOTE, BACKSLASH, COLON] = [0x22, 0x5c, 0x3a];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws ProtocolFault */
export function parseStrict(bytes: Uint8Array): JsonObject {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new ProtocolFault('a message that is not UTF-8');
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolFault('a message that is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ProtocolFault('a message that is no object');
  inspect(text);
  return value as JsonObject;
}

/** `text` is JSON. */
function inspect(text: string): void {
  /** Names of each object that is open; an array has none. */
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(text, at);
      const content = read(text.slice(at, end));
      if (isName(text, end)) {
        const names = open.at(-1) as Set<string>;
        if (names.has(content)) throw new ProtocolFault('a message with a name twice in one object');
        names.add(content);
      }
      at = end - 1;
    } else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      open.push(code === OPEN_OBJECT ? new Set() : undefined);
      if (open.length > DEPTH_MAX) throw new ProtocolFault(`a message nested more than ${DEPTH_MAX} deep`);
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) open.pop();
  }
}

/** Behind the quote that ends the string which begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) return at + 1;
    at += code === BACKSLASH ? 2 : 1;
  }
}

/** A string as it was written. */
function read(quoted: string): string {
  if (!quoted.includes('\\')) return quoted.slice(1, -1);
  const content = JSON.parse(quoted) as string;
  // With this flag, a pair is one character of another kind.
  if (/\p{Surrogate}/u.test(content)) throw new ProtocolFault('a message with half a surrogate pair');
  return content;
}

/** What ends before `at` is a member's name, not its value. */
function isName(text: string, at: number): boolean {
  let next = at;
  while (/\s/.test(text.charAt(next))) next++;
  return text.charCodeAt(next) === COLON;
}
