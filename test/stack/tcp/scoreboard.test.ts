import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Scoreboard } from '../../../src/stack/tcp/scoreboard.ts';
import { seqAdd } from '../../../src/stack/tcp/seq.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const SPAN = 600;

describe('Scoreboard against a set of bytes (T-14, RQ-40)', () => {
  for (const base of [0, 0xffffff80, 0x7fffff80]) {
    test(`random blocks from ${base}`, () => {
      for (let seed = 1; seed <= 60; seed++) {
        const rng = seededRng(seed);
        const below = (n: number): number => rng.u32() % n;
        const board = new Scoreboard();
        const held = new Array<boolean>(SPAN).fill(false);
        let una = 0;
        for (let step = 0; step < 300; step++) {
          if (below(10) === 0) {
            una += below(20);
            if (una >= SPAN) break;
            held.fill(false, 0, una);
            board.advance(seqAdd(base, una));
          } else {
            const left = below(SPAN + 40) - 20;
            const right = left + below(40) - 5;
            const valid = left < right && left >= una && right <= SPAN;
            let news = 0;
            for (let i = left; valid && i < right; i++) if (!held[i]) news++;
            const got = board.add(
              seqAdd(base, left),
              seqAdd(base, right),
              seqAdd(base, una),
              seqAdd(base, SPAN),
            );
            assert.equal(got, news, `seed ${seed} step ${step}: news of ${left}…${right}`);
            if (valid) held.fill(true, left, right);
          }
          const sacked = held.filter(Boolean).length;
          assert.equal(board.sacked, sacked, `seed ${seed} step ${step}: sacked`);
          assert.equal(board.isEmpty, sacked === 0);
          if (sacked > 0) assert.equal(board.highest, seqAdd(base, held.lastIndexOf(true) + 1));
          const from = una + below(SPAN - una);
          let missing = from;
          while (missing < SPAN && held[missing]) missing++;
          assert.equal(board.skip(seqAdd(base, from)), seqAdd(base, missing));
          if (missing < SPAN) {
            let end = missing;
            while (end < SPAN && !held[end]) end++;
            assert.equal(board.holeLength(seqAdd(base, missing), seqAdd(base, SPAN)), end - missing);
          }
        }
      }
    });
  }

  test('the number of ranges is bounded; adjoining and known blocks still count', () => {
    const board = new Scoreboard();
    let taken = 0;
    for (let i = 0; i < 100_000; i++) taken += board.add(2 * i + 1, 2 * i + 2, 0, 0x7fffffff);
    assert.ok(taken < 1000, `${taken} single bytes kept`);
    assert.equal(board.sacked, taken);
    assert.equal(board.add(0, 2 * taken, 0, 0x7fffffff), taken);
  });

  test('clear forgets all', () => {
    const board = new Scoreboard();
    board.add(10, 20, 0, 100);
    board.clear();
    assert.equal(board.sacked, 0);
    assert.equal(board.skip(10), 10);
  });
});
