/** An object that somebody else has made, read field by field. Everything that is wrong is BAD_CONFIG, and names the field. */
import { badConfig } from './errors.ts';

export class Fields {
  readonly #path: string;
  readonly #given: Record<string, unknown>;

  /** `path`: where it is; empty: it is all there is. @throws TslirpError when it is none, or has others than `keys` */
  constructor(path: string, given: unknown, keys: readonly string[]) {
    this.#path = path;
    if (typeof given !== 'object' || given === null || Array.isArray(given))
      throw badConfig(path || 'config', 'want an object');
    this.#given = given as Record<string, unknown>;
    for (const key of Object.keys(given))
      if (!keys.includes(key)) throw badConfig(this.#of(key), `is unknown; want ${keys.join(', ')}`);
  }

  has(key: string): boolean {
    return this.#given[key] !== undefined;
  }

  object(key: string, keys: readonly string[]): Fields | undefined {
    return this.has(key) ? new Fields(this.#of(key), this.#given[key], keys) : undefined;
  }

  text(key: string): string | undefined {
    const value = this.#given[key];
    if (value === undefined || typeof value === 'string') return value;
    throw badConfig(this.#of(key), 'want a text');
  }

  flag(key: string): boolean | undefined {
    const value = this.#given[key];
    if (value === undefined || typeof value === 'boolean') return value;
    throw badConfig(this.#of(key), 'want true or false');
  }

  number(key: string, least: number, most: number): number | undefined {
    const value = this.#given[key];
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw badConfig(this.#of(key), `want a whole number from ${least} to ${most}`);
  }

  oneOf<W extends string>(key: string, words: readonly W[]): W | undefined {
    const value = this.#given[key];
    if (value === undefined) return undefined;
    const word = words.find((each) => each === value);
    if (word === undefined) throw badConfig(this.#of(key), `want ${words.join(', ')}`);
    return word;
  }

  /** A list of texts that are all `fits`, which is called `want`. */
  texts(key: string, fits: (text: string) => boolean, want: string): string[] | undefined {
    const value = this.#given[key];
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw badConfig(this.#of(key), 'want a list of texts');
    value.forEach((text, index) => {
      if (typeof text !== 'string') throw badConfig(this.#of(`${key}.${index}`), 'want a text');
      if (!fits(text)) throw badConfig(this.#of(`${key}.${index}`), `want ${want}`);
    });
    return value as string[];
  }

  #of(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }
}
