/**
 * What the process gives up once everything is open, right before it says that it is ready.
 *
 * The system call filter (sys/seccomp-filter) is put in force by the data plane, which has the foreign calls, and from
 * there for all threads.
 */
import { getSystemErrorName } from 'node:util';
import type { SandboxSpec } from '../config.ts';
import type { Logger } from './logger.ts';
import type { Supervisor } from './supervisor.ts';

export class Confinement {
  private readonly spec: SandboxSpec;
  private readonly supervisor: Supervisor;
  private readonly logger: Logger;
  private readonly answer: Promise<number>;
  private settle: ((error: number) => void) | undefined;

  constructor(spec: SandboxSpec, supervisor: Supervisor, logger: Logger) {
    this.spec = spec;
    this.supervisor = supervisor;
    this.logger = logger;
    this.answer = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  /** The data plane's answer: 0 or a positive errno. */
  confined(error: number): void {
    this.settle?.(error);
  }

  /** Rejects with one line when something that is required cannot be had. */
  async enter(): Promise<void> {
    if (!this.spec.seccomp) return;
    this.supervisor.send({ type: 'confine' });
    const error = await this.answer;
    if (error !== 0) this.missing('no system call filter', getSystemErrorName(-error));
  }

  private missing(what: string, why: string): void {
    if (this.spec.required) throw new Error(`${what}: ${why}`);
    this.logger.log('debug', what, { reason: why });
  }
}
