/**
 * One sample's set-up: fresh namespaces, a fresh stack that is known to carry traffic, and the agents at both ends.
 * Everything opened through a session is gone when it closes, also after a failure.
 */
import { Agent } from './agent-client.ts';
import { type ContenderName, type Stack, type StartOptions, startContender } from './contenders.ts';
import { createLab, type Lab, SERVER_ADDRESS } from './namespaces.ts';
import { kill, type Owned, start } from './processes.ts';

/** Port of the TCP echo server for many connections, present in every {@link Session}. */
export const CONNECTIONS_PORT = 7001;

/** How to set up. With `cpu`, the agents are pinned to it too, and a SCHED_IDLE loop keeps it awake. */
export interface SessionOptions extends StartOptions {
  readonly contender: ContenderName;
}

/** What a measurement works with. */
export interface Session {
  readonly lab: Lab;
  readonly stack: Stack;
  /** A further agent; pinned like the others. */
  agent(where: 'host' | 'guest'): Agent;
}

/** What a measurement works with that starts the stack itself, and nothing has gone through the stack before. */
export interface ColdSession extends Omit<Session, 'stack'> {
  start(): Promise<Stack>;
}

/** Set up, run `measure`, tear down. */
export async function withSession<T>(
  options: SessionOptions,
  measure: (session: Session) => Promise<T>,
): Promise<T> {
  return await withColdSession(options, async ({ lab, agent, start: startStack }) => {
    await agent('host').ask('serve-connections', { port: CONNECTIONS_PORT });
    const stack = await startStack();
    const probe = agent('guest');
    const reached = probe.ask('reach', {
      address: SERVER_ADDRESS,
      port: CONNECTIONS_PORT,
      timeoutMs: 8000,
    });
    await (stack.death === undefined ? reached : Promise.race([reached, stack.death]));
    await probe.stop();
    return await measure({ lab, stack, agent });
  });
}

/** The same with `measure` starting the stack. */
export async function withColdSession<T>(
  options: SessionOptions,
  measure: (session: ColdSession) => Promise<T>,
): Promise<T> {
  const agents: Agent[] = [];
  let lab: Lab | undefined;
  let stack: Stack | undefined;
  let awake: Owned | undefined;
  try {
    const made = await createLab();
    lab = made;
    const agent = (where: 'host' | 'guest'): Agent => {
      const added = new Agent(where === 'host' ? made.hostPid : made.guestPid, options.cpu);
      agents.push(added);
      return added;
    };
    if (options.cpu !== undefined) awake = keepAwake(options.cpu);
    const result = await measure({
      lab: made,
      agent,
      start: async () => {
        stack = await startContender(options.contender, made, options);
        return stack;
      },
    });
    stack?.assertAlive();
    return result;
  } finally {
    await Promise.all(agents.map((agent) => agent.stop()));
    await stack?.stop();
    if (awake !== undefined) await kill(awake);
    await lab?.destroy();
  }
}

/** Keep `cpu` from going idle: a wake-up of a sleeping virtual CPU would be measured instead of the stack. */
export function keepAwake(cpu: number): Owned {
  return start(
    ['chrt', '--idle', '0', 'taskset', '--cpu-list', String(cpu), 'sh', '-c', 'while :; do :; done'],
    'ignore',
  );
}
