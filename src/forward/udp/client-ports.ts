/**
 * Flows of local UDP forwards by where the guest sees their client. Few have a port in common: only those that show the
 * client's own.
 */
import type { IpAddress } from '../../stack/wire/address.ts';
import type { UdpLocalFlow } from './local-flow.ts';

export class ClientPorts {
  size = 0;
  readonly #first = new Map<number, UdpLocalFlow>();

  /** The flow between the guest's (`target`, `targetPort`) and the client seen at (`shown`, `port`), or null. */
  find(target: IpAddress, targetPort: number, shown: IpAddress, port: number): UdpLocalFlow | null {
    let flow = this.#first.get(port) ?? null;
    while (
      flow !== null &&
      !(flow.targetPort === targetPort && flow.shown.equals(shown) && flow.target.equals(target))
    ) {
      flow = flow.nextOnPort;
    }
    return flow;
  }

  /** Is a client seen at (`shown`, `port`)? */
  has(shown: IpAddress, port: number): boolean {
    let flow = this.#first.get(port) ?? null;
    while (flow !== null && !flow.shown.equals(shown)) flow = flow.nextOnPort;
    return flow !== null;
  }

  add(flow: UdpLocalFlow): void {
    flow.nextOnPort = this.#first.get(flow.shownPort) ?? null;
    this.#first.set(flow.shownPort, flow);
    this.size++;
  }

  /** Remove a flow that is in here. */
  remove(flow: UdpLocalFlow): void {
    const { shownPort, nextOnPort } = flow;
    let before = this.#first.get(shownPort) ?? null;
    if (before === flow) {
      if (nextOnPort === null) this.#first.delete(shownPort);
      else this.#first.set(shownPort, nextOnPort);
    } else {
      while (before !== null && before.nextOnPort !== flow) before = before.nextOnPort;
      if (before !== null) before.nextOnPort = nextOnPort;
    }
    flow.nextOnPort = null;
    this.size--;
  }

  /** Calls for each; the one that it is called for may be removed. */
  forEach(visit: (flow: UdpLocalFlow) => void): void {
    for (const first of this.#first.values()) {
      let next: UdpLocalFlow | null = null;
      for (let flow: UdpLocalFlow | null = first; flow !== null; flow = next) {
        next = flow.nextOnPort;
        visit(flow);
      }
    }
  }
}
