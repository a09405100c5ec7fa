/**
 * DNS over TCP at the stack's own DNS addresses, as a service of messages (RFC 7766): the guest's connection ends in our
 * stack like any other, and what stands in the place of the host's socket is one end of a pair of ours. Each message is put
 * to the resolvers, pipelined ones too, and answered in the order in which answers come.
 *
 * Limits: `MAX_STREAMS` connections, the one that was silent longest gives way; `MAX_QUERIES` of each at a time and
 * `MAX_BACKLOG` bytes of answers, beyond which it is not read, so that the guest's window closes; 10 s of silence with
 * nothing outstanding end it (D-03).
 */

import { LruList, type LruNode } from '../../stack/buffer/lru.ts';
import { Counter } from '../../stack/counters.ts';
import {
  DNS_HEADER_LEN,
  DNS_PORT,
  DNS_RCODE_FORMERR,
  DNS_RCODE_NOTIMP,
  DnsHeader,
  emitDnsServfail,
  parseDnsHeader,
  questionEnd,
} from '../../stack/wire/dns.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { EMFILE } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import { AF_UNIX, SOCK_STREAM, socketpair } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { IdleTimer } from '../flow/idle-timer.ts';
import { DnsMessageSocket, type MessageOwner } from './message-socket.ts';
import { DnsRelay, type RelayOwner } from './relay.ts';

const MAX_STREAMS = 256;
const MAX_QUERIES = 128;
const MAX_BACKLOG = 256 * 1024;
const IDLE_MS = 10_000;

/** Filled and used within one call. */
const header = new DnsHeader();

class DnsStream extends IdleTimer implements MessageOwner, RelayOwner, LruNode {
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  readonly #streams: DnsStreams;
  readonly #socket: DnsMessageSocket;
  readonly #relay: DnsRelay;
  #isEnding = false;
  #isOver = false;

  constructor(streams: DnsStreams) {
    super(streams.context, IDLE_MS);
    this.#streams = streams;
    const { context, serverPort } = streams;
    this.#socket = new DnsMessageSocket(context, this);
    this.#relay = new DnsRelay(context, serverPort, this);
    this.used();
  }

  attach(fd: number): number {
    return this.#socket.attach(fd);
  }

  onMessage(_socket: DnsMessageSocket, message: Buffer): void {
    const { counters } = this.context;
    this.#touch();
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    if (parseDnsHeader(view, 0, message.length, header) < 0) {
      // Whatever this is, what follows is no better.
      counters.drop(DropReason.DnsMalformed);
      this.close();
      return;
    }
    // An answer to an answer would be the beginning of a loop (U-06).
    if (header.isResponse) {
      counters.drop(DropReason.DnsResponse);
      return;
    }
    const end = questionEnd(view, 0, message.length);
    if (header.opcode !== 0 || end < 0) {
      if (header.opcode === 0) counters.drop(DropReason.DnsMalformed);
      const rcode = header.opcode !== 0 ? DNS_RCODE_NOTIMP : DNS_RCODE_FORMERR;
      const answer = Buffer.alloc(Math.max(end, DNS_HEADER_LEN));
      message.copy(answer);
      emitDnsServfail(new DataView(answer.buffer, answer.byteOffset), 0, answer.length, 0, rcode);
      this.#socket.send(answer);
      return;
    }
    counters.add(Counter.DnsQueries, 1);
    this.#relay.ask(Buffer.from(message), end);
    this.#regulate();
  }

  onAnswer(message: Buffer): void {
    if (this.#isOver) return;
    this.#touch();
    this.#socket.send(message);
    this.#regulate();
  }

  onDrained(): void {
    this.#regulate();
  }

  /** A guest that has no more to ask still waits for what it asked. */
  onEnd(socket: DnsMessageSocket): void {
    this.#isEnding = true;
    if (socket.fd < 0 || this.#isIdle) this.close();
  }

  get #isIdle(): boolean {
    return this.#relay.outstanding === 0 && this.#socket.backlog === 0;
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.context.timers.cancel(this);
    this.#relay.close();
    this.#socket.close();
    this.#streams.ended(this);
  }

  protected onIdle(): void {
    if (this.#isIdle) {
      this.close();
      return;
    }
    this.#touch();
    this.deadline = this.context.clock.nowMs + IDLE_MS;
    this.context.timers.update(this);
  }

  #touch(): void {
    this.used();
    this.#streams.touch(this);
  }

  /** A guest that does not read is not read from either. */
  #regulate(): void {
    if (this.#isEnding) {
      if (this.#isIdle) this.close();
    } else if (this.#relay.outstanding >= MAX_QUERIES || this.#socket.backlog >= MAX_BACKLOG) {
      this.#socket.pause();
    } else {
      this.#socket.resume();
    }
  }
}

export class DnsStreams {
  readonly context: FlowContext;
  /** Where resolvers are asked. */
  readonly serverPort: number;
  readonly #lru = new LruList();
  #count = 0;

  constructor(context: FlowContext, serverPort: number = DNS_PORT) {
    this.context = context;
    this.serverPort = serverPort;
  }

  /** A socket connected to the service, for a connection of the guest; `-errno`. */
  dial(): number {
    const { memory, scratch, descriptors } = this.context;
    if (!descriptors.hasRoom(DescriptorUse.Dns) || !descriptors.hasRoom(DescriptorUse.Tcp)) return -EMFILE;
    if (this.#count >= MAX_STREAMS) (this.#lru.oldest as DnsStream).close();
    const result = socketpair(memory, AF_UNIX, SOCK_STREAM, scratch.sockaddr);
    if (result < 0) return result;
    const ours = memory.view.getInt32(scratch.sockaddr, true);
    const guests = memory.view.getInt32(scratch.sockaddr + 4, true);
    const stream = new DnsStream(this);
    this.#count++;
    this.#lru.add(stream);
    const attached = stream.attach(ours);
    if (attached < 0) {
      stream.close();
      close(guests);
      return attached;
    }
    return guests;
  }

  /** The guest is gone: every connection ends. */
  close(): void {
    for (let stream = this.#lru.oldest; stream !== null; stream = this.#lru.oldest)
      (stream as DnsStream).close();
  }

  touch(stream: DnsStream): void {
    this.#lru.touch(stream);
  }

  ended(stream: DnsStream): void {
    this.#lru.remove(stream);
    this.#count--;
  }
}
