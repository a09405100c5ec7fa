/** Challenge ACKs (RFC 5961): the answer to what may be forged. The true guest knows what to do with one. */
import { Counter } from '../counters.ts';
import type { Tcb } from './tcb.ts';

/** Per connection (RFC 5961 §7). */
const CHALLENGES_PER_SECOND = 10;

/** Answer with a challenge ACK, unless there were too many. */
export function challenge(c: Tcb, nowMs: number): void {
  if (nowMs - c.challengeWindowStart >= 1000) {
    c.challengeWindowStart = nowMs;
    c.challengeCount = 0;
  }
  // The limit of all connections is random, or one guest program could count another's challenges (CVE-2016-5696).
  if (c.challengeCount >= CHALLENGES_PER_SECOND || !c.env.challenges.allow(nowMs)) {
    c.env.counters.add(Counter.TcpChallengesSuppressed, 1);
    return;
  }
  c.env.counters.add(Counter.TcpChallenges, 1);
  c.challengeCount++;
  c.rcv.ackNow = true;
}
