/**
 * Bulk TCP with iperf3: up (guest to host) and down, 1 and 8 streams, at a small and a large MTU; throughput as the
 * receiver counts it, and CPU time of the stack per gigabyte.
 *
 * The CPU figure needs bytes and CPU time over one and the same span: both are sampled while iperf3 runs, bytes from the
 * guest interface's counters less the headers of its frames.
 */
import { readFileSync } from 'node:fs';
import { type ContenderName, GUEST_INTERFACE } from '../contenders.ts';
import { GUEST_ADDRESS, inside, SERVER_ADDRESS } from '../namespaces.ts';
import { cpuSeconds, interfaceCounters } from '../proc-stats.ts';
import { delay, kill, run, start, until } from '../processes.ts';
import { type Session, withSession } from '../session.ts';
import type { Cell, Figures, Metric, Timing } from '../workload.ts';

/** Where the iperf3 server listens, on whichever side. */
export const BULK_PORT = 5201;
/** Ethernet, IPv4 and TCP with timestamps. */
const HEADER_BYTES = 14 + 20 + 32;
const SAMPLE_EVERY_MS = 50;
/** Data is flowing for certain once this much has passed. */
const STARTED_BYTES = 100_000;
/** A transfer that stalled moved less than this: CPU time per gigabyte would be rounding only. */
const LEAST_BYTES = 20_000_000;

/** Figures of a {@link transfer}. */
export const BULK_METRICS: readonly Metric[] = [
  { id: 'throughput', title: 'throughput', unit: 'Gbit/s', better: 'higher', digits: 2 },
  { id: 'cpu', title: 'stack CPU', unit: 's/GB', better: 'lower', digits: 2 },
];

/** Direction of the payload as the guest sees it. */
export type Direction = 'up' | 'down';

/** What iperf3 is to do. */
export interface Load {
  /** `both` is `streams` each way. */
  readonly direction: Direction | 'both';
  readonly streams: number;
  /** The server is in the guest and the client outside connects to this address; otherwise the guest is the client. */
  readonly into?: string;
}

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
    metrics: BULK_METRICS,
    measure: (contender: ContenderName, timing: Timing) =>
      withSession({ contender, mtu }, (session) => transfer(session, direction, streams, timing)),
  };
}

/** One iperf3 run: what the receiver counted, and CPU time of the stack. */
export async function transfer(
  session: Session,
  direction: Direction,
  streams: number,
  timing: Timing,
  into?: string,
): Promise<Figures> {
  const { lab, stack } = session;
  const { warmUp, seconds } = wholeSeconds(timing);
  const samples: Sample[] = [];
  const load = { direction, streams, ...(into === undefined ? {} : { into }) };
  const text = await withLoad(session, load, timing, async (isOver) => {
    while (!isOver()) {
      samples.push(sample(lab.guestPid, stack.pid, direction));
      await delay(SAMPLE_EVERY_MS);
    }
  });
  const figures: Figures = { throughput: receivedBitsPerSecond(text) / 1e9 };
  if (stack.pid !== undefined) figures['cpu'] = cpuPerGigabyte(samples, warmUp * 1000, seconds * 1000);
  return figures;
}

/** iperf3 takes whole seconds only for the warm-up and runs for ever with less than one. */
function wholeSeconds(timing: Pick<Timing, 'warmUpMs' | 'durationMs'>): { warmUp: number; seconds: number } {
  return {
    warmUp: Math.max(1, Math.round(timing.warmUpMs / 1000)),
    seconds: Math.max(1, Math.round(timing.durationMs / 1000)),
  };
}

/** iperf3 with `beside` at the same time; waits for both and returns the report of iperf3. */
export async function withLoad(
  session: Session,
  { direction, streams, into }: Load,
  timing: Pick<Timing, 'warmUpMs' | 'durationMs'>,
  beside: (isOver: () => boolean) => Promise<void>,
): Promise<string> {
  const { hostPid, guestPid } = session.lab;
  const [serverPid, clientPid] = into === undefined ? [hostPid, guestPid] : [guestPid, hostPid];
  const own = into === undefined ? SERVER_ADDRESS : GUEST_ADDRESS;
  const where = ['--port', String(BULK_PORT)];
  const server = start(
    inside(serverPid, ['iperf3', '--server', '--one-off', '--bind', own, ...where]),
    'ignore',
  );
  let over = false;
  try {
    await until(() => listens(serverPid, BULK_PORT), 'iperf3 server', 3000);
    const { warmUp, seconds } = wholeSeconds(timing);
    const towardsClient = into === undefined ? 'down' : 'up';
    const client = [
      ...['iperf3', '--json', '--client', into ?? SERVER_ADDRESS, ...where],
      ...['--time', String(seconds), '--omit', String(warmUp), '--parallel', String(streams)],
      ...(direction === towardsClient ? ['--reverse'] : direction === 'both' ? ['--bidir'] : []),
    ];
    const running = run(inside(clientPid, client), (warmUp + seconds + 8) * 1000).finally(() => {
      over = true;
    });
    const [text] = await Promise.all([running, beside(() => over)]);
    return text;
  } finally {
    over = true;
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

/** What the receivers counted according to a report of iperf3, both ways together. */
export function receivedBitsPerSecond(text: string): number {
  interface Sum {
    bits_per_second?: number;
  }
  const report = JSON.parse(text) as {
    error?: string;
    end?: { sum_received?: Sum; sum_received_bidir_reverse?: Sum };
  };
  const rate = report.end?.sum_received?.bits_per_second;
  if (rate === undefined) throw new Error(`iperf3: ${report.error ?? 'no figure'}`);
  return rate + (report.end?.sum_received_bidir_reverse?.bits_per_second ?? 0);
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
