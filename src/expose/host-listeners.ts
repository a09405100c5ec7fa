/**
 * The host's end of a published service: a port that is bound on several addresses, on all of them or on none. The bind of
 * the real listeners is the only test of whether a port is free.
 */
import { constants } from 'node:os';
import type { HostEnd, LocalForwardSpec } from '../config.ts';
import { type EngineClient, ForwardRefused, type OpenForward } from '../control/engine-client.ts';

export type ForwardEngine = Pick<EngineClient, 'addForward' | 'removeForward'>;

/** Where the kernel chooses a port on one address, another one may be in use on the next. */
const CHOICES = 16;

/** What a forward needs besides the place where it listens. */
export type ForwardRest = Omit<LocalForwardSpec, 'listen' | 'dualStack'>;

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
): Promise<OpenForward[]> {
  for (let choice = 1; ; choice++) {
    const open: OpenForward[] = [];
    try {
      for (const address of addresses) {
        const [first] = open;
        const listen: HostEnd = {
          kind: 'ip',
          address,
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

export async function closeHostListeners(engine: ForwardEngine, open: readonly OpenForward[]): Promise<void> {
  await Promise.all(open.map(({ id }) => engine.removeForward(id)));
}

export function portOf(end: HostEnd): number {
  return end.kind === 'ip' ? end.port : 0;
}
