/**
 * UDP: the highest paced rate that loses at most 1 %, found by doubling and then halving steps, and the flood. A rate
 * that fails is tried once more, because a stolen slice of the machine also loses datagrams.
 */
import type { Agent } from '../agent-client.ts';
import { SERVER_ADDRESS } from '../namespaces.ts';
import { cpuSeconds } from '../proc-stats.ts';
import { delay } from '../processes.ts';
import { type Session, withSession } from '../session.ts';
import type { Cell, Figures, Metric, Timing } from '../workload.ts';
import type { Direction } from './bulk.ts';

const GUEST_PORT = 7003;
const HOST_PORT = 7004;
const FIRST_RATE = 30_000;
const STEP = 1.5;
/** The search ends when the interval is this narrow. */
const PRECISION = 1.05;
const MAX_LOSS = 0.01;
/** A sender that reaches less than this share of the asked rate is itself the limit. */
const SENDER_SHARE = 0.97;
const QUIET_MS = 100;

const METRICS: readonly Metric[] = [
  { id: 'rate', title: 'rate with ≤ 1 % lost', unit: '/s', better: 'higher', digits: 0 },
  { id: 'cpu', title: 'stack CPU at that rate', unit: 'µs each', better: 'lower', digits: 2 },
  { id: 'flood', title: 'delivered of a flood', unit: '/s', better: 'higher', digits: 0 },
  { id: 'floodLoss', title: 'lost of a flood', unit: '%', better: 'lower', digits: 0 },
];

interface Trial {
  /** Datagrams that arrived, per second. */
  readonly rate: number;
  /** Share that did not arrive. */
  readonly loss: number;
  /** Datagrams sent per second. */
  readonly sentRate: number;
  /** Stack CPU per delivered datagram, µs. */
  readonly cpu: number;
}

/** Cells of the datagram workload. */
export const datagramCells: readonly Cell[] = [64, 1400].flatMap((size) =>
  (['up', 'down'] as const).map((direction) => datagramCell(direction, size)),
);

function datagramCell(direction: Direction, size: number): Cell {
  return {
    id: `datagrams/${direction}/${size}`,
    table: 'UDP datagrams',
    title: `${direction}, ${size} bytes`,
    metrics: METRICS,
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500 }, (session) => measure(session, direction, size, timing)),
  };
}

async function measure(
  session: Session,
  direction: Direction,
  size: number,
  timing: Timing,
): Promise<Figures> {
  const host = session.agent('host');
  const guest = session.agent('guest');
  await host.ask('datagram-open', { address: SERVER_ADDRESS, port: HOST_PORT });
  await guest.ask('datagram-open', { port: GUEST_PORT, peer: { address: SERVER_ADDRESS, port: HOST_PORT } });
  const met = host.ask('datagram-meet', { timeoutMs: 3000 });
  await guest.ask('datagram-greet', {});
  await met;
  const [sender, receiver] = direction === 'up' ? [guest, host] : [host, guest];
  let mark = 0;
  const attempt = (perSecond: number, durationMs: number): Promise<Trial> =>
    trial(session, sender, receiver, { trial: ++mark, size, perSecond, durationMs });
  await attempt(FIRST_RATE / 2, timing.warmUpMs);
  const trialMs = Math.max(200, timing.durationMs / 6);
  let best = await search(timing.quick ? 1.3 : PRECISION, (rate) => attempt(rate, trialMs));
  const flood = await attempt(0, trialMs);
  // A flood without loss is the sender's limit; it may be above the paced rate because pacing costs the sender time.
  if (flood.loss <= MAX_LOSS && flood.rate > (best?.rate ?? 0)) best = flood;
  const figures: Figures = { flood: flood.rate, floodLoss: flood.loss * 100 };
  if (best !== undefined) {
    figures['rate'] = best.rate;
    if (session.stack.pid !== undefined) figures['cpu'] = best.cpu;
  }
  return figures;
}

async function trial(
  session: Session,
  sender: Agent,
  receiver: Agent,
  request: { trial: number; size: number; perSecond: number; durationMs: number },
): Promise<Trial> {
  const { pid } = session.stack;
  const limitMs = request.durationMs + 2000;
  const counting = receiver.ask('datagram-receive', { trial: request.trial, limitMs, quietMs: QUIET_MS });
  await delay(10); // The receiver is in its call by now; its socket would hold what comes earlier anyway.
  const cpuBefore = pid === undefined ? 0 : cpuSeconds(pid);
  const { sent, elapsedMs } = await sender.ask('datagram-send', request);
  const { received, spanMs } = await counting;
  const cpu = (pid === undefined ? 0 : cpuSeconds(pid)) - cpuBefore;
  // A stack may deliver its queue after the sender has stopped: then the receiver's span is the longer one.
  const seconds = Math.max(elapsedMs, spanMs) / 1e3;
  return {
    rate: received / seconds,
    loss: sent === 0 ? 1 : 1 - received / sent,
    sentRate: (sent * 1e3) / elapsedMs,
    cpu: (cpu * 1e6) / Math.max(1, received),
  };
}

function reached(got: Trial, rate: number): boolean {
  return got.loss <= MAX_LOSS && got.sentRate >= rate * SENDER_SHARE;
}

async function search(
  precision: number,
  attempt: (rate: number) => Promise<Trial>,
): Promise<Trial | undefined> {
  let best: Trial | undefined;
  let good = 0;
  let bad = Number.POSITIVE_INFINITY;
  let rate = FIRST_RATE;
  while (bad / good > precision) {
    let got = await attempt(rate);
    if (!reached(got, rate)) got = await attempt(rate);
    if (got.loss <= MAX_LOSS) {
      if (best === undefined || got.rate > best.rate) best = got;
      if (!reached(got, rate)) break; // The sender cannot do more.
      good = rate;
    } else {
      bad = rate;
    }
    if (rate < 500) break;
    if (bad === Number.POSITIVE_INFINITY) rate = good * STEP;
    else rate = good === 0 ? rate / 2 : Math.sqrt(good * bad);
  }
  return best;
}
