/**
 * A client of a local forward that begins with a PROXY protocol header, until that is complete. The bytes are looked at
 * in the kernel's buffer (MSG_PEEK) and taken out when they are known to be the header, so that what follows them is the
 * stream's and nothing is kept here.
 *
 * Limits: `HEADER_MS`; 107 bytes of version 1, `PROXY_MAX` of version 2. A bad header, an end before it is complete or
 * silence is answered with a reset and told as an `error` event, in the words of slirpnetstack.
 */

import { type IoHandler, TimerNode } from '../../loop.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLRDHUP } from '../../sys/epoll.ts';
import { EAGAIN, EINTR } from '../../sys/errno.ts';
import { peek, recv } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import type { FlowEnds } from '../flow/info.ts';
import {
  END_OF_FILE,
  type EndsSource,
  endpoint,
  FlowRecord,
  Half,
  localEnd,
  NOWHERE,
  remoteEnd,
} from '../flow/record.ts';
import { HostDescriptor } from '../host/descriptor.ts';
import type { TcpListener } from './listener.ts';
import { PROXY_BAD, PROXY_MAX, PROXY_MORE, ProxyHeader, parseProxyHeader } from './proxy-protocol.ts';

const HEADER_MS = 5000;
const CUT_SHORT = 'unexpected EOF';
const BAD = 'spp: bad magic number';

/** Filled and used within one call; shared by all clients. */
const header = new ProxyHeader();

export interface ProxyClientOwner {
  readonly context: FlowContext;
  /** The header was taken off `fd`, which is the owner's again. `header` is borrowed. */
  proxied(client: ProxyClient, fd: number, header: ProxyHeader): void;
  /** The client is gone, and so is its descriptor. */
  proxyFailed(client: ProxyClient): void;
}

export class ProxyClient extends TimerNode implements IoHandler, EndsSource {
  readonly listener: TcpListener;
  waiting = false;
  readonly #owner: ProxyClientOwner;
  readonly #record: FlowRecord;
  readonly #descriptor: HostDescriptor;

  constructor(owner: ProxyClientOwner, listener: TcpListener) {
    super();
    this.#owner = owner;
    this.listener = listener;
    this.#descriptor = new HostDescriptor(owner.context, DescriptorUse.Tcp);
    this.#record = new FlowRecord(owner.context, 'tcp', listener);
  }

  /** Take over the client `fd`; 0 or `-errno`, and then it is closed. */
  attach(fd: number): number {
    const result = this.#descriptor.hold(fd, EPOLLIN | EPOLLRDHUP, this);
    if (result < 0) return result;
    const { timers, clock } = this.#owner.context;
    this.deadline = clock.nowMs + HEADER_MS;
    timers.update(this);
    return 0;
  }

  onIo(events: number): void {
    const { fd } = this.#descriptor;
    if (fd < 0) return;
    const { memory, scratch, timers } = this.#owner.context;
    let n: number;
    do n = peek(memory, fd, scratch.message, PROXY_MAX);
    while (n === -EINTR);
    if (n === -EAGAIN) return;
    if (n <= 0) {
      this.#fail(n === 0 ? END_OF_FILE : -n, n === 0 ? CUT_SHORT : '');
      return;
    }
    const length = parseProxyHeader(memory.view, scratch.message, n, header);
    if (length > 0) {
      recv(memory, fd, scratch.message, length);
      timers.cancel(this);
      this.#owner.proxied(this, this.#descriptor.release(), header);
    } else if (length !== PROXY_MORE) {
      this.#fail(0, length === PROXY_BAD ? BAD : CUT_SHORT);
    } else if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) {
      // No more will come.
      this.#fail(END_OF_FILE, CUT_SHORT);
    }
  }

  ends(): FlowEnds {
    const { context } = this.#owner;
    const { fd } = this.#descriptor;
    const { aimed, port } = this.listener;
    return {
      left: remoteEnd(context, fd),
      leftLocal: localEnd(context, fd),
      right: endpoint(aimed.for(null).target, aimed.portFor(port)),
      rightLocal: NOWHERE,
    };
  }

  onTimer(_nowMs: number): void {
    if (this.#descriptor.fd >= 0) this.#fail(0, CUT_SHORT);
  }

  /** The guest is gone. */
  close(): void {
    this.#fail(0, CUT_SHORT);
  }

  #fail(code: number, reason: string): void {
    const { context } = this.#owner;
    this.#record.ended(Half.HostRead, code);
    this.#record.closed(context, this, reason);
    context.timers.cancel(this);
    this.#descriptor.close(true);
    this.#owner.proxyFailed(this);
  }
}
