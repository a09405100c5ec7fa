/**
 * How the guest is told that there is no connection: RST as a closed port sends it (RFC 9293 §3.10.7.1), or the ICMP
 * error that the host's connect stands for.
 */
import { Counter } from '../../stack/counters.ts';
import type { Packet } from '../../stack/link/packet.ts';
import { fillReset } from '../../stack/tcp/reset.ts';
import { seqAdd } from '../../stack/tcp/seq.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { PROTOCOL_TCP, TCP_ACK, TCP_RST, TcpHeader } from '../../stack/wire/tcp.ts';
import type { FlowContext } from '../flow/context.ts';
import { REFUSE, unreachableFor } from '../host/error.ts';
import type { TcpFlow } from './flow.ts';

/** TCP bytes an ICMP error quotes: ports and sequence number (RFC 792). */
const QUOTE_BYTES = 8;

export class TcpRefuser {
  readonly #context: FlowContext;
  readonly #header = new TcpHeader();

  constructor(context: FlowContext) {
    this.#context = context;
  }

  /** Nobody listens where `segment` with its `length` bytes of payload, in `p`, wants to go. */
  reset(p: Packet, segment: TcpHeader, length: number): void {
    if (fillReset(this.#header, segment, length)) this.#transmit(p.dst, p.src, this.#header);
  }

  /** Connecting failed with `-errno`: the answer to the SYN of `flow`. */
  refuse(flow: TcpFlow, error: number): void {
    const { icmp, scratch, memory, clock, counters } = this.#context;
    const { guest, remote, ports, connection } = flow;
    counters.add(Counter.TcpRefused, 1);
    const why = unreachableFor(error);
    if (why === REFUSE) {
      const h = this.#header;
      h.srcPort = flow.remotePort;
      h.dstPort = flow.guestPort;
      h.seq = 0;
      h.ack = seqAdd(connection.rcv.irs, 1 + flow.synBytes);
      h.flags = TCP_RST | TCP_ACK;
      h.window = 0;
      h.hasTimestamps = false;
      this.#transmit(remote, guest, h);
      return;
    }
    memory.view.setUint32(scratch.message, ports);
    memory.view.setUint32(scratch.message + 4, connection.rcv.irs);
    icmp.unreachableFlow(guest, remote, PROTOCOL_TCP, scratch.message, QUOTE_BYTES, why, clock.nowMs);
  }

  #transmit(src: IpAddress, dst: IpAddress, h: TcpHeader): void {
    this.#context.counters.add(Counter.TcpResetSent, 1);
    this.#context.egress.beginTcp(src, dst, h);
    this.#context.egress.send();
  }
}
