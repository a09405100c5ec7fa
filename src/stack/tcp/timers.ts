/** A connection's timers: slots in one Float64Array of absolute times in milliseconds, Infinity = not set. */
export const Timer = {
  /** Retransmission (RFC 6298) of data, SYN or FIN; the persist timer (RFC 9293 §3.8.6.1) when nothing is in flight. */
  Retransmit: 0,
  Persist: 1,
  DelayedAck: 2,
  /** Tail loss probe (RFC 8985 §7). */
  LossProbe: 3,
  Keepalive: 4,
  /** The state has a natural end: handshake. */
  State: 5,
  /** RACK: something may be lost, unless it comes by then (RFC 8985 §6.3). */
  Reorder: 6,
  /** New data may be sent again: it is spread over the round trip. */
  Pace: 7,
} as const;
export type Timer = (typeof Timer)[keyof typeof Timer];

export const TIMER_COUNT = 8;

/** The earliest of the timers; Infinity when none is set. */
export function earliest(timers: Float64Array): number {
  let next = timers[0] as number;
  for (let i = 1; i < TIMER_COUNT; i++) {
    const at = timers[i] as number;
    if (at < next) next = at;
  }
  return next;
}
