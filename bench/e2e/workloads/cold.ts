/**
 * The first traffic of a stack, pinned: from its exec on, nothing warmed up but the programs at both ends, which have done
 * the same on their own side before. `later`: the stack has been idle for a second.
 */

import type { Span } from '../agent/protocol.ts';
import type { Agent } from '../agent-client.ts';
import type { Stack } from '../contenders.ts';
import { SERVER_ADDRESS, SERVER_ADDRESSES } from '../namespaces.ts';
import { cpuMilliseconds, hasDefaultRoute } from '../proc-stats.ts';
import { delay, until } from '../processes.ts';
import { type ColdSession, withColdSession } from '../session.ts';
import type { Cell, Figures, Metric } from '../workload.ts';
import { placement } from './latency.ts';

const PORT = 7006;
const CONNECTS = 2000;
const REHEARSED = 1000;
const BYTES = 256 * 1024 * 1024;
const DATAGRAMS = 10_000;
const WINDOW = 32;
const TIMEOUT_MS = 6000;
/** How long a stack has been idle when it is `later`. */
export const LATER_MS = 1000;
const LOOPBACK = '127.0.0.1';

const DONE: readonly Metric[] = [
  { id: 'done', title: 'the last, after exec', unit: 'ms', better: 'lower', digits: 0 },
  { id: 'cpu', title: 'stack CPU since exec', unit: 'ms', better: 'lower', digits: 0 },
];
const RATE: readonly Metric[] = [{ id: 'rate', title: 'rate', unit: '/s', better: 'higher', digits: 0 }];
const THROUGHPUT: readonly Metric[] = [
  { id: 'throughput', title: 'throughput', unit: 'Gbit/s', better: 'higher', digits: 2 },
];

/** Cells of the cold workload. */
export const coldCells: readonly Cell[] = [
  ...[1, 64].flatMap((parallel) => [connectCell(parallel, false), connectCell(parallel, true)]),
  ...(['up', 'down'] as const).map(bytesCell),
  coldCell(
    'cold/datagrams',
    `first ${DATAGRAMS.toLocaleString('en-US')} datagrams there and back, ${WINDOW} at a time`,
    RATE,
    false,
    (agent, address) => agent.ask('serve-datagrams', { address, port: PORT }),
    async (agent, address, isRehearsal) => {
      const request = { address, port: PORT, window: WINDOW, timeoutMs: TIMEOUT_MS };
      const count = isRehearsal ? REHEARSED : DATAGRAMS;
      const span = await agent.ask('first-datagrams', { ...request, count }, 2 * TIMEOUT_MS + 1000);
      return { span, figures: { rate: perSecond(count - span.lost, span), lost: span.lost } };
    },
  ),
];

interface Outcome {
  readonly span: Span;
  readonly figures: Figures;
}

function perSecond(count: number, { firstAtMs, lastAtMs }: Span): number {
  return (count * 1e3) / (lastAtMs - firstAtMs);
}

function connectCell(parallel: number, isLater: boolean): Cell {
  const how = parallel === 1 ? 'one by one' : `${parallel} at a time`;
  return coldCell(
    `cold/connects/${parallel}${isLater ? '/later' : ''}`,
    `first ${CONNECTS.toLocaleString('en-US')} connects ${how}${isLater ? ', a second later' : ''}`,
    RATE,
    isLater,
    (agent) => agent.ask('serve-connections', { port: PORT }),
    async (agent, address, isRehearsal) => {
      const count = isRehearsal ? REHEARSED : CONNECTS;
      // All of 127.0.0.0/8 is there for a rehearsal, whose ports would otherwise be those of the guest's first connections.
      const addresses = address === SERVER_ADDRESS ? SERVER_ADDRESSES : [address];
      const request = { addresses, port: PORT, parallel, count, timeoutMs: TIMEOUT_MS };
      const span = await agent.ask('first-connects', request, 2 * TIMEOUT_MS + 1000);
      return { span, figures: { rate: perSecond(count - span.failed, span), failed: span.failed } };
    },
  );
}

function bytesCell(way: 'up' | 'down'): Cell {
  return coldCell(
    `cold/${way}`,
    `first 256 MB ${way}`,
    THROUGHPUT,
    false,
    (agent) => agent.ask('serve-bytes', { port: PORT }),
    async (agent, address) => {
      const request = { way, address, port: PORT, bytes: BYTES, timeoutMs: TIMEOUT_MS };
      const span = await agent.ask('first-bytes', request, 2 * TIMEOUT_MS + 2000);
      return { span, figures: { throughput: (perSecond(span.moved, span) * 8) / 1e9 } };
    },
  );
}

function coldCell(
  id: string,
  title: string,
  metrics: readonly Metric[],
  isLater: boolean,
  serve: (agent: Agent, address: string) => Promise<unknown>,
  use: (agent: Agent, address: string, isRehearsal: boolean) => Promise<Outcome>,
): Cell {
  return {
    id,
    table: 'The first traffic after the start',
    title,
    metrics: isLater ? metrics : [...metrics, ...DONE],
    without: ['veth'],
    measure: (contender) =>
      withColdSession({ contender, mtu: 1500, awaitReady: false, ...placement(true) }, async (session) => {
        const client = await rehearse(session, serve, (agent, address) => use(agent, address, true));
        return isLater
          ? await afterIdling(session, () => use(client, SERVER_ADDRESS, false))
          : await fromExec(session, use(client, SERVER_ADDRESS, false));
      }),
  };
}

/** The server, and a client in the guest, that have both done their part, if not with each other. */
export async function rehearse(
  { agent }: ColdSession,
  serve: (agent: Agent, address: string) => Promise<unknown>,
  use: (agent: Agent, address: string) => Promise<unknown>,
): Promise<Agent> {
  await serve(agent('host'), SERVER_ADDRESS);
  const neighbor = agent('host');
  await use(neighbor, SERVER_ADDRESS);
  await neighbor.stop();
  const server = agent('guest');
  await serve(server, LOOPBACK);
  const client = agent('guest');
  await use(client, LOOPBACK);
  await server.stop();
  return client;
}

async function fromExec(session: ColdSession, using: Promise<Outcome>): Promise<Figures> {
  using.catch(() => undefined);
  const stack = await session.start();
  const { span, figures } = await orDeath(stack, using);
  const done = span.lastAtMs - ((await stack.execAtMs) ?? Number.NaN);
  return { ...figures, done, cpu: cpuMilliseconds(stack.pid as number) };
}

async function afterIdling(session: ColdSession, use: () => Promise<Outcome>): Promise<Figures> {
  const stack = await session.start();
  await idle(session, stack);
  const { figures } = await orDeath(stack, use());
  return figures;
}

/** Until `stack` has been there for a second and carried nothing. */
export async function idle({ lab }: ColdSession, stack: Stack): Promise<void> {
  await orDeath(
    stack,
    until(() => hasDefaultRoute(lab.guestPid), 'a route of the guest', TIMEOUT_MS),
  );
  await delay(LATER_MS);
}

/** `result`, unless the stack ends before it is there. */
export async function orDeath<T>(stack: Stack, result: Promise<T>): Promise<T> {
  return await (stack.death === undefined ? result : Promise.race([result, stack.death]));
}
