/**
 * A repeatable `Rng` (splitmix32): the same seed gives the same values, so a failing random test can be run again
 * from the seed it printed.
 */
import type { Rng } from '../../src/stack/rng.ts';

export function seededRng(seed: number): Rng {
  let state = seed >>> 0;
  return {
    u32(): number {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    },
  };
}
