/** A guest as slirpnetstack expects it, and the program serving it. */
import { GuestAgent } from './guest-agent.ts';
import { asOwner, bareNamespace, type Namespace, programPath } from './namespaces.ts';
import { type Ended, type Running, type RunOptions, run, start } from './processes.ts';
import { PATIENCE_MS, until } from './wait.ts';

/** The guest's side, made once for many runs of the program: the interface stays. */
export interface SlirpnetstackGuest {
  namespace: Namespace;
  agent: GuestAgent;
  netns: string;
  end: () => Promise<void>;
}

export async function slirpnetstackGuest({
  medium = 'tap',
  mtu = 1500,
  plain = false,
}: {
  medium?: 'tap' | 'tun';
  mtu?: number;
  plain?: boolean;
} = {}): Promise<SlirpnetstackGuest> {
  const { namespace, anchor } = await bareNamespace({ plain });
  const gateways = medium === 'tap' ? ['via 10.0.2.2', 'via fd00::2'] : ['dev tun0', 'dev tun0'];
  try {
    await namespace.ip(
      `tuntap add dev tun0 mode ${medium}`,
      `link set tun0 mtu ${mtu} up`,
      'address add 10.0.2.100/24 dev tun0',
      'address add fd00::100/64 dev tun0 nodad',
      `route add default ${gateways[0]}`,
      `route add ::/0 ${gateways[1]}`,
    );
  } catch (error) {
    await anchor.stop();
    throw error;
  }
  const agent = new GuestAgent(namespace);
  return {
    namespace,
    agent,
    netns: `/proc/${namespace.pid}/ns/net`,
    end: async () => {
      await agent.stop();
      await anchor.stop();
    },
  };
}

export function slirpnetstackCommand(...args: string[]): string[] {
  return asOwner(programPath('slirpnetstack'), ...args);
}

/** Runs it to its end. */
export function runSlirpnetstack(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return run(slirpnetstackCommand(...args), options);
}

/** A program that has started. */
export class Slirpnetstack implements AsyncDisposable {
  readonly running: Running;

  constructor(running: Running) {
    this.running = running;
  }

  /** Lines of standard output so far that match. */
  lines(pattern: RegExp): string[] {
    return this.running.stdout.split('\n').filter((line) => pattern.test(line));
  }

  /** The first line that matches, when it has come. */
  async line(pattern: RegExp, limitMs: number = PATIENCE_MS): Promise<string> {
    await until(
      () => this.lines(pattern).length > 0,
      `a line like ${pattern} in ${this.running.stdout}`,
      limitMs,
    );
    return this.lines(pattern)[0] as string;
  }

  /** Port of the announcement with this number: the text behind the last ":". */
  port(index = 0): number {
    const announced = this.lines(/listen|Accepting/)[index] ?? '';
    return Number(announced.slice(announced.lastIndexOf(':') + 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.running.stop('SIGTERM');
  }
}

/** Starts it in the guest's namespace and waits for the word that it has started. */
export async function startSlirpnetstack(
  guest: SlirpnetstackGuest,
  ...args: string[]
): Promise<Slirpnetstack> {
  return startWith(slirpnetstackCommand('-netns', guest.netns, ...args));
}

export async function startWith(command: string[]): Promise<Slirpnetstack> {
  const running = start(command);
  await until(
    () => running.stderr.includes('Slirpnetstack started') || !running.running,
    'the start of slirpnetstack',
  );
  if (!running.running) throw new Error(`slirpnetstack has not started: ${running.stderr}`);
  return new Slirpnetstack(running);
}
