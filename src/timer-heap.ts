/**
 * Deadlines in a binary heap. A node whose deadline moved later stays where it is and is put back when its old place
 * comes up: restarting a retransmission timer at every acknowledgment so costs one assignment.
 */
import type { TimerNode, Timers } from './loop.ts';

export class TimerHeap implements Timers {
  readonly #heap: TimerNode[] = [];

  /** The earliest time anything may be due; Infinity when nothing is. */
  get next(): number {
    const first = this.#heap[0];
    return first === undefined ? Number.POSITIVE_INFINITY : first.heapDeadline;
  }

  get size(): number {
    return this.#heap.length;
  }

  update(node: TimerNode): void {
    if (node.heapIndex < 0) {
      if (node.deadline === Number.POSITIVE_INFINITY) return;
      node.heapDeadline = node.deadline;
      node.heapIndex = this.#heap.length;
      this.#heap.push(node);
      this.#up(node.heapIndex);
    } else if (node.deadline < node.heapDeadline) {
      node.heapDeadline = node.deadline;
      this.#up(node.heapIndex);
    }
  }

  cancel(node: TimerNode): void {
    node.deadline = Number.POSITIVE_INFINITY;
    if (node.heapIndex < 0) return;
    this.#removeAt(node.heapIndex);
  }

  /** Call every node whose deadline has passed; each at most once, so that a burst of them ends. */
  run(nowMs: number, onError: (error: unknown) => void): void {
    let budget = this.#heap.length;
    while (budget-- > 0) {
      const node = this.#heap[0];
      if (node === undefined || node.heapDeadline > nowMs) return;
      if (node.deadline > nowMs) {
        // Moved later meanwhile.
        if (node.deadline === Number.POSITIVE_INFINITY) {
          this.#removeAt(0);
        } else {
          node.heapDeadline = node.deadline;
          this.#down(0);
        }
        continue;
      }
      this.#removeAt(0);
      node.deadline = Number.POSITIVE_INFINITY;
      try {
        node.onTimer(nowMs);
      } catch (error) {
        onError(error);
      }
    }
  }

  #removeAt(index: number): void {
    const heap = this.#heap;
    const node = heap[index] as TimerNode;
    const last = heap.pop() as TimerNode;
    node.heapIndex = -1;
    if (last === node) return;
    heap[index] = last;
    last.heapIndex = index;
    this.#up(index);
    this.#down(last.heapIndex);
  }

  #up(start: number): void {
    const heap = this.#heap;
    let index = start;
    const node = heap[index] as TimerNode;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = heap[parentIndex] as TimerNode;
      if (parent.heapDeadline <= node.heapDeadline) break;
      heap[index] = parent;
      parent.heapIndex = index;
      index = parentIndex;
    }
    heap[index] = node;
    node.heapIndex = index;
  }

  #down(start: number): void {
    const heap = this.#heap;
    let index = start;
    const node = heap[index] as TimerNode;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= heap.length) break;
      let child = heap[childIndex] as TimerNode;
      const right = heap[childIndex + 1];
      if (right !== undefined && right.heapDeadline < child.heapDeadline) {
        child = right;
        childIndex++;
      }
      if (child.heapDeadline >= node.heapDeadline) break;
      heap[index] = child;
      child.heapIndex = index;
      index = childIndex;
    }
    heap[index] = node;
    node.heapIndex = index;
  }
}
