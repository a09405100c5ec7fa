/**
 * Bulk TCP with iperf3: up (guest to host) and down, 1 and 8 streams, at a small and a large MTU; throughput as the
 * receiver counts it, and CPU time of the stack per gigabyte.
 *
 * The CPU figure needs bytes and CPU time over one and the same span: both are sampled while iperf3 runs, bytes from the
 * guest interface's counters less the headers of its frames.
 */
import { readFileSync } from 'node:fs';
import { type ContenderName, GUEST_INTERFACE } from '../contenders.ts';
import { inside, SERVER_ADDRESS } from '../namespaces.ts';
import { cpuSeconds, interfaceCounters } from '../proc-stats.ts';
import { delay, kill, run, start, until } from '../processes.ts';
import { type Session, withSession } from '../session.ts';
import type { Cell, Figures, Metric, Timing } from '../workload.ts';

const PORT = 5201;
/** Ethernet, IPv4 and TCP with timestamps. */
const HEADER_BYTES = 14 + 20 + 32;
const SAMPLE_EVERY_MS = 50;
/** Data is flowing for certain once this much has passed. */
const STARTED_BYTES = 100_000;
/** A transfer that stalled moved less than this: CPU time per gigabyte would be rounding only. */
const LEAST_BYTES = 20_000_000;

const METRICS: readonly Metric[] = [
  { id: 'throughput', title: 'throughput', unit: 'Gbit/s', better: 'higher', digits: 2 },
  { id: 'cpu', title: 'stack CPU', unit: 's/GB', better: 'lower', digits: 2 },
];

/** Direction of the payload as the guest sees it. */
export type Direction = 'up' | 'down';

interface Sample {
  readonly atMs: number;
  readonly cpu: number;
  readonly bytes: number;
}

/** Cells of the bulk workload. */
export const bulkCells: readonly Cell[] = [1500, 65520].flatMap((mtu) =>
  (['up', 'down'] as const).flatMap((direction) =>
    [1, 8].map((streams) => bulkCell(direction, mtu, streams)),
  ),
);

function bulkCell(direction: Direction, mtu: number, streams: number): Cell {
  return {
    id: `bulk/${direction}/${mtu}/${streams}`,
    table: 'TCP throughput and CPU time of the stack',
    title: `${direction}, MTU ${mtu}, ${streams === 1 ? '1 stream' : `${streams} streams`}`,
    metrics: METRICS,
    measure: (contender: ContenderName, timing: Timing) =>
      withSession({ contender, mtu }, (session) => transfer(session, direction, streams, timing)),
  };
}

/** One iperf3 run. */
export async function transfer(
  session: Session,
  direction: Direction,
  streams: number,
  timing: Timing,
): Promise<Figures> {
  const { lab, stack } = session;
  const server = start(
    inside(lab.hostPid, [
      'iperf3',
      '--server',
      '--one-off',
      '--bind',
      SERVER_ADDRESS,
      '--port',
      String(PORT),
    ]),
    'ignore',
  );
  try {
    await until(() => listens(lab.hostPid, PORT), 'iperf3 server', 3000);
    // iperf3 takes whole seconds only for the warm-up and runs for ever with less than one.
    const warmUp = Math.max(1, Math.round(timing.warmUpMs / 1000));
    const seconds = Math.max(1, Math.round(timing.durationMs / 1000));
    const client = [
      ...['iperf3', '--json', '--client', SERVER_ADDRESS, '--port', String(PORT)],
      ...['--time', String(seconds), '--omit', String(warmUp), '--parallel', String(streams)],
      ...(direction === 'down' ? ['--reverse'] : []),
    ];
    const samples: Sample[] = [];
    let over = false;
    const watch = (async (): Promise<void> => {
      while (!over) {
        samples.push(sample(lab.guestPid, stack.pid, direction));
        await delay(SAMPLE_EVERY_MS);
      }
    })();
    let text: string;
    try {
      text = await run(inside(lab.guestPid, client), (warmUp + seconds + 8) * 1000);
    } finally {
      over = true;
      await watch;
    }
    const figures: Figures = { throughput: receivedBitsPerSecond(text) / 1e9 };
    if (stack.pid !== undefined) figures['cpu'] = cpuPerGigabyte(samples, warmUp * 1000, seconds * 1000);
    return figures;
  } finally {
    await kill(server);
  }
}

function sample(guestPid: number, stackPid: number | undefined, direction: Direction): Sample {
  const counters = interfaceCounters(guestPid, GUEST_INTERFACE);
  const bytes = (direction === 'up' ? counters?.txBytes : counters?.rxBytes) ?? 0;
  const packets = (direction === 'up' ? counters?.txPackets : counters?.rxPackets) ?? 0;
  return {
    atMs: performance.now(),
    cpu: stackPid === undefined ? 0 : cpuSeconds(stackPid),
    bytes: bytes - packets * HEADER_BYTES,
  };
}

function cpuPerGigabyte(samples: readonly Sample[], warmUpMs: number, durationMs: number): number {
  const initial = samples[0]?.bytes ?? 0;
  const started = samples.find((at) => at.bytes - initial > STARTED_BYTES);
  if (started === undefined) return Number.NaN;
  const first = samples.find((at) => at.atMs >= started.atMs + warmUpMs);
  const last = samples.findLast((at) => at.atMs <= started.atMs + warmUpMs + durationMs - SAMPLE_EVERY_MS);
  if (first === undefined || last === undefined) return Number.NaN;
  if (last.bytes - first.bytes < LEAST_BYTES) return Number.NaN;
  return (last.cpu - first.cpu) / ((last.bytes - first.bytes) / 1e9);
}

function receivedBitsPerSecond(text: string): number {
  const report = JSON.parse(text) as {
    error?: string;
    end?: { sum_received?: { bits_per_second?: number } };
  };
  const rate = report.end?.sum_received?.bits_per_second;
  if (rate === undefined) throw new Error(`iperf3: ${report.error ?? 'no figure'}`);
  return rate;
}

/** True when something in the network namespace of `pid` listens on TCP `port` (IPv4). */
function listens(pid: number, port: number): boolean {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readFileSync(`/proc/${pid}/net/tcp`, 'utf8')
    .split('\n')
    .some((line) => {
      const fields = line.trim().split(/\s+/);
      return fields[1]?.endsWith(wanted) === true && fields[3] === '0A';
    });
}
