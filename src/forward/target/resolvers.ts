/** The DNS servers of the host, and how its resolv.conf(5) wants them asked, as the control plane last reported them. */
import { defaultResolverOptions, type ResolverOptions } from '../../config.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';

/** Servers that are asked (MAXNS of resolv.conf(5)). */
const MAX_SERVERS = 3;

export interface Resolver {
  readonly address: IpAddress;
  /** Interface index for a link-local server (`fe80::1%eth0`), else 0. */
  readonly scopeId: number;
}

export class Resolvers {
  /** Counts up with every change. */
  version = 0;
  options: ResolverOptions = defaultResolverOptions;
  onChanged: (() => void) | null = null;
  #list: readonly Resolver[] = [];

  get count(): number {
    return this.#list.length;
  }

  /** Server `index`, counted round. Only when `count` > 0. */
  at(index: number): Resolver {
    return this.#list[index % this.#list.length] as Resolver;
  }

  /** Would a host that asks these, but has another host's loopback at `address`, ask there? */
  isReachedAt(address: IpAddress): boolean {
    return this.#list.some((resolver) => resolver.address.isLoopback || resolver.address.equals(address));
  }

  /** Text form `ADDRESS` or `ADDRESS%SCOPE-ID`; what cannot be read is left out. */
  set(servers: readonly string[], options: ResolverOptions = defaultResolverOptions): void {
    const list: Resolver[] = [];
    for (const server of servers) {
      if (list.length === MAX_SERVERS) break;
      const [text = '', scope = '0'] = server.split('%');
      try {
        list.push({ address: parseIpAddress(text).clone(), scopeId: Number(scope) || 0 });
      } catch {
        // resolv.conf is the host's, and a line we cannot use is no reason to lose the others.
      }
    }
    this.#list = list;
    this.options = options;
    this.version++;
    this.onChanged?.();
  }

  /**
   * How long the host's own libc waits for an answer in all: each server in its turn, `attempts` times over, with times that
   * double from server to server (res_send(3)).
   */
  get patienceMs(): number {
    const { timeoutMs, attempts } = this.options;
    const { count } = this;
    let round = timeoutMs;
    for (let i = 1; i < count; i++)
      round += Math.max(1000, Math.floor((timeoutMs << i) / count / 1000) * 1000);
    return round * attempts;
  }
}
