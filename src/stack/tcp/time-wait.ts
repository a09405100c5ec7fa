/**
 * TIME-WAIT (RFC 9293 §3.6.1, §3.10.7.4): what is left of a connection that is over on both sides, and what is said to
 * segments that still come for it. How long it is kept is the owner's business.
 */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import { type Seq, seqLt } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** `Newer`: a SYN that may open the next connection between the same ends (RFC 6191). */
export const TimeWaitAnswer = { None: 0, Acknowledge: 1, Newer: 2 } as const;
export type TimeWaitAnswer = (typeof TimeWaitAnswer)[keyof typeof TimeWaitAnswer];

export class TimeWait {
  readonly #sndNxt: Seq;
  readonly #rcvNxt: Seq;
  readonly #tsRecent: number;
  readonly #tsOffset: number;
  readonly #timestampsOk: boolean;

  constructor(c: Tcb) {
    this.#sndNxt = c.snd.nxt;
    this.#rcvNxt = c.rcv.nxt;
    this.#tsRecent = c.tsRecent;
    this.#tsOffset = c.tsOffset;
    this.#timestampsOk = c.timestampsOk;
  }

  answerTo(h: TcpHeader): TimeWaitAnswer {
    const { flags } = h;
    // RFC 1337: a reset must not end TIME-WAIT early.
    if ((flags & TCP_RST) !== 0) return TimeWaitAnswer.None;
    const age = this.#timestampsOk && h.hasTimestamps ? (h.tsVal - this.#tsRecent) | 0 : 0;
    const ahead = seqLt(this.#rcvNxt, h.seq);
    if ((flags & (TCP_SYN | TCP_ACK)) === TCP_SYN && (age > 0 || (age === 0 && ahead)))
      return TimeWaitAnswer.Newer;
    // An acceptable segment without SYN or FIN says nothing new; answering it could go back and forth for ever (T-12).
    if ((flags & (TCP_SYN | TCP_FIN)) === 0 && h.seq === this.#rcvNxt && age >= 0) return TimeWaitAnswer.None;
    return TimeWaitAnswer.Acknowledge;
  }

  /** Make `h` the acknowledgment of everything. */
  fillAck(h: TcpHeader, nowMs: number): void {
    h.seq = this.#sndNxt;
    h.ack = this.#rcvNxt;
    h.flags = TCP_ACK;
    h.window = 0xffff;
    h.hasTimestamps = this.#timestampsOk;
    h.tsVal = (Math.floor(nowMs) + this.#tsOffset) >>> 0;
    h.tsEcr = this.#tsRecent;
  }
}
