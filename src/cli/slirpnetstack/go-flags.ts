/**
 * Go's `flag` package, as far as a program that parses its whole command line with it can tell: the syntax, and the texts of
 * what is wrong, letter for letter. The libraries for command lines have the conventions of getopt_long(3), which are others.
 *
 * `-name` and `--name` are the same. A boolean takes a value only after `=`. Parsing ends at the first argument that is no
 * flag, behind `--`, or at a lone `-`; what follows is left alone. Setters run in the order of the command line and may
 * wait for something (a look-up of a name), as that is when the original does it.
 */

/** One flag. A setter throws (or rejects with) a `FlagValueError`, whose message is the reason. */
export interface Flag {
  /** Given without a value; `set` gets the text behind `=`, or `true`. */
  readonly boolean?: boolean;
  readonly set: (value: string) => void | Promise<void>;
}

/** Why a value cannot be used. */
export class FlagValueError extends Error {
  override readonly name = 'FlagValueError';
}

/** The command line breaks off; `message` is the first line on stderr, empty when help was asked for. */
export class FlagError extends Error {
  override readonly name = 'FlagError';
}

/** Sets the flags. Rejects with a FlagError at the first thing that is wrong. */
export async function parseFlags(
  args: readonly string[],
  flags: Readonly<Record<string, Flag>>,
): Promise<void> {
  let index = 0;
  while (index < args.length) {
    const word = args[index] as string;
    if (word.length < 2 || !word.startsWith('-') || word === '--') return;
    index++;
    const text = word.slice(word.startsWith('--') ? 2 : 1);
    if (text.startsWith('-') || text.startsWith('=')) throw new FlagError(`bad flag syntax: ${word}`);
    const equals = text.indexOf('=');
    const name = equals < 0 ? text : text.slice(0, equals);
    let value = equals < 0 ? undefined : text.slice(equals + 1);

    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) {
      throw new FlagError(name === 'h' || name === 'help' ? '' : `flag provided but not defined: -${name}`);
    }
    if (flag.boolean === true) {
      await set(flag, value ?? 'true', (shown) => `invalid boolean value ${shown} for -${name}`);
      continue;
    }
    if (value === undefined) {
      if (index >= args.length) throw new FlagError(`flag needs an argument: -${name}`);
      value = args[index++] as string;
    }
    await set(flag, value, (shown) => `invalid value ${shown} for flag -${name}`);
  }
}

async function set(flag: Flag, value: string, complaint: (shown: string) => string): Promise<void> {
  try {
    await flag.set(value);
  } catch (error) {
    if (!(error instanceof FlagValueError)) throw error;
    throw new FlagError(`${complaint(quote(value))}: ${error.message}`);
  }
}

/** strconv.ParseBool. @throws FlagValueError */
export function parseGoBool(text: string): boolean {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw new FlagValueError('parse error');
}

const INTEGER = /^(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)$/;

function goInteger(text: string): bigint {
  if (!INTEGER.test(text)) throw new FlagValueError('parse error');
  const digits = text.replaceAll('_', '');
  return BigInt(/^0[0-9]/.test(digits) ? `0o${digits.slice(1)}` : digits);
}

/** A Go `int` of 64 bits, with the prefixes of its literals. @throws FlagValueError */
export function parseGoInt(text: string): number {
  const sign = /^[+-]/.test(text) ? text.charAt(0) : '';
  const magnitude = goInteger(text.slice(sign.length));
  const value = sign === '-' ? -magnitude : magnitude;
  if (BigInt.asIntN(64, value) !== value) throw new FlagValueError('value out of range');
  return Number(value);
}

/** A Go `uint` of 64 bits. @throws FlagValueError */
export function parseGoUint(text: string): number {
  const value = goInteger(text);
  if (BigInt.asUintN(64, value) !== value) throw new FlagValueError('value out of range');
  return Number(value);
}

/** Milliseconds. */
const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};
/** What 63 bits of nanoseconds hold. */
const DURATION_MAX_MS = 2 ** 63 / 1e6;

/** time.ParseDuration, in milliseconds. @throws FlagValueError */
export function parseGoDuration(text: string): number {
  const sign = /^[+-]/.test(text) ? text.charAt(0) : '';
  const rest = text.slice(sign.length);
  if (rest === '0') return 0;
  if (!/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(rest))
    throw new FlagValueError('parse error');
  let total = 0;
  for (const [, number = '', unit = ''] of rest.matchAll(/([\d.]+)([a-zµμ]+)/g)) {
    total += Number(number) * (UNITS[unit] ?? 0);
  }
  if (total >= DURATION_MAX_MS) throw new FlagValueError('parse error');
  return sign === '-' ? -total : total;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
};

/** A Go string literal (`%q`): what can be printed stays, the rest is escaped. */
export function quote(text: string): string {
  let out = '';
  for (const char of text) {
    const code = char.codePointAt(0) as number;
    if (ESCAPES[char] !== undefined) out += ESCAPES[char];
    else if (char === ' ' || !/[\p{C}\p{Z}]/u.test(char)) out += char;
    else if (code < 0x80) out += `\\x${code.toString(16).padStart(2, '0')}`;
    else if (code < 0x10000) out += `\\u${code.toString(16).padStart(4, '0')}`;
    else out += `\\U${code.toString(16).padStart(8, '0')}`;
  }
  return `"${out}"`;
}
