/**
 * Collects the bytes of one request until they hold a complete JSON value (RFC 8259), without parsing anything twice: a
 * client may send byte by byte, and need not close its side. Only nesting and quotes are followed; what is inside is
 * JSON.parse's affair, once, at the end.
 *
 * Limits: bytes in all, and a nesting of 64, which keeps JSON.parse from going deep.
 */

export const TextState = {
  /** Nothing but white space so far. */
  Empty: 0,
  /** A value has begun. */
  Partial: 1,
  /** A value is there; what follows it does not count. */
  Complete: 2,
  /** Cannot become a value any more. */
  Invalid: 3,
  TooLarge: 4,
} as const;
export type TextState = (typeof TextState)[keyof typeof TextState];

const DEPTH_MAX = 64;
const NO_BYTES = Buffer.alloc(0);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

const decoder = new TextDecoder('utf-8', { fatal: true });

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function opens(byte: number): boolean {
  return byte === 0x7b || byte === 0x5b;
}

function closes(byte: number): boolean {
  return byte === 0x7d || byte === 0x5d;
}

/** The rest of true, false and null after their first letter. */
const wordsByLetter: Readonly<Record<number, string>> = { 116: 'rue', 102: 'alse', 110: 'ull' };

/** Whatever a number is made of, in any order. */
function isNumeric(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x2b || byte === 0x2e || (byte | 32) === 0x65
  );
}

export class RequestText {
  state: TextState = TextState.Empty;
  private readonly limit: number;
  /** One piece: kept as they come, a client's single bytes would take a hundred times their size. */
  private bytes: Buffer = NO_BYTES;
  private size = 0;
  /** Bytes up to the end of the value. */
  private end = 0;
  private mark = 0;
  private depth = 0;
  private inString = false;
  private escaped = false;
  private inNumber = false;
  /** Letters of a word that are still to come. */
  private word = '';
  private colons = 0;
  private decoded: string | undefined;

  /** @param limit a request of this many bytes is too large, whatever is in it */
  constructor(limit: number) {
    this.limit = limit;
  }

  push(part: Buffer): TextState {
    const before = this.size;
    this.size += part.length;
    if (this.size >= this.limit) {
      this.state = TextState.TooLarge;
      this.bytes = NO_BYTES;
      return this.state;
    }
    if (before === 0) this.bytes = part;
    else this.append(part, before);
    for (let i = 0; i < part.length && this.state <= TextState.Partial; i++) {
      this.step(part[i] as number, before + i);
    }
    return this.state;
  }

  /** What has been collected of the value, as text; undefined when it is not UTF-8. To be asked once no more comes. */
  text(): string | undefined {
    this.decoded ??= this.decode();
    return this.decoded;
  }

  /** The value. Throws SyntaxError when there is none. */
  value(): unknown {
    const text = this.text();
    if (text === undefined || this.state === TextState.Invalid) throw new SyntaxError('not JSON');
    const value: unknown = JSON.parse(text);
    // Of keys that come twice, JSON.parse keeps the last without a word; another reader may keep the first.
    if (countKeys(value) !== this.colons) throw new SyntaxError('a key comes twice');
    return value;
  }

  private decode(): string | undefined {
    const end = this.state === TextState.Complete ? this.end : this.size;
    try {
      return decoder.decode(this.bytes.subarray(0, end));
    } catch {
      return undefined;
    }
  }

  /** Put `part` behind the first `used` bytes. */
  private append(part: Buffer, used: number): void {
    if (this.size > this.bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.size, Math.min(2 * used, this.limit)));
      this.bytes.copy(grown, 0, 0, used);
      this.bytes = grown;
    }
    part.copy(this.bytes, used);
  }

  private step(byte: number, at: number): void {
    if (this.inString) {
      if (this.escaped) this.escaped = false;
      else if (byte === BACKSLASH) this.escaped = true;
      else if (byte === QUOTE) {
        this.inString = false;
        if (this.depth === 0) this.complete(at + 1);
      }
      return;
    }
    if (this.inNumber) {
      if (isSpace(byte)) this.complete(at);
      else if (!isNumeric(byte)) this.state = TextState.Invalid;
      return;
    }
    if (this.word !== '') {
      if (byte !== this.word.charCodeAt(0)) this.state = TextState.Invalid;
      this.word = this.word.slice(1);
      if (this.word === '' && this.state === TextState.Partial) this.complete(at + 1);
      return;
    }
    if (this.depth > 0) {
      this.inside(byte, at);
      return;
    }
    if (isSpace(byte)) return;
    if (at === this.mark && byte === BYTE_ORDER_MARK[at]) {
      this.mark++;
      return;
    }
    if (this.mark !== 0 && this.mark !== BYTE_ORDER_MARK.length) {
      this.state = TextState.Invalid;
      return;
    }
    this.state = TextState.Partial;
    if (opens(byte)) this.depth = 1;
    else if (byte === QUOTE) this.inString = true;
    else if (isNumeric(byte) && byte < 0x3a) this.inNumber = true;
    else {
      this.word = wordsByLetter[byte] ?? '';
      if (this.word === '') this.state = TextState.Invalid;
    }
  }

  private inside(byte: number, at: number): void {
    if (byte === QUOTE) this.inString = true;
    else if (byte === COLON) this.colons++;
    else if (opens(byte)) {
      this.depth++;
      if (this.depth > DEPTH_MAX) this.state = TextState.Invalid;
    } else if (closes(byte)) {
      this.depth--;
      if (this.depth === 0) this.complete(at + 1);
    }
  }

  private complete(end: number): void {
    this.end = end;
    this.state = TextState.Complete;
  }
}

function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  let count = Array.isArray(value) ? 0 : Object.keys(value).length;
  for (const inner of Object.values(value)) count += countKeys(inner);
  return count;
}
