/**
 * All UDP flows of a guest that have one destination and a connected host socket each: finding, opening and evicting
 * them, and what the guest is told of errors.
 */
import { Verdict } from '../../firewall/verdict.ts';
import { Counter } from '../../stack/counters.ts';
import { Unreachable } from '../../stack/icmp/icmp.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN } from '../../stack/wire/udp.ts';
import { EMFILE } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { FlowSet, type FlowSetOptions, MAX_EVICTIONS_PER_SECOND } from '../flow/set.ts';
import { REFUSE, unreachableFor } from '../host/error.ts';
import { Protocol, type Target } from '../target/target.ts';
import type { ReceiveSlots } from './batch.ts';
import { ConnectedUdpFlow, type ConnectedUdpOwner } from './connected-flow.ts';
import { QueuedTotal } from './datagram-queue.ts';

/** How UDP flows give way to newer ones. */
export const UDP_SET: FlowSetOptions = {
  protocol: PROTOCOL_UDP,
  most: 'udpMaxFlows',
  use: DescriptorUse.Udp,
  evicted: Counter.UdpEvicted,
  evictionsPerSecond: MAX_EVICTIONS_PER_SECOND,
};

export class ConnectedUdpFlows extends FlowSet<ConnectedUdpFlow> implements ConnectedUdpOwner {
  readonly slots: ReceiveSlots;
  readonly queued: QueuedTotal = new QueuedTotal();
  readonly #onEnd: (flow: ConnectedUdpFlow) => void;

  /** `onEnd` hears of every flow that is over. */
  constructor(context: FlowContext, slots: ReceiveSlots, onEnd: (flow: ConnectedUdpFlow) => void) {
    super(context, UDP_SET);
    this.slots = slots;
    this.#onEnd = onEnd;
  }

  /** Open a flow from the guest's end to `target`, which the guest knows as (`remote`, lower half of `ports`); or null. */
  open(guest: IpAddress, remote: IpAddress, ports: number, target: Target): ConnectedUdpFlow | null {
    const { counters } = this.context;
    if (!this.makeRoom()) {
      counters.drop(DropReason.UdpLimit);
      return null;
    }
    const flow = new ConnectedUdpFlow(this, guest, remote, ports, target.forward);
    this.add(flow);
    if (flow.open(target) < 0) return null;
    counters.add(Counter.UdpOpened, 1);
    return flow;
  }

  mayAnswer(flow: ConnectedUdpFlow): boolean {
    const { own, policy, counters } = this.context;
    // What an address of ours stands for is configured, like a forward.
    if (own.answersEcho(flow.remote)) return true;
    if (policy.verdict(Protocol.Udp, flow.remote, flow.remotePort) === Verdict.Permit) return true;
    counters.drop(DropReason.PolicyDeny);
    return false;
  }

  refused(flow: ConnectedUdpFlow, errno: number): void {
    const { counters, icmp, memory, scratch, clock } = this.context;
    if (errno === EMFILE) counters.drop(DropReason.UdpLimit);
    const why = errno === 0 ? Unreachable.Host : unreachableFor(-errno);
    emitUdp(memory.view, scratch.message, flow.guestPort, flow.remotePort, UDP_HEADER_LEN, 0);
    icmp.unreachableFlow(
      flow.guest,
      flow.remote,
      PROTOCOL_UDP,
      scratch.message,
      UDP_HEADER_LEN,
      why === REFUSE ? Unreachable.Port : why,
      clock.nowMs,
    );
  }

  override ended(flow: ConnectedUdpFlow): void {
    super.ended(flow);
    this.#onEnd(flow);
  }
}
