/** What is looked up or put in order for every packet: flows, hashes, deadlines, neighbours. */

import { TimerNode } from '../../src/loop.ts';
import { Neighbor } from '../../src/stack/neighbor/cache.ts';
import { FlowTable, type Keyed } from '../../src/stack/transport/flow-table.ts';
import { IpAddress } from '../../src/stack/wire/address.ts';
import { PROTOCOL_TCP } from '../../src/stack/wire/tcp.ts';
import { TimerHeap } from '../../src/timer-heap.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import { guest4, ports, remote4, remote6, Stack } from './fixture.ts';

const FLOWS = 1000;

class Flow implements Keyed {
  readonly guest: IpAddress = guest4;
  readonly remote: IpAddress;
  readonly ports: number;
  keyHash = 0;

  constructor(remote: IpAddress, key: number) {
    this.remote = remote;
    this.ports = key;
  }
}

class Node extends TimerNode {
  onTimer(): void {}
}

export function lookupCases(): CaseGroup {
  const stack = new Stack(true);
  const { hash, clock } = stack;
  const table = new FlowTable<Flow>(hash, PROTOCOL_TCP);
  const flows: Flow[] = [];
  for (let i = 0; i < FLOWS; i++) {
    const remote = new IpAddress().setV4(0xcb007100 + (i & 255));
    const flow = new Flow(remote, (((32768 + i) << 16) | 443) >>> 0);
    flows.push(flow);
    table.add(flow);
  }
  const same = flows[0] as Flow;
  let turn = 0;
  let miss = ports;

  // 1,000 idle flows with a deadline far away, as keep-alive timers are.
  const heap = new TimerHeap();
  for (let i = 0; i < FLOWS; i++) {
    const node = new Node();
    node.deadline = 7_200_000.5 + i;
    heap.update(node);
  }
  const busy = new Node();
  const single = new Node();
  const noError = (error: unknown): void => {
    throw error;
  };
  const lone = new TimerHeap();
  const neighbor = new Neighbor();

  const c = (name: string, run: () => void): Case => ({ group: 'lookup', name, run });
  return {
    cases: [
      c('FlowTable.find, same flow', () => {
        keep(table.find(same.guest, same.remote, same.ports) === null ? 1 : 0);
      }),
      c('FlowTable.find, 1,000 flows in turn', () => {
        const flow = flows[turn] as Flow;
        turn = turn === FLOWS - 1 ? 0 : turn + 1;
        keep(table.find(flow.guest, flow.remote, flow.ports) === null ? 1 : 0);
      }),
      c('FlowTable.find, no such flow', () => {
        miss = (miss + 65536) >>> 0;
        keep(table.find(guest4, remote4, miss) === null ? 1 : 0);
      }),
      c('FlowTable.add and remove', () => {
        table.remove(same);
        table.add(same);
      }),
      c('HalfSipHash.tuple, IPv4', () => keep(hash.tuple(guest4, remote4, ports, PROTOCOL_TCP))),
      c('HalfSipHash.tuple, IPv6', () => keep(hash.tuple(remote6, remote6, ports, PROTOCOL_TCP))),
      c('NeighborTable.lookup', () => keep(stack.neighbors.lookup(guest4, neighbor) ? 1 : 0)),
      c('TimerHeap.update, moved later', () => {
        clock.nowMs += 0.001;
        busy.deadline = clock.nowMs + 200;
        heap.update(busy);
      }),
      c('TimerHeap: set, due, run', () => {
        clock.nowMs += 0.001;
        single.deadline = clock.nowMs;
        heap.update(single);
        heap.run(clock.nowMs, noError);
      }),
      c('TimerHeap: the only one set, cancelled', () => {
        clock.nowMs += 0.001;
        single.deadline = clock.nowMs + 1;
        lone.update(single);
        lone.cancel(single);
      }),
    ],
  };
}
