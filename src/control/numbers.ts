/** Numbers of guests, forwards, requests and flows: one sequence of each for all guests of a server. None is used twice. */
export class Numbers {
  /** For the data planes, who number the flows (engine/flow-numbers.ts). */
  readonly flowBlocks: SharedArrayBuffer = new SharedArrayBuffer(4);
  private guest = 0;
  private forward = 0;
  private request = 0;

  nextGuest(): number {
    return ++this.guest;
  }

  nextForward(): number {
    return ++this.forward;
  }

  nextRequest(): number {
    return ++this.request;
  }
}
