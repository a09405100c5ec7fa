/**
 * What a congestion control algorithm decides: how many bytes may be in flight. Loss detection and retransmission are
 * not its business. Bytes throughout.
 */
export interface CongestionControl {
  /** Congestion window; Infinity where there is none. */
  readonly cwnd: number;
  /** `acked` new bytes were acknowledged while `flight` bytes had been outstanding. */
  onAck(acked: number, flight: number, nowMs: number): void;
  /** Loss was noticed by duplicate or selective acknowledgments (once per recovery). */
  onLoss(flight: number, nowMs: number): void;
  /** The retransmission timer fired. */
  onTimeout(flight: number, nowMs: number): void;
  /** All that was outstanding at the loss is acknowledged. */
  onRecovered(nowMs: number): void;
}
