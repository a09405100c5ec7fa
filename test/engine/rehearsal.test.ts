import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Rehearsal } from '../../src/engine/rehearsal.ts';
import { TimerHeap } from '../../src/timer-heap.ts';

/** A loop with nothing in it but the rehearsal; each step of which takes as long as a slice. */
class Theatre {
  readonly timers = new TimerHeap();
  readonly clock = { turn: 0 };
  readonly rehearsal: Rehearsal;
  steps = 0;
  cleaned = false;
  #ms = 0;

  constructor() {
    this.rehearsal = new Rehearsal(
      this.timers,
      this.clock,
      () => this.play(),
      () => this.#ms,
    );
  }

  *play(): Generator<void, boolean> {
    try {
      for (let i = 0; i < 3; i++) {
        this.steps++;
        this.#ms += 1;
        yield;
      }
      return true;
    } finally {
      this.cleaned = true;
    }
  }

  /** A turn of the loop. */
  turn(nowMs: number): void {
    this.clock.turn++;
    this.timers.run(nowMs, (error) => {
      throw error;
    });
  }
}

describe('rehearsal', () => {
  test('review O-11: begins after quiet, a slice a turn, and ends for good', () => {
    const theatre = new Theatre();
    theatre.rehearsal.start(1000);
    theatre.turn(1005);
    assert.equal(theatre.steps, 0, 'not at once');
    theatre.rehearsal.start(1005);
    for (let now = 1030; theatre.timers.size > 0; now += 30) {
      const { steps } = theatre;
      theatre.turn(now);
      assert.ok(theatre.steps <= steps + 1);
      assert.ok(now < 2000);
    }
    assert.equal(theatre.steps, 3);
    assert.equal(theatre.cleaned, true);
  });

  test('review O-11: waits while there is traffic', () => {
    const theatre = new Theatre();
    theatre.rehearsal.start(1000);
    for (let now = 1000; now < 1500; now++) theatre.turn(now);
    assert.equal(theatre.steps, 0);
  });

  test('review O-11: is cleaned up when the process ends in its middle', () => {
    const theatre = new Theatre();
    theatre.rehearsal.start(1000);
    theatre.turn(1020);
    assert.equal(theatre.steps, 1);
    theatre.rehearsal.close();
    assert.equal(theatre.cleaned, true);
    assert.equal(theatre.timers.size, 0);
  });
});
