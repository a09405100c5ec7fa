/**
 * A descriptor of the host that a flow or a listener owns: watched by the poller and counted in the flows' budget from
 * `hold` to `close` or `release`, each of which may be called at any time.
 */

import type { IoHandler } from '../../loop.ts';
import { EPOLLET } from '../../sys/epoll.ts';
import { close } from '../../sys/io.ts';
import { setLingerZero } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import type { DescriptorUse } from '../flow/descriptor-budget.ts';

export class HostDescriptor {
  protected readonly context: FlowContext;
  readonly #use: DescriptorUse;
  #fd = -1;
  #token = -1;

  constructor(context: FlowContext, use: DescriptorUse) {
    this.context = context;
    this.#use = use;
  }

  /** -1 when none is held. */
  get fd(): number {
    return this.#fd;
  }

  /** Take over `fd` and watch it for `events`, edge-triggered; 0, or `-errno` and it is closed. */
  hold(fd: number, events: number, handler: IoHandler): number {
    const { poller, descriptors } = this.context;
    const token = poller.add(fd, events | EPOLLET, handler);
    if (token < 0) {
      close(fd);
      return token;
    }
    descriptors.take(this.#use);
    this.#fd = fd;
    this.#token = token;
    return 0;
  }

  /** `reset`: the other end of the connection gets RST instead of FIN. */
  close(reset = false): void {
    if (this.#fd < 0) return;
    const { poller, descriptors, memory, scratch } = this.context;
    poller.forget(this.#token);
    if (reset) setLingerZero(memory, this.#fd, scratch.option);
    close(this.#fd);
    descriptors.giveBack(this.#use);
    this.#fd = -1;
  }

  /** Hand it over to somebody else: not watched and not counted any more. */
  release(): number {
    const { poller, descriptors } = this.context;
    const fd = this.#fd;
    poller.remove(this.#token);
    descriptors.giveBack(this.#use);
    this.#fd = -1;
    return fd;
  }
}
