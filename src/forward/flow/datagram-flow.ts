/**
 * What a UDP or ping flow with a host socket of its own is to those that keep it: a key, a place in the order of use, a
 * record, and an end when nothing was said for a while.
 */

import type { IoHandler } from '../../loop.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { HostDatagramSocket } from '../host/datagram-socket.ts';
import type { RemoteForward } from '../target/remote-forwards.ts';
import type { FlowContext } from './context.ts';
import { DescriptorUse } from './descriptor-budget.ts';
import { IdleTimer } from './idle-timer.ts';
import type { FlowEnds, FlowInfo, ListedFlow } from './info.ts';
import type { LruNode } from './lru.ts';
import { type EndsSource, FlowRecord } from './record.ts';
import type { Keyed } from './table.ts';

export abstract class DatagramFlow
  extends IdleTimer
  implements IoHandler, Keyed, LruNode, EndsSource, ListedFlow
{
  readonly guest: IpAddress;
  readonly remote: IpAddress;
  readonly ports: number;
  keyHash = 0;
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  waiting = false;
  readonly record: FlowRecord;
  protected readonly socket: HostDatagramSocket;

  /** `remote` is kept, `guest` copied. */
  constructor(
    context: FlowContext,
    idleMs: number,
    protocol: FlowInfo['protocol'],
    guest: IpAddress,
    remote: IpAddress,
    ports: number,
    forward: RemoteForward | null,
  ) {
    super(context, idleMs);
    this.guest = guest.clone();
    this.remote = remote;
    this.ports = ports;
    this.record = new FlowRecord(context, protocol, forward);
    this.socket = new HostDatagramSocket(
      context,
      protocol === 'icmp' ? DescriptorUse.Ping : DescriptorUse.Udp,
    );
  }

  /** Port, or the identifier of pings. */
  get guestPort(): number {
    return this.ports >>> 16;
  }

  get remotePort(): number {
    return this.ports & 0xffff;
  }

  get isOver(): boolean {
    return this.socket.fd < 0;
  }

  info(nowMs: number): FlowInfo {
    return this.record.info(nowMs, this.state, this);
  }

  /** What a list shows. */
  protected get state(): string {
    return 'OPEN';
  }

  abstract onIo(events: number): void;
  abstract ends(): FlowEnds;
  /** End it without a word to anybody; it leaves its set by that. */
  abstract close(): void;
}
