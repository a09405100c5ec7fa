/**
 * A child that is a stack: `tslirp daemon`, with a socket between us, and what it says when it dies. It is of a session of its
 * own: what is meant for us on a terminal is not meant for it, and it ends with us by itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { TslirpError } from './errors.ts';
import type { CloseReason } from './types.ts';

/** Of what it has said at last. */
const STDERR_BYTES = 4096;
/** How long it may take to end when it was told to. */
const END_MS = 3000;
/** Its end of the control socket. */
const CONTROL_FD = 3;
/** What a runtime would obey that is not for it. */
const NOT_FOR_IT = ['NODE_OPTIONS', 'NODE_V8_COVERAGE', 'NODE_EXTRA_CA_CERTS', 'NODE_CHANNEL_FD'];

export interface ProcessOptions {
  /** Not given: that of the installation at `root`, by this runtime. */
  executable?: string | undefined;
  root: string;
  args: readonly string[];
  /** Ours, that it has from the number `FIRST_INHERITED` on. */
  fds: readonly number[];
}

/** Number of the first descriptor that it inherits. */
export const FIRST_INHERITED: number = CONTROL_FD + 1;

export class StackProcess {
  readonly socket: Socket;
  /** Resolves when it is gone, with all that it has said. */
  readonly gone: Promise<CloseReason>;
  readonly #child: ChildProcess;
  #said = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.socket = child.stdio[CONTROL_FD] as Socket;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString('latin1')).slice(-STDERR_BYTES);
    });
    this.gone = once(child, 'close').then(([code, signal]: (number | string | null)[]) => {
      const detail = this.#said.trim();
      return {
        code: 'CRASHED',
        ...(detail === '' ? {} : { detail }),
        ...(typeof code === 'number' ? { exitCode: code } : {}),
        ...(typeof signal === 'string' ? { signal } : {}),
      };
    });
  }

  /** Rejects with a `TslirpError`. */
  static async start({ executable, root, args, fds }: ProcessOptions): Promise<StackProcess> {
    const main = join(root, 'dist/bundle/tslirp.cjs');
    const [file, ...before] = executable === undefined ? [process.execPath, main] : [executable];
    const env = { ...process.env };
    for (const name of NOT_FOR_IT) delete env[name];
    const words = [...before, 'daemon', '--control-fd', String(CONTROL_FD), ...args];
    let child: ChildProcess;
    try {
      child = spawn(file as string, words, {
        stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...fds],
        env,
        detached: true,
      });
      if (child.pid === undefined) await once(child, 'spawn');
    } catch (cause) {
      const { code = '', message } = cause as NodeJS.ErrnoException;
      throw code === 'EBADF'
        ? new TslirpError('FD_INVALID', 'a descriptor is not open', { cause })
        : new TslirpError('CHILD_EXITED', `the stack's process cannot be started: ${message}`, { cause });
    }
    child.on('error', () => undefined);
    return new StackProcess(child);
  }

  unref(): void {
    this.#child.unref();
    this.socket.unref();
    (this.#child.stderr as Socket | null)?.unref();
  }

  /** It has nobody any more: resolves when it is gone. */
  async end(): Promise<CloseReason> {
    this.socket.destroy();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
    const reason = await this.gone;
    clearTimeout(timer);
    return reason;
  }
}
