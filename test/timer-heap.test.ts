import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TimerNode } from '../src/loop.ts';
import { TimerHeap } from '../src/timer-heap.ts';
import { seededRng } from './support/seeded-rng.ts';

class Node extends TimerNode {
  readonly id: number;
  readonly #fired: (node: Node, nowMs: number) => void;

  constructor(id: number, fired: (node: Node, nowMs: number) => void) {
    super();
    this.id = id;
    this.#fired = fired;
  }

  onTimer(nowMs: number): void {
    this.#fired(this, nowMs);
  }
}

function rethrow(error: unknown): void {
  throw error;
}

describe('TimerHeap', () => {
  test('against a map: every deadline is kept, none fires early or twice', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const rng = seededRng(seed);
      const below = (n: number): number => rng.u32() % n;
      const heap = new TimerHeap();
      const due = new Map<Node, number>();
      let now = 0;
      const nodes = Array.from({ length: 30 }, (_, id) => {
        return new Node(id, (node, at) => {
          const deadline = due.get(node);
          assert.ok(deadline !== undefined && deadline <= at, `seed ${seed}: node ${node.id} fired at ${at}`);
          assert.equal(node.deadline, Number.POSITIVE_INFINITY, 'a timer that fired is not set any more');
          due.delete(node);
          // Some set themselves again, also for at once: that is for the next run.
          if (below(4) === 0) {
            node.deadline = at + below(3);
            due.set(node, node.deadline);
            heap.update(node);
          }
        });
      });
      for (let step = 0; step < 400; step++) {
        const node = nodes[below(nodes.length)] as Node;
        switch (below(6)) {
          case 0:
          case 1:
            node.deadline = now + below(50);
            due.set(node, node.deadline);
            heap.update(node);
            break;
          case 2:
            // Moved later without telling the heap, as a restarted retransmission timer does.
            if (due.has(node)) {
              node.deadline = (due.get(node) as number) + below(50);
              due.set(node, node.deadline);
            }
            break;
          case 3:
            heap.cancel(node);
            due.delete(node);
            break;
          case 4:
            if (below(3) === 0) {
              node.deadline = Number.POSITIVE_INFINITY;
              due.delete(node);
            }
            break;
          default: {
            now += below(20);
            const before = [...due.values()].filter((at) => at <= now).length;
            heap.run(now, rethrow);
            assert.ok(before === 0 || [...due.values()].filter((at) => at < now).length === 0);
          }
        }
        const earliest = Math.min(Number.POSITIVE_INFINITY, ...due.values());
        assert.ok(heap.next <= earliest, `seed ${seed} step ${step}: ${heap.next} > ${earliest}`);
        assert.ok(heap.size <= nodes.length);
      }
      now += 1000;
      for (let i = 0; i < 100 && due.size > 0; i++) heap.run(now++, rethrow);
      assert.equal(due.size, 0);
      heap.run(now + 1000, rethrow);
      assert.equal(heap.size, 0, 'nothing set, nothing held');
    }
  });

  test('deadlines fire in order', () => {
    const heap = new TimerHeap();
    const order: number[] = [];
    for (const at of [5, 3, 9, 1, 7, 3]) {
      const node = new Node(at, (n) => order.push(n.id));
      node.deadline = at;
      heap.update(node);
    }
    heap.run(8, rethrow);
    assert.deepEqual(order, [1, 3, 3, 5, 7]);
    assert.equal(heap.next, 9);
  });

  test('a timer that sets itself for now does not keep the run going', () => {
    const heap = new TimerHeap();
    let fired = 0;
    const node = new Node(1, (n, now) => {
      fired++;
      n.deadline = now;
      heap.update(n);
    });
    node.deadline = 1;
    heap.update(node);
    heap.run(5, rethrow);
    assert.equal(fired, 1);
  });

  test('an exception costs its own timer only (N-01)', () => {
    const heap = new TimerHeap();
    const errors: unknown[] = [];
    let fired = 0;
    const bad = new Node(1, () => {
      throw new Error('bad');
    });
    const good = new Node(2, () => fired++);
    bad.deadline = 1;
    good.deadline = 2;
    heap.update(bad);
    heap.update(good);
    heap.run(3, (error) => errors.push(error));
    assert.equal(errors.length, 1);
    assert.equal(fired, 1);
    assert.equal(heap.size, 0);
  });

  test('a handler may cancel another that is due', () => {
    const heap = new TimerHeap();
    let fired = 0;
    const second = new Node(2, () => fired++);
    const first = new Node(1, () => heap.cancel(second));
    first.deadline = 1;
    second.deadline = 1.5;
    heap.update(first);
    heap.update(second);
    heap.run(2, rethrow);
    assert.equal(fired, 0);
    assert.equal(heap.size, 0);
  });
});
