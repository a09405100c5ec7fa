/** What passes between a connection and its owner: the events that it reports, a segment to send, and its surroundings. */
import type { Pages } from '../buffer/slab.ts';
import type { Counters } from '../counters.ts';
import type { ErrorLimiter } from '../icmp/limit.ts';
import { TcpHeader } from '../wire/tcp.ts';
import type { CongestionControl } from './congestion/congestion.ts';

/** Events for the owner, as a bit mask. */
export const EV_ESTABLISHED = 1;
/** In-order bytes lie at `deliverOffset`; call `takeDelivered` before anything else. */
export const EV_DELIVER = 2;
/** The guest has sent its last byte and all of them have been received. */
export const EV_FIN = 4;
/** The guest reset the connection. */
export const EV_RESET = 8;
/** The connection is over; nothing will be sent or received any more. */
export const EV_CLOSED = 16;
/** There are bytes to read that were kept. */
export const EV_READABLE = 32;
/** The segment acknowledges a SYN-ACK that was never sent: answer it with the RST of a closed port (§3.10.7.4). */
export const EV_BAD_ACK = 64;

/** A segment to send. Borrowed: one instance is filled again and again. */
export class TcpSegmentOut {
  readonly header: TcpHeader = new TcpHeader();
  /** Where the payload begins in the connection's queue, and how much of it there is. */
  queueOffset = 0;
  length = 0;
  /** Payload bytes per wire segment; `length` > `mss` asks the device to segment. */
  mss = 0;
}

/** What all connections of a guest have in common. */
export interface TcpEnvironment {
  readonly slab: Pages;
  /** Its MTU may change. */
  readonly link: { readonly mtu: number };
  /** Most bytes a connection buffers from the guest: the largest receive window. */
  readonly receiveLimit: number;
  /** Most bytes a connection queues towards the guest. */
  readonly sendLimit: number;
  readonly outOfOrderRanges: number;
  /** Largest payload of one transmitted segment when the device segments for us; 0 = it does not. */
  readonly superSegment4: number;
  readonly superSegment6: number;
  readonly delayedAckMs: number;
  readonly counters: Counters;
  /** Of all connections together: how many challenge ACKs may be sent. */
  readonly challenges: ErrorLimiter;
  newCongestionControl(mss: number): CongestionControl;
}
