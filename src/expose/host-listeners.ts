/**
 * The host's end of a published service: a port that is bound on several addresses, on all of them or on none. The bind of
 * the real listeners is the only test of whether a port is free.
 */
import { constants } from 'node:os';
import type { HostEnd, LocalForwardSpec } from '../config.ts';
import { type EngineClient, ForwardRefused, type OpenForward } from '../control/engine-client.ts';
import type { PortReason, Protocol } from './event.ts';
import { candidates } from './host-ports.ts';

export type ForwardEngine = Pick<EngineClient, 'addForward' | 'aimForward' | 'removeForward' | 'listFlows'>;

/** Where the kernel chooses a port on one address, another one may be in use on the next. */
const CHOICES = 16;

/** A port to be chosen for a service. */
export interface PortWish {
  /** All of these, or none. */
  addresses: readonly string[];
  /** That of the service. */
  port: number;
  /** That it had before. */
  kept: number | undefined;
  /** The lowest that may be bound, see `lowestPort`. */
  minPort: number;
  /** Kept for others, whether they have it already or not. */
  isReserved: (proto: Protocol, port: number) => boolean;
  /** What the forward needs besides the place where it listens. */
  rest: ForwardRest;
}

export type ForwardRest = Omit<LocalForwardSpec, 'listen' | 'dualStack'>;

export interface Opened {
  open: readonly OpenForward[];
  reason: PortReason;
}

export function isRefused(error: unknown, ...names: ('EADDRINUSE' | 'EACCES')[]): error is ForwardRefused {
  return error instanceof ForwardRefused && names.some((name) => constants.errno[name] === error.errno);
}

/**
 * Listens at `port` of each address; port 0 = one that is free on all.
 * @throws ForwardRefused of the first address that does not have it
 */
export async function openHostListeners(
  engine: ForwardEngine,
  addresses: readonly string[],
  port: number,
  rest: ForwardRest,
): Promise<readonly OpenForward[]> {
  for (let choice = 1; ; choice++) {
    const open: OpenForward[] = [];
    try {
      for (const address of addresses) {
        const [first] = open;
        const listen: HostEnd = {
          ...{ kind: 'ip', address },
          port: first === undefined ? port : portOf(first.listen),
        };
        open.push(await engine.addForward({ direction: 'local', ...rest, listen, dualStack: false }));
      }
      return open;
    } catch (error) {
      await closeHostListeners(engine, open);
      if (port !== 0 || choice === CHOICES || !isRefused(error, 'EADDRINUSE')) throw error;
    }
  }
}

/** Listens at the first port that can be had: the kept one, the candidates, any. @throws ForwardRefused */
export async function openSomewhere(engine: ForwardEngine, wish: PortWish): Promise<Opened> {
  const { addresses, port: wanted, minPort, rest } = wish;
  let isPrivileged = wanted < minPort;
  for (const port of inOrder(wish)) {
    if (wish.isReserved(rest.protocol, port)) continue;
    try {
      const open = await openHostListeners(engine, addresses, port, rest);
      if (port === wanted) return { open, reason: 'same' };
      return { open, reason: isPrivileged ? 'privileged' : 'busy' };
    } catch (error) {
      if (!isRefused(error, 'EADDRINUSE', 'EACCES')) throw error;
      if (port === wanted && isRefused(error, 'EACCES')) isPrivileged = true;
    }
  }
  return { open: await openHostListeners(engine, addresses, 0, rest), reason: 'random' };
}

function* inOrder({ kept, port, minPort }: PortWish): Generator<number, void, undefined> {
  if (kept !== undefined) yield kept;
  yield* candidates(port, minPort);
}

export async function closeHostListeners(engine: ForwardEngine, open: readonly OpenForward[]): Promise<void> {
  await Promise.all(open.map(({ id }) => engine.removeForward(id)));
}

/** The connections there are through `open`, and what they have carried so far. */
export async function countFlows(
  engine: ForwardEngine,
  open: readonly OpenForward[],
): Promise<{ connections: number; bytesIn: number; bytesOut: number }> {
  const counts = { connections: 0, bytesIn: 0, bytesOut: 0 };
  for (const { kind, forward, bytesIn, bytesOut } of await engine.listFlows()) {
    if (kind !== 'local' || !open.some(({ id }) => id === forward)) continue;
    counts.connections++;
    counts.bytesIn += bytesIn;
    counts.bytesOut += bytesOut;
  }
  return counts;
}

function portOf(end: HostEnd): number {
  return end.kind === 'ip' ? end.port : 0;
}
