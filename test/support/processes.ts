/**
 * Child processes of tests: started with a parent-death signal, known by their pid, ended by their pid.
 *
 * `run` is for what ends by itself; `start` for what goes on beside the test.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { PATIENCE_MS, within } from './wait.ts';

export interface Ended {
  /** Exit status, or −1 after a signal. */
  status: number;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  input?: string | Buffer;
  limitMs?: number;
  env?: NodeJS.ProcessEnv;
}

/** Most that is kept of an output. */
const OUTPUT_MAX = 16 * 1024 * 1024;
const GUARD = ['--pdeathsig', 'KILL', '--'];

/** A running (or ended) child. */
export class Running {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly name: string;
  stdout = '';
  stderr = '';
  /** Resolves when the child has ended and its outputs are closed. */
  readonly ended: Promise<Ended>;

  constructor(argv: readonly string[], stdio: StdioOptions, env: NodeJS.ProcessEnv) {
    this.name = argv.join(' ').slice(0, 120);
    this.child = spawn('setpriv', [...GUARD, ...argv], { stdio, env });
    this.pid = this.child.pid ?? 0;
    this.child.stdin?.on('error', () => undefined);
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (this.stdout.length < OUTPUT_MAX) this.stdout += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (this.stderr.length < OUTPUT_MAX) this.stderr += text;
    });
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => {
        this.stderr += error.message;
        resolve({ status: -1, signal: null, stdout: this.stdout, stderr: this.stderr });
      });
      this.child.on('close', (code, signal) => {
        resolve({ status: code ?? -1, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Its end, within a time. */
  end(limitMs: number = PATIENCE_MS): Promise<Ended> {
    return within(this.ended, `the end of ${this.name}`, limitMs);
  }

  /** Send a signal and wait for the end. */
  async stop(signal: NodeJS.Signals = 'SIGKILL', limitMs: number = PATIENCE_MS): Promise<Ended> {
    if (this.running) this.child.kill(signal);
    try {
      return await this.end(limitMs);
    } finally {
      if (this.running) this.child.kill('SIGKILL');
    }
  }

  /** The first line of its standard output. */
  async firstLine(limitMs: number = PATIENCE_MS): Promise<string> {
    while (!this.stdout.includes('\n')) {
      if (!this.running) throw new Error(`${this.name} ended before its first line: ${this.stderr}`);
      const more = once(this.child.stdout as NodeJS.EventEmitter, 'data');
      await within(Promise.race([more, this.ended]), `the first line of ${this.name}`, limitMs);
    }
    return this.stdout.slice(0, this.stdout.indexOf('\n'));
  }
}

/** Start something that goes on. Descriptors 0 to 2 are pipes unless `stdio` says otherwise. */
export function start(
  argv: readonly string[],
  { stdio = 'pipe', env = process.env }: { stdio?: StdioOptions; env?: NodeJS.ProcessEnv } = {},
): Running {
  return new Running(argv, stdio, env);
}

/** Run something to its end; rejects only when it takes longer than it may. */
export async function run(
  argv: readonly string[],
  { input = '', limitMs = PATIENCE_MS, env = process.env }: RunOptions = {},
): Promise<Ended> {
  const running = start(argv, { env });
  running.child.stdin?.end(input);
  try {
    return await running.end(limitMs);
  } catch (error) {
    await running.stop('SIGKILL');
    throw new Error(`${(error as Error).message}; so far: ${running.stdout}${running.stderr}`, {
      cause: error,
    });
  }
}

/** As `run`, but anything other than status 0 is an error that shows what was said. Returns standard output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, signal, stdout, stderr } = await run(argv, options);
  if (status === 0) return stdout;
  throw new Error(`${argv.join(' ').slice(0, 300)}: ${signal ?? `status ${status}`}: ${stderr || stdout}`);
}
