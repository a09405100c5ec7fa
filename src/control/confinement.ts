/**
 * What the process gives up once everything is open, right before it says that it is ready: the file system, then system
 * calls. Capabilities are gone already, if bin/launcher.pl had its way.
 *
 * What stays in sight is read-only: /etc, because resolv.conf(5) and hosts(5) are read again and again, and the directory
 * in /run that the former leads to; our own directory in /proc, and no other: by /proc/PID/root the command's files,
 * which are all of the user's, would be back; directories of unix sockets that forwards lead to, and where datagram
 * clients have theirs; and, unless `SandboxSpec.minimal`, what is loaded late: our own modules (the log library is loaded
 * after ready) and the libraries of the system's name service.
 *
 * With `minimal` only the log library stays, at a place of its own, for its place may be where nothing shall be seen.
 *
 * The system call filter (sys/seccomp-filter) is put in force by the data plane, which has the foreign calls, and from
 * there for all threads.
 */
import { existsSync, lstatSync, readlinkSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';
import type { Config } from '../config.ts';
import { packageRoot } from '../package-root.ts';
import { closeTree, isConfined, leaveOutside } from './launcher.ts';
import type { Logger } from './logger.ts';
import { type NamespaceRef, namespaceOfPath, namespaceOfProcess } from './namespace.ts';
import { sayError } from './say.ts';
import type { Supervisor } from './supervisor.ts';

const RESOLV_CONF = '/etc/resolv.conf';
/** What the original has in its tree. /run has more in it than name service: with a session's D-Bus one can run programs. */
const MINIMAL_READ = ['/etc', '/run'] as const;
const READ = ['/etc'] as const;
/** Where the packages are in a minimal tree; bin/launcher.pl knows it too. */
const MODULES = '/node_modules';
/** Where the dynamic linker looks; symlinks into /usr on most systems. */
const LIBRARIES = ['/usr/lib', '/usr/lib64', '/usr/local/lib', '/lib', '/lib64'] as const;

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

/** Orders to the builder, see bin/launcher.pl. */
class Order {
  readonly lines: string[] = [];
  private readonly paths: string[] = [];

  add(how: 'read' | 'load' | 'link' | 'modules', path: string): void {
    // What is not there now will not be seen if it comes; nor is all of it shown for a socket in the root directory.
    if (path === '/' || !existsSync(path) || this.paths.some((known) => isBelow(path, known))) return;
    this.paths.push(path);
    this.lines.push(`${how} ${path}`);
  }

  addLibraries(): void {
    for (const path of LIBRARIES) {
      const file = lstatSync(path, { throwIfNoEntry: false });
      if (file !== undefined) this.add(file.isSymbolicLink() ? 'link' : 'load', path);
    }
  }

  /** The built program. */
  addProgram(): void {
    const own = fileURLToPath(packageRoot).replace(/\/$/, '');
    for (const part of ['dist', 'package.json']) this.add('load', `${own}/${part}`);
  }

  /**
   * Each file on the way from resolv.conf to what it stands for; of those in /run, the directories, because there they are
   * made anew. Returns the end of the way if it is outside of /etc and /run.
   */
  addResolvConf(): string {
    let path: string = RESOLV_CONF;
    let outside = '';
    try {
      while (lstatSync(path).isSymbolicLink()) {
        path = resolve(dirname(path), readlinkSync(path));
        const inRun = isBelow(path, '/run') && dirname(path) !== '/run';
        this.add('read', inRun ? dirname(path) : path);
        if (MINIMAL_READ.every((known) => !isBelow(path, known))) {
          outside = realpathSync(path);
          break;
        }
      }
    } catch {
      // It leads nowhere.
    }
    return outside;
  }
}

export class Confinement {
  private readonly config: Config;
  private readonly supervisor: Supervisor;
  private readonly logger: Logger;
  /** Readable when the guest's namespace is gone, which we do not see ourselves. */
  watchFd = -1;
  private readonly answer: Promise<number>;
  private settle: ((error: number) => void) | undefined;

  constructor(config: Config, supervisor: Supervisor, logger: Logger) {
    this.config = config;
    this.supervisor = supervisor;
    this.logger = logger;
    this.answer = new Promise((resolvePromise) => {
      this.settle = resolvePromise;
    });
  }

  /** The data plane's answer: 0 or a positive errno. */
  confined(error: number): void {
    this.settle?.(error);
  }

  /** Rejects with one line when something that is required cannot be had. `command`: a process that still gets signals, or 0. */
  async enter(command: number): Promise<void> {
    const { sandbox } = this.config;
    const fd = leaveOutside({ sockets: this.socketFiles(), namespace: this.watchedNamespace() });
    if (fd >= 0) {
      this.watchFd = fd;
      this.supervisor.send({ type: 'watchFd', fd, name: 'namespace', data: true });
    }
    if (sandbox.mountTree) await this.closeFileSystem();
    if (!sandbox.seccomp) return;
    const unixSockets = this.config.forwards.some(
      (forward) => forward.direction === 'remote' && forward.target.kind === 'unix',
    );
    this.supervisor.send({ type: 'confine', command, unixSockets });
    const error = await this.answer;
    if (error !== 0) this.missing('no system call filter', getSystemErrorName(-error));
  }

  private async closeFileSystem(): Promise<void> {
    if (!isConfined) {
      this.missing('no file system of our own', 'a mount namespace cannot be had, or bin/ was passed by');
      return;
    }
    try {
      await closeTree(this.order().lines);
    } catch (error) {
      this.missing('no file system of our own', (error as Error).message);
    }
  }

  private order(): Order {
    const { sandbox, forwards } = this.config;
    const order = new Order();
    for (const path of sandbox.minimal ? MINIMAL_READ : READ) order.add('read', path);
    order.lines.push(`process ${process.pid}`);
    const real = order.addResolvConf();
    if (real !== '' && sandbox.minimal) {
      sayError(
        `sandbox: ${RESOLV_CONF} (-> ${real}) seems a symlink to a file outside {/etc, /run}, attempting to bind it as well.\n`,
      );
    }
    for (const forward of forwards) {
      if (forward.direction === 'remote' && forward.target.kind === 'unix')
        order.add('read', dirname(resolve(forward.target.path)));
      // Clients that are to be answered have sockets of their own, next to ours.
      if (forward.direction === 'local' && forward.listen.kind === 'unix' && forward.protocol === 'udp')
        order.add('read', dirname(resolve(forward.listen.path)));
    }
    const library = createRequire(import.meta.url).resolve('pino');
    const modules = library.slice(0, library.indexOf('/node_modules/') + '/node_modules'.length);
    if (sandbox.minimal) {
      order.add('modules', modules);
      this.logger.moveLibraries(modules, MODULES);
    } else {
      order.add('load', modules);
      order.addLibraries();
      order.addProgram();
    }
    return order;
  }

  /** Files of sockets that we listen on. */
  private socketFiles(): string[] {
    const { api, forwards } = this.config;
    const paths = api.path === '' ? [] : [api.path];
    for (const forward of forwards) {
      if (forward.direction === 'local' && forward.listen.kind === 'unix') paths.push(forward.listen.path);
    }
    return paths
      .filter((path) => !path.startsWith('\0') && !path.startsWith('@'))
      .map((path) => resolve(path));
  }

  private watchedNamespace(): NamespaceRef | undefined {
    const { target } = this.config;
    if (target.kind !== 'attach') return undefined;
    return target.pid === 0 ? namespaceOfPath(target.netnsPath) : namespaceOfProcess(target.pid);
  }

  private missing(what: string, why: string): void {
    if (this.config.sandbox.required) throw new Error(`${what}: ${why}`);
    this.logger.log('debug', what, { reason: why });
  }
}
