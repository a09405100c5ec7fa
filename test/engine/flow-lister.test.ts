/** A share of the flows each turn. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowLister } from '../../src/engine/flow-lister.ts';
import type { FlowInfo, ListedFlow } from '../../src/forward/flow/info.ts';
import type { Clock, IoHandler, Poller } from '../../src/loop.ts';

class Flow implements ListedFlow {
  isOver = false;
  readonly id: number;
  constructor(id: number) {
    this.id = id;
  }
  info(): FlowInfo {
    return { flow: this.id } as FlowInfo;
  }
}

test('X-02: a list of 16,384 flows takes no turn for itself, and questions take turns', () => {
  const flows = Array.from({ length: 16_384 }, (_, id) => new Flow(id));
  const told: { guest: number; request: number; ids: number[]; more: boolean }[] = [];
  let wanted = 0;
  const poller = { ready: (_handler: IoHandler) => wanted++ } as unknown as Poller;
  const clock = { nowMs: 0 } as Clock;
  const lister = new FlowLister(
    poller,
    clock,
    (guest) => (guest === 2 ? [] : [...flows]),
    (guest, request, infos, more) => told.push({ guest, request, ids: infos.map(({ flow }) => flow), more }),
  );
  lister.ask(1, 1);
  lister.ask(2, 7);
  lister.ask(1, 2);
  wanted = 1;
  while (wanted > 0) {
    wanted = 0;
    const before = told.length;
    lister.onIo(0);
    assert.ok(told.length - before <= 1 && (told.at(-1)?.ids.length ?? 0) <= 250);
    // One that ends before it is told of.
    (flows.at(-1) as Flow).isOver = true;
  }
  // Each guest's own, and none of another's.
  assert.deepEqual(
    told.filter(({ guest }) => guest !== 1),
    [{ guest: 2, request: 7, ids: [], more: false }],
  );
  for (const request of [1, 2]) {
    const answers = told.filter((answer) => answer.request === request);
    assert.deepEqual(
      answers.flatMap(({ ids }) => ids),
      Array.from({ length: 16_383 }, (_, id) => id),
    );
    assert.deepEqual(
      answers.map(({ more }) => more),
      answers.map((_, index) => index < answers.length - 1),
    );
  }
});
