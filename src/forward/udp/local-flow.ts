/**
 * One client of a local UDP forward. It has no socket of its own: it hears through its listener and answers through it,
 * from the address that the client contacted. Towards the guest it speaks from a port of its own, under the client's
 * address where that may be shown.
 *
 * It ends `IDLE_MS` after the last word in either direction, when the guest says that nobody listens, with its listener,
 * and for an `rpc` forward with the first answer.
 */
import type { Endpoint } from '../../config.ts';
import type { LruNode } from '../../stack/buffer/lru.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import type { FlowContext } from '../flow/context.ts';
import { IdleTimer } from '../flow/idle-timer.ts';
import type { FlowEnds, FlowInfo } from '../flow/info.ts';
import {
  END_OF_FILE,
  type EndsSource,
  endpoint,
  FlowRecord,
  Half,
  type LocalForward,
} from '../flow/record.ts';
import type { Target } from '../target/target.ts';
import type { DatagramBatch, ReceiveSlots } from './batch.ts';
import type { Client } from './client-table.ts';
import type { DatagramSink } from './datagram-sink.ts';

const IDLE_MS = 125_000;

/** What the flow needs of its listener. */
export interface AnswerPath extends LocalForward {
  readonly rpc: boolean;
  /** Send the guest's answers to `flow.name`, from `flow.contacted`, each behind `flow.header`. */
  answer(flow: UdpLocalFlow, batch: DatagramBatch): void;
  /** The client, and where it contacted us, as plain data. */
  clientEnd(flow: UdpLocalFlow): Endpoint;
  contactedEnd(flow: UdpLocalFlow): Endpoint;
  ended(flow: UdpLocalFlow): void;
}

export interface UdpLocalOwner {
  readonly context: FlowContext;
  touch(flow: UdpLocalFlow): void;
  /** The client has gone on after an answer: it is really there. */
  converses(flow: UdpLocalFlow): void;
  ended(flow: UdpLocalFlow): void;
}

export class UdpLocalFlow extends IdleTimer implements Client, DatagramSink, LruNode, EndsSource {
  readonly listener: AnswerPath;
  readonly name: Uint8Array;
  readonly contacted: IpAddress;
  /** The guest's service. */
  readonly target: IpAddress;
  readonly targetPort: number;
  /** Where the guest sees the client. */
  readonly shown: IpAddress;
  readonly shownPort: number;
  /** The proxy header that every datagram of the client begins with, and every answer is given back; or empty. */
  readonly header: Uint8Array;
  readonly record: FlowRecord;
  /** The next one that shows its client at the same port; `ClientPorts` has it. */
  nextOnPort: UdpLocalFlow | null = null;
  nextClient: Client | null = null;
  clientHash = 0;
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  readonly #owner: UdpLocalOwner;
  /** The client has spoken, was answered, and spoke again, which nobody does under another's address. */
  isConversing = false;
  #answered = false;
  #over = false;

  constructor(
    owner: UdpLocalOwner,
    listener: AnswerPath,
    name: Uint8Array,
    contacted: IpAddress,
    target: IpAddress,
    targetPort: number,
    shown: IpAddress,
    shownPort: number,
    header: Uint8Array,
  ) {
    super(owner.context, IDLE_MS);
    this.#owner = owner;
    this.listener = listener;
    this.name = name;
    this.contacted = contacted.clone();
    this.target = target;
    this.targetPort = targetPort;
    this.shown = shown.clone();
    this.shownPort = shownPort;
    this.header = header;
    this.record = new FlowRecord(owner.context, 'udp', listener);
  }

  opened(): void {
    this.record.opened(this.context, this);
  }

  /** Pass datagrams `first` … `end` - 1 of the client on. */
  receive(slots: ReceiveSlots, first: number, end: number): void {
    this.used();
    if (this.#answered && !this.isConversing) this.#owner.converses(this);
    else this.#owner.touch(this);
    this.record.bytesIn += slots.pass(
      first,
      end,
      this.header.length,
      this.shown,
      this.shownPort,
      this.target,
      this.targetPort,
      this.context,
    );
  }

  /** Pass the guest's answers on. */
  send(batch: DatagramBatch, _target: Target, _ttl: number): void {
    if (this.#over) return;
    this.used();
    this.#answered = true;
    this.#owner.touch(this);
    if (this.listener.rpc) batch.keepFirst();
    this.record.bytesOut += batch.length;
    this.listener.answer(this, batch);
    if (this.listener.rpc) this.end(Half.GuestRead, END_OF_FILE);
  }

  get isOver(): boolean {
    return this.#over;
  }

  info(nowMs: number): FlowInfo {
    return this.record.info(nowMs, 'OPEN', this);
  }

  /** `half` ended, and so the other side does. */
  end(half: Half, code: number): void {
    if (this.#over) return;
    this.record.endedWhole(half, code);
    this.close();
  }

  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.record.closed(this.context, this);
    this.context.timers.cancel(this);
    this.listener.ended(this);
    this.#owner.ended(this);
  }

  protected onIdle(): void {
    this.end(Half.HostRead, END_OF_FILE);
  }

  ends(): FlowEnds {
    return {
      left: this.listener.clientEnd(this),
      leftLocal: this.listener.contactedEnd(this),
      right: endpoint(this.target, this.targetPort),
      rightLocal: endpoint(this.shown, this.shownPort),
    };
  }
}
