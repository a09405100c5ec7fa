/**
 * What a fuzz target is, and inputs that are almost right: an input that is wrong everywhere is refused at the first
 * check, so most of them are good ones with a few changes.
 */
import fc from 'fast-check';

/** `T` is plain data: a failing input is kept as JSON in corpus/, and replayed by every `make test`. */
export interface Target<T = unknown> {
  readonly name: string;
  readonly arbitrary: fc.Arbitrary<T>;
  /** Throws when an invariant does not hold. */
  run(input: T): void | Promise<void>;
}

/** A change to bytes: where (a part of the length, in 1/65536), and what. */
export interface Change {
  kind: 'set' | 'flip' | 'cut' | 'insert' | 'repeat';
  at: number;
  value: number;
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('set', 'flip', 'cut', 'insert', 'repeat'),
  at: fc.nat(65_535),
  // The ends of every range are where mistakes are. Not what fresh memory is filled with: it may come back in a quote.
  value: fc.oneof(
    fc.constantFrom(0, 1, 0x7f, 0x80, 0xfe, 0xff),
    fc.nat(255).map((n) => (n === 0xa5 ? 0xa4 : n)),
  ),
});

export const changes: fc.Arbitrary<Change[]> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Change[]>([]) },
  { weight: 3, arbitrary: fc.array(change, { minLength: 1, maxLength: 4 }) },
);

export function mutate(bytes: Buffer, list: readonly Change[], from = 0): Buffer {
  let out = Buffer.from(bytes);
  for (const { kind, at, value } of list) {
    const i = from + Math.floor((at / 65_536) * Math.max(0, out.length - from));
    if (i >= out.length && kind !== 'insert') continue;
    if (kind === 'set') out[i] = value;
    else if (kind === 'flip') out[i] = (out[i] as number) ^ (1 << (value & 7));
    else if (kind === 'cut') out = out.subarray(0, i);
    else if (kind === 'insert')
      out = Buffer.concat([out.subarray(0, i), Buffer.alloc(1 + (value & 15), value), out.subarray(i)]);
    else out = Buffer.concat([out.subarray(0, i), out.subarray(i, i + (value & 63)), out.subarray(i)]);
  }
  return out;
}
