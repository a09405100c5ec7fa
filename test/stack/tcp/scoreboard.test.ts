import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Scoreboard } from '../../../src/stack/tcp/scoreboard.ts';
import { seqAdd } from '../../../src/stack/tcp/seq.ts';
import { seededRng } from '../../support/seeded-rng.ts';

/** What the scoreboard knows, byte by byte. */
class Model {
  una = 0;
  nxt = 0;
  readonly sentAt: number[] = [];
  readonly state: ('out' | 'sacked' | 'lost' | 'resent')[] = [];

  count(state: string): number {
    let n = 0;
    for (let i = this.una; i < this.nxt; i++) if (this.state[i] === state) n++;
    return n;
  }

  set(from: number, to: number, state: 'out' | 'sacked' | 'lost' | 'resent', at: number): void {
    for (let i = from; i < to; i++) {
      this.state[i] = state;
      this.sentAt[i] = at;
    }
  }
}

describe('Scoreboard against a model of every byte (T-14, RQ-40)', () => {
  for (const base of [0, 0xffffff80, 0x7fffff80]) {
    test(`random sending, blocks, acknowledgments and losses from ${base}`, () => {
      for (let seed = 1; seed <= 150; seed++) {
        const rng = seededRng(seed);
        const below = (n: number): number => rng.u32() % n;
        const board = new Scoreboard();
        const model = new Model();
        let now = 100;
        for (let step = 0; step < 300; step++) {
          now += below(3);
          const where = `seed ${seed} step ${step}`;
          const at = (i: number): number => seqAdd(base, i);
          switch (below(6)) {
            case 0:
            case 1: {
              const to = model.nxt + 1 + below(30);
              board.sent(at(model.nxt), at(to), now);
              model.set(model.nxt, to, 'out', now);
              model.nxt = to;
              break;
            }
            case 2: {
              const una = Math.min(model.nxt, model.una + below(25));
              board.advance(at(una), now, -1);
              model.una = una;
              break;
            }
            case 3: {
              const left = model.una + below(60) - 10;
              const right = left + below(40) - 5;
              const valid = left < right && left >= model.una && right <= model.nxt;
              let news = 0;
              for (let i = left; valid && i < right; i++) if (model.state[i] !== 'sacked') news++;
              assert.equal(board.add(at(left), at(right), now, -1), news, `${where}: ${left}…${right}`);
              if (valid) model.set(left, right, 'sacked', 0);
              break;
            }
            case 4: {
              if (board.lost > 0) {
                const first = model.state.indexOf('lost', model.una);
                assert.equal(board.firstLost, at(first), `${where}: first lost`);
                let end = first;
                while (end < model.nxt && model.state[end] === 'lost') end++;
                assert.equal(board.firstLostLength, end - first, `${where}: length lost`);
                const to = first + 1 + below(end - first);
                board.sentAgain(at(first), at(to), now);
                model.set(first, to, 'resent', now);
              }
              break;
            }
            default:
              if (below(8) === 0) {
                board.loseAll();
                model.set(model.una, model.nxt, 'lost', 0);
              } else if (below(4) === 0) {
                const bytes = below(20);
                board.loseFirst(bytes);
                for (let i = model.una; i < Math.min(model.nxt, model.una + bytes); i++) {
                  if (model.state[i] !== 'sacked') model.state[i] = 'lost';
                }
              }
          }
          for (const state of ['sacked', 'lost', 'resent'] as const) {
            assert.equal(board[state], model.count(state), `${where}: ${state}`);
          }
        }
      }
    });
  }

  test('the number of runs is bounded; known blocks still count', () => {
    const board = new Scoreboard();
    board.sent(0, 0x7ffffff0, 0);
    let taken = 0;
    for (let i = 0; i < 100_000; i++) taken += board.add(2 * i + 1, 2 * i + 2, 1, -1);
    assert.equal(board.sacked, taken);
    assert.ok(taken > 1000 && board.runs <= 4096, `${taken} single bytes in ${board.runs} runs`);
    for (let i = 0; i < 100_000; i++) board.sent(0x7ffffff0 + i, 0x7ffffff1 + i, i);
    assert.ok(board.runs <= 4096, `${board.runs} runs`);
  });
});

describe('RACK (RFC 8985 §6.2)', () => {
  const MSS = 100;
  /** Ten segments, sent a millisecond apart. */
  function flight(): Scoreboard {
    const board = new Scoreboard();
    for (let i = 0; i < 10; i++) board.sent(i * MSS, (i + 1) * MSS, i);
    return board;
  }

  test('what was sent before something that arrived is lost, what was sent after it is not', () => {
    const board = flight();
    board.add(4 * MSS, 5 * MSS, 54, -1);
    assert.equal(board.detectLost(54, 0), 0);
    assert.equal(board.lost, 4 * MSS);
    assert.equal(board.firstLost, 0);
  });

  test('the reordering window puts that off, and tells until when', () => {
    const board = flight();
    board.add(4 * MSS, 5 * MSS, 54, -1);
    // Segment 3 was sent 1 ms before it, segment 0 4 ms.
    assert.equal(board.detectLost(54, 2.5), 1.5);
    assert.equal(board.lost, 2 * MSS);
    assert.equal(board.detectLost(55.5, 2.5), 0);
    assert.equal(board.lost, 4 * MSS);
  });

  test('a lost retransmission is found by what was sent after it', () => {
    const board = flight();
    board.add(MSS, 10 * MSS, 59, -1);
    board.detectLost(59, 0);
    board.sentAgain(0, MSS, 60);
    board.sent(10 * MSS, 11 * MSS, 61);
    assert.equal(board.detectLost(100, 0), 0);
    assert.equal(board.lost, 0);
    board.add(10 * MSS, 11 * MSS, 111, -1);
    board.detectLost(111, 0);
    assert.equal(board.lost, MSS);
  });

  test('an acknowledgment too early for a repetition is one of the original', () => {
    for (const echoedMs of [-1, 3]) {
      const board = flight();
      board.add(4 * MSS, 5 * MSS, 54, -1);
      board.detectLost(54, 0);
      board.sentAgain(0, MSS, 55);
      board.add(0, MSS, echoedMs < 0 ? 56 : 200, echoedMs);
      assert.equal(board.rackSentAt, 4);
    }
  });

  test('reordering is noticed, a hole that was filled again is none', () => {
    const late = flight();
    late.add(4 * MSS, 5 * MSS, 54, -1);
    late.add(2 * MSS, 3 * MSS, 55, -1);
    assert.equal(late.reorderingSeen, true);
    const repaired = flight();
    repaired.add(MSS, 5 * MSS, 54, -1);
    repaired.detectLost(54, 0);
    repaired.sentAgain(0, MSS, 55);
    repaired.advance(5 * MSS, 110, -1);
    assert.equal(repaired.reorderingSeen, false);
  });
});
