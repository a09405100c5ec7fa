/**
 * Namespaces of end-to-end tests, and tslirp serving one.
 *
 * The test process itself is on the "host" (test/lab.sh has made one around it): it listens with ordinary Node servers.
 * Guests are reached with nsenter(1). In mode `user` everything that belongs to the guest, and tslirp, is run by an
 * ordinary user without capabilities.
 */
import { existsSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ended, must, type Running, type RunOptions, run, start } from './processes.ts';
import { PATIENCE_MS, until } from './wait.ts';

const { TSLIRP_E2E_MODE, TSLIRP_E2E_USER = '', TSLIRP_E2E_DIRECTORY } = process.env;
if (TSLIRP_E2E_MODE === undefined || TSLIRP_E2E_DIRECTORY === undefined) {
  throw new Error('end-to-end tests need a host of their own: run them as test/run.sh e2e [FILE…]');
}

/** Who tslirp is on the host: root, a user without capabilities, or root of a user namespace. */
export const mode: string = TSLIRP_E2E_MODE;
/** A private directory that every user may write to. */
export const directory: string = TSLIRP_E2E_DIRECTORY;

/** Server addresses of the host. */
export const HOST4 = '198.51.100.1';
export const HOST4_OTHER = '198.51.100.2';
export const HOST6 = '2001:db8:1::1';
export const HOST6_OTHER = '2001:db8:1::2';
export const GATEWAY4 = '10.0.2.2';
export const GATEWAY6 = 'fd00::2';
export const DNS4 = '10.0.2.3';
export const DNS6 = 'fd00::3';

/** Everything that is not reserved is open. */
export const OPEN: readonly string[] = ['--enable-host', '--enable-routing'];

const asUser =
  mode === 'user'
    ? ['setpriv', '--reuid', TSLIRP_E2E_USER, '--regid', TSLIRP_E2E_USER, '--clear-groups', '--']
    : [];
// A change of user clears the parent-death signal.
const owner = asUser.length > 0 ? [...asUser, 'setpriv', '--pdeathsig', 'KILL', '--'] : [];

function findRoot(): string {
  let place = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(place, 'bin', 'tslirp'))) place = dirname(place);
  return place;
}
const programs = join(findRoot(), 'bin');

/** The command line that runs tslirp as it is run in this mode. */
export function tslirpCommand(...args: string[]): string[] {
  return [...owner, join(programs, 'tslirp'), ...args];
}

/** Where a program is installed, for what starts it by itself. */
export function programPath(name: string): string {
  return join(programs, name);
}

/** The command line that runs a program as whoever runs tslirp in this mode. */
export function asOwner(...argv: string[]): string[] {
  return [...owner, ...argv];
}

/** A namespace that tests run programs in. */
export class Namespace {
  /** A process inside. */
  readonly pid: number;
  private readonly entering: readonly string[];

  constructor(pid: number, hasUserNamespace: boolean) {
    this.pid = pid;
    const user = hasUserNamespace ? ['--user', '--preserve-credentials'] : [];
    this.entering = [
      ...(hasUserNamespace ? owner : []),
      ...['nsenter', '--target', String(pid), ...user, '--net', '--mount', '--'],
    ];
  }

  command(argv: readonly string[]): string[] {
    return [...this.entering, ...argv];
  }

  run(argv: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return run(this.command(argv), options);
  }

  /** As `run`; a status other than 0 is an error. */
  must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return must(this.command(argv), options);
  }

  start(argv: readonly string[]): Running {
    return start(this.command(argv));
  }

  /** ip(8) commands, one a line. */
  async ip(...lines: string[]): Promise<void> {
    await this.must(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async sysctl(...values: string[]): Promise<void> {
    await this.must(['sysctl', '-q', '-w', ...values]);
  }

  /**
   * Runs a function in a Node program inside. It sees nothing but its arguments (plain data) and `import()`; what it
   * returns, as JSON, is the result.
   */
  async evaluate<A extends unknown[], R>(
    body: (...args: A) => Promise<R>,
    args: A,
    limitMs: number = PATIENCE_MS,
  ): Promise<R> {
    const program = `(${body.toString()})(...${JSON.stringify(args)}).then((result) => {
      process.stdout.write('\\n' + JSON.stringify(result ?? null), () => process.exit(0));
    }, (error) => { console.error(error); process.exit(1); });`;
    const out = await this.must([process.execPath, '-e', program], { limitMs });
    return JSON.parse(out.slice(out.lastIndexOf('\n') + 1)) as R;
  }
}

/** A namespace of our own making, not yet with a network. */
export interface Bare {
  namespace: Namespace;
  anchor: Running;
}

const ANCHOR = ['sh', '-c', 'echo $$; exec cat'];

/** A guest for `attach`: network and mount namespace, and a user namespace unless root makes it `plain`. */
export async function bareNamespace({ plain = false }: { plain?: boolean } = {}): Promise<Bare> {
  const flags = plain ? ['--net', '--mount'] : ['--user', '--map-root-user', '--net', '--mount'];
  // A new user namespace clears the parent-death signal too.
  const guard = ['--', 'setpriv', '--pdeathsig', 'KILL', '--'];
  const anchor = start([...(plain ? [] : owner), 'unshare', ...flags, ...guard, ...ANCHOR]);
  const pid = Number(await anchor.firstLine());
  const namespace = new Namespace(pid, !plain);
  await namespace.must(['ip', 'link', 'set', 'lo', 'up']);
  return { namespace, anchor };
}

/** Waits for the byte and the end that --ready-fd stands for; rejects with what was said when tslirp ends instead. */
export async function ready(stack: Running, fd = 3): Promise<void> {
  let text = '';
  let closed = false;
  (stack.child.stdio[fd] as NodeJS.ReadableStream)
    .on('data', (part: Buffer) => {
      text += part.toString('latin1');
    })
    .on('end', () => {
      closed = true;
    })
    .on('error', () => undefined);
  await until(() => closed || !stack.running, 'tslirp ready', 60_000);
  if (text !== '1') throw new Error(`tslirp is not ready (said ${JSON.stringify(text)}): ${stack.stderr}`);
}

/** `tslirp run` with a guest that waits to be used. */
export interface Guest extends AsyncDisposable {
  stack: Running;
  namespace: Namespace;
}

export async function startGuest(...options: string[]): Promise<Guest> {
  const stack = start(
    tslirpCommand('run', '--log-level', 'warn', '--ready-fd', '3', ...options, '--', ...ANCHOR),
    { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] },
  );
  try {
    await ready(stack);
    const namespace = new Namespace(Number(await stack.firstLine()), true);
    return { stack, namespace, [Symbol.asyncDispose]: () => endGuest(stack) };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

/** The guest's last process sees the end of its input; tslirp ends after it. */
async function endGuest(stack: Running): Promise<void> {
  stack.child.stdin?.end();
  try {
    await stack.end();
  } finally {
    if (stack.running) await stack.stop();
  }
}

/** `tslirp attach` to a namespace; `target` is a PID or a path. */
export async function attach(target: string | number, ...options: string[]): Promise<Running> {
  const stack = start(
    tslirpCommand('attach', '--log-level', 'warn', '--ready-fd', '3', ...options, String(target)),
    { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] },
  );
  try {
    await ready(stack);
    return stack;
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

/** Inode of a process's network namespace, or empty when it is gone. */
export function networkOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return '';
  }
}
