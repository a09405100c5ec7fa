/**
 * Where the stack gets its randomness from. The engine hands in a source that cannot be predicted from outside
 * (initial sequence numbers and identifiers depend on it); tests hand in a seeded one.
 */
export interface Rng {
  /** The next value, uniform over 0 … 2³²−1. */
  u32(): number;
}
