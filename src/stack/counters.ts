/**
 * Named counters. Every input packet ends in exactly one of them: passed on, answered, or dropped for a named reason
 * (G-4). Plain numbers: exact to 2^53.
 */
import { dropReasonNames } from './wire/drop-reason.ts';

/** Counters besides the drop reasons. */
export const Counter = {
  RxPackets: 0,
  RxBytes: 1,
  TxPackets: 2,
  TxBytes: 3,
  TxErrors: 4,
  RxTcp: 5,
  RxUdp: 6,
  RxIcmp: 7,
  RxArp: 8,
  RxFragments: 9,
  TcpOpened: 10,
  TcpRefused: 11,
  TcpResetSent: 12,
  TcpUrgent: 13,
  UdpOpened: 14,
  UdpEvicted: 15,
  PingOpened: 16,
  DnsQueries: 17,
  DnsFailures: 18,
  IcmpErrorsSent: 19,
  TimeWaitEvicted: 20,
  RxReassembled: 21,
  IcmpErrorsSuppressed: 22,
  TcpChallenges: 23,
  TcpChallengesSuppressed: 24,
  TcpNotKept: 25,
  TcpHalfOpenDropped: 26,
  TcpAccepted: 27,
  TcpMemoryPressure: 28,
  PingEvicted: 29,
  FlowsLeftOut: 30,
  TcpDialsDropped: 31,
  UdpRefused: 32,
} as const;
export type Counter = (typeof Counter)[keyof typeof Counter];

const counterNames: readonly string[] = [
  'rx.packets',
  'rx.bytes',
  'tx.packets',
  'tx.bytes',
  'tx.errors',
  'rx.tcp',
  'rx.udp',
  'rx.icmp',
  'rx.arp',
  'rx.fragments',
  'tcp.opened',
  'tcp.refused',
  'tcp.reset_sent',
  'tcp.urg',
  'udp.opened',
  'udp.evicted',
  'ping.opened',
  'dns.queries',
  'dns.failures',
  'icmp.errors_sent',
  'tcp.timewait_evicted',
  'rx.reassembled',
  'icmp.errors_suppressed',
  'tcp.challenge',
  'tcp.challenge_suppressed',
  'tcp.not_kept',
  'tcp.half_open_dropped',
  'tcp.accepted',
  'tcp.memory_pressure',
  'ping.evicted',
  'flows.left_out',
  'tcp.dials_dropped',
  'udp.refused',
];

export class Counters {
  readonly values: Float64Array = new Float64Array(counterNames.length);
  readonly drops: Float64Array = new Float64Array(dropReasonNames.length);

  add(counter: Counter, amount: number): void {
    (this.values[counter] as number) += amount;
  }

  /** Count a dropped packet by its (negative) reason. */
  drop(reason: number): void {
    (this.drops[-reason] as number) += 1;
  }

  /** All counters that are not zero, by name. */
  snapshot(): Record<string, number> {
    const all: Record<string, number> = {};
    counterNames.forEach((name, i) => {
      all[name] = this.values[i] as number;
    });
    dropReasonNames.forEach((name, i) => {
      if (i > 0 && this.drops[i] !== 0) all[`drop.${name}`] = this.drops[i] as number;
    });
    return all;
  }
}
