/**
 * What a congestion control algorithm decides: how many bytes may be in flight. Loss detection, retransmission and the
 * way down during a recovery (recovery.ts) are not its business. Bytes and milliseconds throughout.
 */
export interface CongestionControl {
  /** Congestion window; Infinity where there is none. */
  readonly cwnd: number;
  readonly ssthresh: number;
  /**
   * `acked` new bytes were acknowledged, not in a fast recovery. `limited`: the window was what kept us from sending
   * more; a sender that does not fill it learns nothing about it (RFC 7661's reason). `rttMs`: latest round trip, or -1.
   */
  onAck(acked: number, limited: boolean, nowMs: number, rttMs: number): void;
  /** Loss was noticed by duplicate or selective acknowledgments (once per recovery). */
  onLoss(flight: number, nowMs: number): void;
  /** The retransmission timer fired; `again`: not for the first time since anything was acknowledged. */
  onTimeout(flight: number, nowMs: number, again: boolean): void;
  /** All that was outstanding at the loss is acknowledged. */
  onRecovered(nowMs: number): void;
  /** What `onLoss` or `onTimeout` last told was a mistake: nothing was lost, only late (RFC 3522, RFC 4015). */
  undo(nowMs: number): void;
  /** Nothing was in flight for a retransmission timeout or longer (RFC 5681 §4.1). */
  onIdle(nowMs: number): void;
}

/** RFC 6928 §2. */
export function initialWindow(mss: number): number {
  return Math.min(10 * mss, Math.max(2 * mss, 14600));
}
