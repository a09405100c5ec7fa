/**
 * What a stack costs when it does little: time to ready, resident memory, memory per idle connection, CPU time of idle
 * connections.
 */
import { Agent } from '../agent-client.ts';
import { type ContenderName, type Stack, type StartOptions, startContender } from '../contenders.ts';
import { createLab, SERVER_ADDRESS, SERVER_ADDRESSES } from '../namespaces.ts';
import { cpuSeconds, memory, openDescriptors } from '../proc-stats.ts';
import { delay, until } from '../processes.ts';
import { CONNECTIONS_PORT, type Session, withSession } from '../session.ts';
import { median } from '../statistics.ts';
import type { Cell, Figures, Metric, Timing } from '../workload.ts';
import { transfer } from './bulk.ts';

const STARTS = 20;
const FEW = 2000;
const MANY = 10_000;
const IDLE = 200;
/** How long a closed connection's memory and descriptors may take to come back. */
const RETURN_MS = 15_000;
const SETTLE_MS = 500;

/** Cells of the footprint workload; the kernel's veth has no process to look at. */
export const footprintCells: readonly Cell[] = [
  startCell('footprint/start', `start (median of ${STARTS})`, ['veth'], {}),
  startCell('footprint/start/slirp4netns', 'start in the place of slirp4netns', ['pasta', 'veth'], {
    inPlace: true,
  }),
  startCell('footprint/start/no-sandbox', 'start with `--no-sandbox`', ['slirp4netns', 'pasta', 'veth'], {
    extra: ['--no-sandbox'],
  }),
  {
    id: 'footprint/memory',
    table: 'Memory',
    title: 'stack process',
    metrics: [
      mebibytes('idle', 'resident, idle'),
      mebibytes('idlePrivate', 'private and dirty, idle'),
      mebibytes('peak', 'most resident under bulk load'),
      mebibytes('loaded', 'resident, after bulk load'),
      mebibytes('loadedPrivate', 'private and dirty, after bulk load'),
    ],
    without: ['veth'],
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500 }, (session) => memoryUnderLoad(session, timing)),
  },
  {
    id: 'footprint/connections',
    table: 'Many connections',
    title: 'idle connections',
    metrics: [
      { id: 'opened2000', title: `opened of ${FEW} at once`, unit: '', better: 'higher', digits: 0 },
      { id: 'each2000', title: `memory each, ${FEW}`, unit: 'KiB', better: 'lower', digits: 2 },
      { id: 'opened10000', title: `opened of ${MANY}`, unit: '', better: 'higher', digits: 0 },
      { id: 'each10000', title: `memory each, ${MANY}`, unit: 'KiB', better: 'lower', digits: 2 },
      { id: 'kept', title: 'memory kept after closing', unit: 'MiB', better: 'lower', digits: 1 },
      { id: 'descriptors', title: 'descriptors left after closing', unit: '', better: 'lower', digits: 0 },
    ],
    without: ['veth'],
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500 }, (session) => manyConnections(session, timing)),
  },
  {
    id: 'footprint/idle',
    table: 'Many connections',
    title: `${IDLE} idle connections`,
    metrics: [{ id: 'cpu', title: 'CPU', unit: '% of a core', better: 'lower', digits: 2 }],
    without: ['veth'],
    measure: (contender, timing) =>
      withSession({ contender, mtu: 1500 }, (session) => idleConnections(session, timing)),
  },
];

function mebibytes(id: string, title: string): Metric {
  return { id, title, unit: 'MiB', better: 'lower', digits: 1 };
}

function startCell(
  id: string,
  title: string,
  without: readonly ContenderName[],
  options: Pick<StartOptions, 'inPlace' | 'extra'>,
): Cell {
  return {
    id,
    table: 'Start',
    title,
    metrics: [
      { id: 'ready', title: 'to its ready signal', unit: 'ms', better: 'lower', digits: 1 },
      { id: 'connect', title: 'to the first connect', unit: 'ms', better: 'lower', digits: 1 },
    ],
    without,
    measure: (contender, timing) => startTimes(contender, timing, options),
  };
}

async function startTimes(
  contender: ContenderName,
  timing: Timing,
  options: Pick<StartOptions, 'inPlace' | 'extra'>,
): Promise<Figures> {
  const ready: number[] = [];
  const connect: number[] = [];
  for (let i = 0; i < (timing.quick ? 3 : STARTS); i++) {
    const lab = await createLab();
    const host = new Agent(lab.hostPid);
    const guest = new Agent(lab.guestPid);
    let stack: Stack | undefined;
    try {
      const target = { address: SERVER_ADDRESS, port: CONNECTIONS_PORT, timeoutMs: 10_000 };
      await host.ask('serve-connections', { port: CONNECTIONS_PORT });
      // A request that fails at once tells that the guest's agent has started and will not be measured starting.
      await guest.ask('reach', { ...target, timeoutMs: 0 }).catch(() => undefined);
      const reached = guest.ask('reach', target, 12_000);
      reached.catch(() => undefined);
      stack = await startContender(contender, lab, { mtu: 1500, ...options });
      const from = (await stack.execAtMs) ?? Number.NaN;
      connect.push((await reached).atMs - from);
      if (stack.readyAtMs !== undefined) ready.push((await stack.readyAtMs) - from);
    } finally {
      await host.stop();
      await guest.stop();
      await stack?.stop();
      await lab.destroy();
    }
  }
  const figures: Figures = { connect: median(connect) };
  if (ready.length > 0) figures['ready'] = median(ready);
  return figures;
}

function pidOf(session: Session): number {
  if (session.stack.pid === undefined) throw new Error('no process to look at');
  return session.stack.pid;
}

async function memoryUnderLoad(session: Session, timing: Timing): Promise<Figures> {
  const pid = pidOf(session);
  await delay(SETTLE_MS);
  const idle = memory(pid);
  await transfer(session, 'up', 8, timing);
  await transfer(session, 'down', 8, timing);
  const loaded = memory(pid);
  return {
    idle: idle.resident / 1024,
    idlePrivate: idle.privateDirty / 1024,
    peak: loaded.peak / 1024,
    loaded: loaded.resident / 1024,
    loadedPrivate: loaded.privateDirty / 1024,
  };
}

async function manyConnections(session: Session, timing: Timing): Promise<Figures> {
  const pid = pidOf(session);
  const client = session.agent('guest');
  const hold = (count: number, atOnce: number): Promise<{ opened: number; failed: number }> =>
    client.ask(
      'hold',
      { addresses: SERVER_ADDRESSES, port: CONNECTIONS_PORT, count, atOnce, timeoutMs: 20_000 },
      25_000,
    );
  // Some connections first: code that is loaded on first use is not what a connection costs.
  await hold(50, 50);
  await client.ask('release', {});
  await delay(SETTLE_MS * 2);
  const before = memory(pid).resident;
  const descriptorsBefore = openDescriptors(pid);
  const few = await hold(FEW, FEW);
  await delay(SETTLE_MS);
  const withFew = memory(pid).resident;
  const figures: Figures = {
    opened2000: few.opened,
    each2000: (withFew - before) / Math.max(1, few.opened),
  };
  if (!timing.quick) {
    const more = await hold(MANY - FEW, 256);
    await delay(SETTLE_MS);
    const opened = few.opened + more.opened;
    figures['opened10000'] = opened;
    figures['each10000'] = (memory(pid).resident - before) / Math.max(1, opened);
  }
  await client.ask('release', {});
  // Not coming back within the time is a result, not a failure of the sample.
  await until(() => openDescriptors(pid) <= descriptorsBefore, 'descriptors', RETURN_MS, 200).catch(
    () => undefined,
  );
  await delay(SETTLE_MS);
  figures['descriptors'] = Math.max(0, openDescriptors(pid) - descriptorsBefore);
  figures['kept'] = (memory(pid).resident - before) / 1024;
  return figures;
}

async function idleConnections(session: Session, timing: Timing): Promise<Figures> {
  const pid = pidOf(session);
  const held = await session.agent('guest').ask('hold', {
    addresses: SERVER_ADDRESSES,
    port: CONNECTIONS_PORT,
    count: IDLE,
    atOnce: IDLE,
    timeoutMs: 8000,
  });
  await delay(SETTLE_MS * 2);
  const seconds = timing.quick ? 2 : 20;
  const cpuBefore = cpuSeconds(pid);
  const from = performance.now();
  await delay(seconds * 1000);
  const cpu = ((cpuSeconds(pid) - cpuBefore) / ((performance.now() - from) / 1e3)) * 100;
  return { cpu, opened: held.opened };
}
