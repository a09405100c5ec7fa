/** Two stacks joined by a link on a manual clock: a gateway and a host. */
import { Stack, type StackOptions } from '../../src/netstack/index.ts';
import { seededRng } from '../support/seeded-rng.ts';

export interface LinkOptions {
  seed?: number;
  delayMs?: number;
  /** Probability, 0 … 1. */
  loss?: number;
  medium?: 'ethernet' | 'ip';
  mtu?: number;
}

interface Flying {
  at: number;
  to: Stack;
  frame: Uint8Array;
}

export class JoinedStacks {
  readonly gateway: Stack;
  readonly host: Stack;
  nowMs = 1000;
  /** Every frame that was sent, lost or not. */
  readonly frames: Uint8Array[] = [];
  readonly #flying: Flying[] = [];

  constructor(link: LinkOptions = {}, gateway: Partial<StackOptions> = {}, host: Partial<StackOptions> = {}) {
    const { seed = 1, delayMs = 1, loss = 0, medium = 'ethernet', mtu = 1500 } = link;
    const rng = seededRng(seed);
    const send = (to: () => Stack) => (frame: Uint8Array) => {
      this.frames.push(frame);
      if (rng.u32() / 2 ** 32 < loss) return;
      this.#flying.push({ at: this.nowMs + delayMs, to: to(), frame });
    };
    const common = { medium, mtu, now: () => this.nowMs, random: () => rng.u32() };
    this.gateway = new Stack({
      ...common,
      ipv4: '10.0.2.2/24',
      ipv6: 'fd00::2/64',
      peer4: '10.0.2.100',
      peer6: 'fd00::100',
      transmit: send(() => this.host),
      ...gateway,
    });
    this.host = new Stack({
      ...common,
      role: 'host',
      ipv4: '10.0.2.100/24',
      ipv6: 'fd00::100/64',
      peer4: '10.0.2.2',
      peer6: 'fd00::2',
      transmit: send(() => this.gateway),
      ...host,
    });
  }

  /** Let time pass until `done`, or nothing will happen any more, or for `limitMs`. Whether it was `done`. */
  run(done: () => boolean = () => false, limitMs = 600_000): boolean {
    const end = this.nowMs + limitMs;
    while (!done()) {
      const arrives = this.#flying.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
      const next = Math.min(arrives, this.gateway.nextTimeout, this.host.nextTimeout);
      if (next > end) return false;
      this.nowMs = Math.max(this.nowMs, next);
      const due = this.#flying.filter(({ at }) => at <= this.nowMs);
      for (const one of due) this.#flying.splice(this.#flying.indexOf(one), 1);
      for (const { to, frame } of due) to.receive(frame);
      for (const stack of [this.gateway, this.host]) if (stack.nextTimeout <= this.nowMs) stack.onTimeout();
    }
    return true;
  }
}
