/**
 * A command as pasta runs one: the first process of new PID, mount, UTS, IPC and network namespaces, and of a user namespace
 * in which its user is root. Its `/proc` shows what is in there, its host is called as we say, everything else is the host's.
 *
 * It is a child of the broker, which makes it and is told when it may begin. When we end, it lives on without a network.
 */
import { constants } from 'node:os';
import { letCommandGo, orderIsolated, signalCommand } from '../sandbox/broker.ts';
import { closedStreams } from './found.ts';
import { deferred, exitStatus, type GuestCommand } from './run-command.ts';

export interface IsolatedSpec {
  /** As the command line ends with it; none: a shell. */
  command: readonly string[];
  /** With a user namespace. */
  user: boolean;
  hostname: string;
}

/** Why there is no such process, or no command in it: `clone`, `user`, `mnt` or `exec`, and a positive errno. */
export class CommandFault extends Error {
  readonly step: string;
  readonly error: number;

  constructor(step: string, error: number) {
    super(`the command cannot be started (${step}): errno ${error}`);
    this.step = step;
    this.error = error;
  }
}

/** What to start, and how it is called; the words of a command are the last of our own. */
function start(command: readonly string[]): { path: string; words: string[] } {
  const [program] = command;
  if (program !== undefined) return { path: program, words: [] };
  const { SHELL = '' } = process.env;
  const path = SHELL === '' ? '/bin/sh' : SHELL;
  // A login shell, as login(1) starts one.
  return { path, words: [`-${path.slice(path.lastIndexOf('/') + 1)}`] };
}

export class IsolatedCommand implements GuestCommand {
  readonly present: Promise<number>;
  readonly prepared: Promise<void>;
  readonly ended: Promise<number>;
  #running = true;

  /** `failed` hears of a fault that comes when the command was to begin. Throws with one line. */
  constructor({ command, user, hostname }: IsolatedSpec, failed: (fault: CommandFault) => void) {
    const present = deferred<number>();
    const prepared = deferred<void>();
    const ended = deferred<number>();
    this.present = present.promise;
    this.prepared = prepared.promise;
    this.ended = ended.promise;
    this.present.catch(() => undefined);

    let said = '';
    const report = (text: string): void => {
      said += text;
      const [, pid] = /^there (\d+)$/m.exec(said) ?? [];
      const [, step, errno] = /^fault (\w+) (\d+)$/m.exec(said) ?? [];
      if (step !== undefined) {
        const fault = new CommandFault(step, Number(errno));
        if (pid === undefined) present.reject(fault);
        else failed(fault);
        return;
      }
      if (pid !== undefined) present.resolve(Number(pid));
      if (/^done$/m.test(said)) prepared.resolve();
    };
    orderIsolated(
      { close: closedStreams, user, hostname, ownWords: command.length, ...start(command) },
      {
        report,
        ended: (status) => {
          this.#running = false;
          present.reject(new Error('the command ended before its network was there'));
          ended.resolve(exitStatus(status));
        },
      },
    );
  }

  go(): void {
    letCommandGo();
  }

  /** The first process of a namespace need not hear of anything less. */
  terminate(): void {
    if (this.#running) signalCommand(constants.signals.SIGKILL);
  }
}
