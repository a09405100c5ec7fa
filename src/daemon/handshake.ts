/**
 * How a connection begins: both ends write, at once, one line that says who they are and which versions they speak, and
 * use the greatest major that both have, with the smaller minor of the two.
 *
 *     tslirp-control ROLE MAJOR.MINOR[,MAJOR.MINOR…]\n     ascending, one entry for each major, 128 bytes with the newline
 *
 * Neither waits for the other's line before it writes its own: two ends without buffers would wait for ever.
 */
import { ProtocolFault, shown } from './protocol-fault.ts';

export type Role = 'embedder' | 'stack';

export interface Version {
  major: number;
  /** A minor only adds to the one before. */
  minor: number;
}

/** With the newline. */
const GREETING_MAX = 128;
const WORD = 'tslirp-control';
const NEWLINE = 0x0a;

/** What this release speaks. */
export const versions: readonly Version[] = [{ major: 1, minor: 0 }];

export function formatVersion({ major, minor }: Version): string {
  return `${major}.${minor}`;
}

export function greeting(role: Role, spoken: readonly Version[] = versions): string {
  return `${WORD} ${role} ${spoken.map(formatVersion).join(',')}\n`;
}

/** Undefined: they have no version in common. */
export function negotiate(ours: readonly Version[], theirs: readonly Version[]): Version | undefined {
  let best: Version | undefined;
  for (const { major, minor } of ours) {
    const other = theirs.find((each) => each.major === major);
    if (other === undefined || (best !== undefined && best.major > major)) continue;
    best = { major, minor: Math.min(minor, other.minor) };
  }
  return best;
}

/** The versions of a line without its newline. @throws ProtocolFault */
export function readGreeting(line: Uint8Array, from: Role): Version[] {
  const fault = (expected: string): ProtocolFault =>
    new ProtocolFault(`handshake: got "${shown(line)}"; expected ${expected}`);
  const [word, role, list, ...more] = Buffer.from(line).toString('latin1').split(' ');
  if (word !== WORD) throw fault(`"${WORD} ${from} VERSIONS"`);
  if (role !== from) throw fault(`the role ${from}`);
  if (list === undefined || more.length > 0) throw fault('versions after the role');
  const read = list.split(',').map((text) => {
    const [, major, minor] = /^([1-9]\d{0,5})\.(0|[1-9]\d{0,5})$/.exec(text) ?? [];
    if (major === undefined) throw fault('versions as MAJOR.MINOR');
    return { major: Number(major), minor: Number(minor) };
  });
  for (const [i, { major }] of read.entries()) {
    const before = read[i - 1];
    if (before !== undefined && before.major >= major) throw fault('ascending versions, one for each major');
  }
  return read;
}

/** Gathers the other end's line from pieces of any size. */
export class GreetingReader {
  readonly #from: Role;
  readonly #line: number[] = [];
  /** Of the other end, once its line is complete. */
  versions: Version[] | undefined;

  constructor(from: Role) {
    this.#from = from;
  }

  /** What has come of the line. */
  get soFar(): Uint8Array {
    return Uint8Array.from(this.#line);
  }

  /** What of `chunk` comes after the line, which is complete then; undefined: it is not. @throws ProtocolFault */
  push(chunk: Buffer): Buffer | undefined {
    const end = chunk.indexOf(NEWLINE);
    const piece = end < 0 ? chunk : chunk.subarray(0, end);
    const room = GREETING_MAX - 1 - this.#line.length;
    this.#line.push(...piece.subarray(0, room));
    // With one more it is too long, whatever else comes.
    if (piece.length > room)
      throw new ProtocolFault(
        `handshake: got "${shown(this.soFar)}"; expected a line of ${GREETING_MAX} bytes`,
      );
    if (end < 0) return undefined;
    this.versions = readGreeting(this.soFar, this.#from);
    return chunk.subarray(end + 1);
  }
}
