/**
 * Child processes of the benchmark: started with a bound, known by their pid, ended by their pid.
 *
 * Every child is given a parent-death signal, so that a killed benchmark leaves nothing running; the network
 * namespaces of the benchmark live only as long as the processes inside them.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** A child that is running or has ended. */
export interface Owned {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What it wrote to stderr so far, at most 16 KiB of it. */
  readonly complaints: () => string;
  /** Settles when the child is gone: its exit code, or −1 after a signal. */
  readonly ended: Promise<number>;
}

const COMPLAINTS_LIMIT = 16384;
/** pasta says this before every message where there is no syslog. */
const SYSLOG_NOISE = /^Failed to send \d+ bytes to syslog\n/gm;

const running = new Set<Owned>();

/** What must precede a command so that it dies with the benchmark. */
export const DIE_WITH_PARENT: readonly string[] = ['setpriv', '--pdeathsig', 'KILL', '--'];

/** Start `argv`; stderr is collected unless `stdio` says otherwise. Throws when it cannot be started. */
export function start(argv: readonly string[], stdio: StdioOptions = ['ignore', 'ignore', 'pipe']): Owned {
  const full = [...DIE_WITH_PARENT, ...argv];
  const child = spawn(full[0] as string, full.slice(1), { stdio });
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (text.length < COMPLAINTS_LIMIT) text += chunk.toString('utf8');
  });
  if (child.pid === undefined) {
    child.on('error', () => undefined);
    throw new Error(`cannot start ${argv[0]}`);
  }
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (code) => {
      running.delete(owned);
      resolve(code ?? -1);
    });
  });
  const owned: Owned = {
    child,
    pid: child.pid,
    complaints: () => text.replace(SYSLOG_NOISE, '').trim(),
    ended,
  };
  running.add(owned);
  return owned;
}

/** End `owned`: SIGTERM, after `graceMs` SIGKILL; settles when it is gone. */
export async function stop(owned: Owned, graceMs = 1000): Promise<void> {
  if (owned.child.exitCode !== null || owned.child.signalCode !== null) return;
  owned.child.kill('SIGTERM');
  const timer = setTimeout(() => owned.child.kill('SIGKILL'), graceMs);
  await owned.ended;
  clearTimeout(timer);
}

/** End `owned` without ceremony; for processes with nothing to tidy. */
export async function kill(owned: Owned): Promise<void> {
  if (owned.child.exitCode !== null || owned.child.signalCode !== null) return;
  owned.child.kill('SIGKILL');
  await owned.ended;
}

/** SIGKILL to everything still running; for the way out. */
export function killAll(): void {
  for (const owned of running) owned.child.kill('SIGKILL');
}

/** Run `argv` to its end with `input` on stdin; returns stdout. Throws when it fails or takes longer than `timeoutMs`. */
export async function run(argv: readonly string[], timeoutMs: number, input = ''): Promise<string> {
  const owned = start(argv, ['pipe', 'pipe', 'pipe']);
  let out = '';
  owned.child.stdout?.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8');
  });
  const closed = new Promise<void>((resolve) => {
    owned.child.once('close', () => resolve());
  });
  owned.child.stdin?.on('error', () => undefined);
  owned.child.stdin?.end(input);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    owned.child.kill('SIGKILL');
  }, timeoutMs);
  const code = await owned.ended;
  clearTimeout(timer);
  await closed;
  if (late) throw new Error(`${argv.join(' ')}: not finished after ${timeoutMs} ms`);
  if (code !== 0)
    throw new Error(`${argv.join(' ')}: exit ${code}: ${owned.complaints() || out.slice(-400)}`);
  return out;
}

/** Poll `holds` every `everyMs` until it is true; throws `what` after `timeoutMs`. */
export async function until(
  holds: () => boolean,
  what: string,
  timeoutMs: number,
  everyMs = 5,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await delay(everyMs);
  }
}

/** Milliseconds as a promise. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Milliseconds of CLOCK_MONOTONIC: comparable between processes. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

/** What must precede a command so that it may open as many descriptors as we may allow it: its hard limit. */
export function manyDescriptors(): string[] {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1] ?? '4096';
  return ['prlimit', `--nofile=${hard}:${hard}`, '--'];
}
