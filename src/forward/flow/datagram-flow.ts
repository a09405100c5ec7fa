/**
 * What a UDP or ping flow with a host socket of its own is to those that keep it: a key, a place in the order of use, a
 * record, and an end when nothing was said for a while. Unless it says otherwise it is a mapping, whose socket speaks for
 * the guest to all destinations: what is told of its ends is where the guest sent first, or nowhere.
 */

import type { IoHandler } from '../../loop.ts';
import type { LruNode } from '../../stack/buffer/lru.ts';
import type { Keyed } from '../../stack/transport/flow-table.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { HostDatagramSocket } from '../host/datagram-socket.ts';
import type { RemoteForward } from '../target/remote-forwards.ts';
import type { FlowContext } from './context.ts';
import { DescriptorUse } from './descriptor-budget.ts';
import { IdleTimer } from './idle-timer.ts';
import type { FlowEnds, FlowInfo, ListedFlow } from './info.ts';
import { type EndsSource, endpoint, FlowRecord, localEnd, NOWHERE } from './record.ts';

export interface DatagramFlowOwner {
  readonly context: FlowContext;
  touch(flow: DatagramFlow): void;
  ended(flow: DatagramFlow): void;
}

export abstract class DatagramFlow<O extends DatagramFlowOwner = DatagramFlowOwner>
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
  protected readonly owner: O;
  protected readonly socket: HostDatagramSocket;
  /** While the flow is told to be open: where the guest sends first. */
  #first: IpAddress | null = null;
  #firstPort = 0;

  /** `remote` is kept, `guest` copied. */
  constructor(
    owner: O,
    idleMs: number,
    protocol: FlowInfo['protocol'],
    guest: IpAddress,
    remote: IpAddress,
    ports: number,
    forward: RemoteForward | null,
  ) {
    const { context } = owner;
    super(context, idleMs);
    this.owner = owner;
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

  /** The socket is open. */
  protected opened(address: IpAddress, port: number): void {
    this.#first = address;
    this.#firstPort = port;
    this.record.opened(this.context, this);
    this.#first = null;
  }

  ends(): FlowEnds {
    const right = this.#first === null ? NOWHERE : endpoint(this.#first, this.#firstPort);
    return {
      left: endpoint(this.guest, this.guestPort),
      leftLocal: right,
      right,
      rightLocal: localEnd(this.context, this.socket.fd),
    };
  }

  /** End it without a word to anybody; it leaves its set by that. */
  close(): void {
    if (this.socket.fd < 0) return;
    this.record.closed(this.context, this);
    this.socket.close();
    this.context.timers.cancel(this);
    this.owner.ended(this);
  }
}
