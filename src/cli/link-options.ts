/** What stands behind the address of a link (`--link`), and addresses of sockets. */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { Endpoint } from '../config.ts';
import type { SocketPlace } from '../device-spec.ts';
import { badValue, decimal, SOCKET_PATH_MAX, type UsageError } from './values.ts';

/** Of all kinds. */
const COMMON = ['guest', 'mtu', 'switch', 'isolate'];

/** What is written in front of the colon, and what that leads to. */
export interface LinkKind<T> {
  name: string;
  /** What it looks like. */
  form: string;
  /** Those of its own. */
  options: readonly string[];
  read: (address: string, options: Options) => T;
}

/** The keys and flags of one SPEC. */
export class Options {
  readonly text: string;
  readonly #values = new Map<string, string[]>();

  constructor(text: string, words: readonly string[], kind: LinkKind<unknown>) {
    this.text = text;
    const known = [...kind.options, ...COMMON];
    for (const word of words) {
      const [key = '', ...rest] = word.split('=');
      if (!known.includes(key) || (rest.length === 0) !== isFlag(key)) {
        const hint = word.includes('/') ? '; a path with a comma needs a symbolic link without one' : '';
        throw this.error(`has ${JSON.stringify(word)}`, `${kind.form}, ${shown(known)}${hint}`);
      }
      const values = this.#values.get(key) ?? [];
      this.#values.set(key, [...values, rest.join('=')]);
    }
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** The only one. */
  get(key: string): string | undefined {
    const values = this.#values.get(key) ?? [];
    if (values.length > 1) throw this.error(`has ${key} more than once`, 'one');
    return values[0];
  }

  all(key: string): string[] {
    return this.#values.get(key) ?? [];
  }

  need(key: string): string {
    const value = this.get(key);
    if (value === undefined) throw this.error(`has no ${key}=`, `${key}=…`);
    return value;
  }

  oneOf<W extends string>(key: string, words: readonly W[]): W | undefined {
    const value = this.get(key);
    const word = words.find((each) => each === value);
    if (value !== undefined && word === undefined)
      throw this.error(`has ${key}=${value}`, `${key}=${words.join(` or ${key}=`)}`);
    return word;
  }

  error(fault: string, accepted: string): UsageError {
    return badValue('--link', this.text, fault, accepted);
  }
}

function isFlag(key: string): boolean {
  return ['connect', 'listen', 'isolate', 'multi'].includes(key);
}

function shown(keys: readonly string[]): string {
  return keys.map((key) => (isFlag(key) ? key : `${key}=`)).join(', ');
}

export function unixPlace(path: string, options: Options): SocketPlace {
  if (path === '') throw options.error('has no path', `a path of at most ${SOCKET_PATH_MAX} bytes`);
  const full = resolve(path);
  const length = Buffer.byteLength(full);
  if (length > SOCKET_PATH_MAX)
    throw options.error(`has a path of ${length} bytes`, `at most ${SOCKET_PATH_MAX}`);
  return { family: 'unix', path: full };
}

export function endpointOf(text: string, options: Options): Endpoint {
  const accepted = 'ADDRESS:PORT, an IPv6 address in brackets, port 1 to 65535';
  const [, bracketed, plain, digits = ''] = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(text) ?? [];
  const address = bracketed ?? plain ?? '';
  const port = decimal(digits);
  const isRight = isIP(address) === (bracketed === undefined ? 4 : 6) && !address.includes('%');
  if (!isRight || port < 1 || port > 65535) throw options.error(`has ${JSON.stringify(text)}`, accepted);
  return { address, port };
}

export function ipPlace(text: string, options: Options): SocketPlace {
  return { family: 'ip', ...endpointOf(text, options) };
}

/** One whose host may have a name, which is looked up later. */
export function namedPlace(text: string, options: Options): SocketPlace {
  const [, name = '', digits = ''] = /^([a-zA-Z][a-zA-Z0-9.-]{0,252}):(\d+)$/.exec(text) ?? [];
  const port = decimal(digits);
  if (name === '' || port < 1 || port > 65_535) return ipPlace(text, options);
  return { family: 'ip', address: name, port };
}
