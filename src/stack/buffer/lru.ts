/** Flows in order of last use: an intrusive doubly linked list, so that touching one costs a few assignments. */
export interface LruNode {
  lruPrevious: LruNode | null;
  lruNext: LruNode | null;
}

export class LruList {
  #oldest: LruNode | null = null;
  #newest: LruNode | null = null;

  get oldest(): LruNode | null {
    return this.#oldest;
  }

  /** Add `node`, which is in no list, as the one used last. */
  add(node: LruNode): void {
    node.lruPrevious = this.#newest;
    node.lruNext = null;
    if (this.#newest !== null) this.#newest.lruNext = node;
    else this.#oldest = node;
    this.#newest = node;
  }

  remove(node: LruNode): void {
    if (node.lruPrevious !== null) node.lruPrevious.lruNext = node.lruNext;
    else this.#oldest = node.lruNext;
    if (node.lruNext !== null) node.lruNext.lruPrevious = node.lruPrevious;
    else this.#newest = node.lruPrevious;
    node.lruPrevious = null;
    node.lruNext = null;
  }

  touch(node: LruNode): void {
    if (this.#newest === node) return;
    this.remove(node);
    this.add(node);
  }
}
