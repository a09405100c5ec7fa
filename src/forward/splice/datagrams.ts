/** All spliced UDP flows of a guest: opening them, and which gives way where there are too many. */
import type { Endpoint } from '../../config.ts';
import { LruList } from '../../stack/buffer/lru.ts';
import { Counter } from '../../stack/counters.ts';
import { RateLimit } from '../../stack/rate-limit.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { AF_INET, AF_INET6, SOCK_DGRAM, socket } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import type { ListedFlow } from '../flow/info.ts';
import type { ListeningForward } from '../flow/record.ts';
import { MAX_EVICTIONS_PER_SECOND } from '../flow/set.ts';
import type { DatagramBatch } from '../udp/batch.ts';
import type { ClientTable } from '../udp/client-table.ts';
import type { ClientFlow } from '../udp/datagram-listener.ts';
import { QueuedTotal } from '../udp/datagram-queue.ts';
import { type DatagramFlowKeeper, SplicedDatagramFlow } from './datagram-flow.ts';
import { SocketKind } from './inside-sockets.ts';

/** By which a client is heard and answered. */
export interface SplicedDatagramListener extends ListeningForward {
  readonly clients: ClientTable<ClientFlow>;
  answer(flow: ClientFlow, batch: DatagramBatch): void;
  clientEnd(flow: ClientFlow): Endpoint;
  contactedEnd(flow: ClientFlow): Endpoint;
  ended(flow: ClientFlow): void;
}

export class SplicedDatagrams implements DatagramFlowKeeper {
  readonly context: FlowContext;
  readonly queued: QueuedTotal = new QueuedTotal();
  size = 0;
  readonly #lru = new LruList();
  readonly #evictions = new RateLimit(MAX_EVICTIONS_PER_SECOND, MAX_EVICTIONS_PER_SECOND);

  constructor(context: FlowContext) {
    this.context = context;
  }

  /**
   * A flow for the client of datagram `i` of the listeners' slots, to (`target`, `port`) inside the guest's namespace or on the host;
   * null: there is no room.
   */
  open(
    listener: SplicedDatagramListener,
    i: number,
    contacted: IpAddress,
    target: IpAddress,
    port: number,
  ): SplicedDatagramFlow | null {
    const { context } = this;
    const { counters, memory, slab, scratch, inside } = context;
    if (port === 0 || !this.#makeRoom()) {
      counters.drop(DropReason.UdpLimit);
      return null;
    }
    const slots = scratch.localSlots;
    const at = slots.nameAt(i);
    const name = slab.bytes.slice(at, at + slots.nameLengthAt(i));
    const flow = new SplicedDatagramFlow(this, listener, name, contacted, target, port);
    counters.add(Counter.UdpOpened, 1);
    this.size++;
    this.#lru.add(flow);
    listener.clients.add(flow, memory.view, at);
    if (listener.kind === 'local') inside.take(target.isV4 ? SocketKind.Udp4 : SocketKind.Udp6, flow);
    else flow.onSocket(socket(target.isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0));
    return flow.isOver ? null : flow;
  }

  listFlows(out: ListedFlow[]): void {
    for (const flow of this.#all()) out.push(flow);
  }

  closeFlow(id: number): boolean {
    for (const flow of this.#all()) {
      if (flow.record.id !== id) continue;
      flow.close();
      return true;
    }
    return false;
  }

  touch(flow: SplicedDatagramFlow): void {
    this.#lru.touch(flow);
  }

  ended(flow: SplicedDatagramFlow): void {
    this.size--;
    this.#lru.remove(flow);
  }

  *#all(): Generator<SplicedDatagramFlow, void, undefined> {
    for (let flow = this.#lru.oldest as SplicedDatagramFlow | null; flow !== null; ) {
      const next = flow.lruNext as SplicedDatagramFlow | null;
      yield flow;
      flow = next;
    }
  }

  /** For one more; false: not now. */
  #makeRoom(): boolean {
    const { limits, descriptors, clock, counters } = this.context;
    if (this.size < limits.udpMaxFlows && descriptors.hasRoom(DescriptorUse.Udp)) return true;
    const oldest = this.#lru.oldest as SplicedDatagramFlow | null;
    if (oldest === null || !this.#evictions.allow(clock.nowMs)) return false;
    counters.add(Counter.UdpEvicted, 1);
    oldest.close();
    return true;
  }
}
