/** The DNS servers of the host, as the control plane last reported them. */
import { type IpAddress, parseIpAddress } from '../stack/wire/address.ts';

export interface Resolver {
  readonly address: IpAddress;
  /** Interface index for a link-local server (`fe80::1%eth0`), else 0. */
  readonly scopeId: number;
}

export class Resolvers {
  #list: readonly Resolver[] = [];

  get count(): number {
    return this.#list.length;
  }

  /** Server `index`, counted round. Only when `count` > 0. */
  at(index: number): Resolver {
    return this.#list[index % this.#list.length] as Resolver;
  }

  /** Text form `ADDRESS` or `ADDRESS%SCOPE-ID`; what cannot be read is left out. */
  set(servers: readonly string[]): void {
    const list: Resolver[] = [];
    for (const server of servers) {
      const [text = '', scope = '0'] = server.split('%');
      try {
        list.push({ address: parseIpAddress(text).clone(), scopeId: Number(scope) || 0 });
      } catch {
        // resolv.conf is the host's, and a line we cannot use is no reason to lose the others.
      }
    }
    this.#list = list;
  }
}
