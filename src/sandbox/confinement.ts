/**
 * What the process gives up once everything is open, right before it says that it is ready: the file system, descriptors
 * that it was started with and nobody named, then system calls. Capabilities are gone already, if bin/launch.pl had its
 * way.
 *
 * What stays in sight is read-only: our own directory in /proc, and no other: by /proc/PID/root the command's files,
 * which are all of the user's, would be back; the unix sockets that forwards lead to. Where forwards lead to names, also /etc, the directory in /run that resolv.conf(5) leads
 * to, and the libraries of the system's name service. The guest's queries need none of that: resolv.conf is read for us by
 * the broker, who sees all files as they are now.
 *
 * The system call filter (sys/seccomp-filter) is put in force by the data plane, which has the foreign calls, and from
 * there for all threads.
 */
import { closeSync, type Dirent, existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { type GuestConfig, ownDescriptors, type ProcessConfig } from '../config.ts';
import type { Log } from '../control/log.ts';
import type { ResolvConfFollower } from '../control/resolv-conf.ts';
import type { Supervisor } from '../control/supervisor.ts';
import type { LinkTarget } from '../device-spec.ts';
import { closeTree, followFile, isConfined, sealBroker, unlinkAtEnd } from './broker.ts';

const RESOLV_CONF = '/etc/resolv.conf';
/** What the original has in its tree, and whoever looks whether there is one looks for; here there is nothing in them. */
const MINIMAL = ['/etc', '/run'] as const;
/** Where the dynamic linker looks; symlinks into /usr on most systems. */
const LIBRARIES = ['/usr/lib', '/usr/lib64', '/usr/local/lib', '/lib', '/lib64'] as const;

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

/** What is to be in sight, as bin/broker.pl has it. */
class Order {
  readonly lines: string[] = [];
  private readonly paths: string[] = [];

  /** Of our own: what was to be written there before can be afterwards. */
  addWritable(directory: string): void {
    this.lines.push(`write ${directory}`);
  }

  add(how: 'read' | 'load' | 'link' | 'empty', path: string): void {
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

  /**
   * What look-ups of the system read: each file on the way from resolv.conf to what it stands for; of those in /run, the
   * directories, because there they are made anew.
   */
  addNameService(): void {
    this.add('read', '/etc');
    this.addLibraries();
    let path: string = RESOLV_CONF;
    try {
      while (lstatSync(path).isSymbolicLink()) {
        path = resolve(dirname(path), readlinkSync(path));
        const inRun = isBelow(path, '/run') && dirname(path) !== '/run';
        this.add('read', inRun ? dirname(path) : path);
      }
    } catch {
      // It leads nowhere.
    }
  }

  /**
   * The directory of a socket, so that it is found again when its service makes it anew; the socket alone, if the directory
   * is for more than that.
   */
  addSocket(path: string): void {
    const directory = dirname(resolve(path));
    this.add('read', isForSockets(directory) ? directory : resolve(path));
  }
}

/** Nothing is in there but sockets, and what services leave beside theirs. */
function isForSockets(directory: string): boolean {
  let entries: Dirent[];
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch {
    return false;
  }
  return entries.every(
    (entry) => !entry.isDirectory() && (!entry.isFile() || /\.(pid|lock)$/.test(entry.name)),
  );
}

/** The event loops of Node 22 and later have a ring each where they can, and end the process where it fails them later. */
function usesRing(): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[io_uring]';
    } catch {
      return false;
    }
  });
}

/** A log that can do without files from then on. */
export interface ConfinementLog extends Log {
  readLibraries(): void;
}

export class Confinement {
  private readonly config: ProcessConfig;
  private guests: readonly GuestConfig[] = [];
  private readonly supervisor: Supervisor;
  private readonly log: ConfinementLog;
  private readonly inherited: readonly number[];
  private readonly answer: Promise<number>;
  private settle: ((error: number) => void) | undefined;

  /** @param inherited descriptors beyond the standard streams that the process was started with */
  /** Who hears what is in the host's resolv.conf, from outside. */
  private readonly followers = new Set<ResolvConfFollower>();
  private text: string | undefined;
  private isClosed = false;

  constructor(
    config: ProcessConfig,
    supervisor: Supervisor,
    log: ConfinementLog,
    inherited: readonly number[],
  ) {
    this.config = config;
    this.supervisor = supervisor;
    this.log = log;
    this.inherited = inherited;
    this.answer = new Promise((resolvePromise) => {
      this.settle = resolvePromise;
    });
  }

  /** The data plane's answer: 0 or a positive errno. */
  confined(error: number): void {
    this.settle?.(error);
  }

  /**
   * Rejects with one line when something that is required cannot be had. `resolvConfs` will hear from outside what is in
   * the file.
   */
  async enter(
    guests: readonly GuestConfig[],
    resolvConfs: readonly ResolvConfFollower[],
    doors: readonly GuestConfig[] = [],
  ): Promise<void> {
    this.guests = [...guests, ...doors];
    const { sandbox } = this.config;
    const hasRing = sandbox.seccomp && usesRing();
    if (sandbox.mountTree)
      await this.closeFileSystem(
        resolvConfs,
        doors.some(({ dns }) => dns),
      );
    if (!sandbox.seccomp) return;
    if (hasRing) {
      this.missing('no system call filter', 'the runtime uses io_uring, which would be a way around it');
      return;
    }
    this.supervisor.send({
      type: 'confine',
      unixSockets: this.socketTargets().length > 0,
      vsockets: this.links().some((link) => link.kind === 'dial' && link.at.family === 'vsock'),
    });
    const error = await this.answer;
    if (error !== 0) this.missing('no system call filter', getSystemErrorName(-error));
  }

  /** Of a guest that has come since: it hears what the others hear. Of one that has gone: no more. */
  follow(resolvConf: ResolvConfFollower): () => void {
    if (!this.isClosed) return () => undefined;
    resolvConf.leaveToOthers();
    if (this.text !== undefined) resolvConf.take(this.text);
    this.followers.add(resolvConf);
    return () => this.followers.delete(resolvConf);
  }

  private async closeFileSystem(
    resolvConfs: readonly ResolvConfFollower[],
    moreCome: boolean,
  ): Promise<void> {
    if (!isConfined) {
      this.missing('no file system of our own', 'a mount namespace cannot be had, or bin/ was passed by');
      return;
    }
    try {
      for (const path of this.socketFiles()) unlinkAtEnd(path);
      for (const resolvConf of resolvConfs) {
        resolvConf.leaveToOthers();
        this.followers.add(resolvConf);
      }
      if (resolvConfs.length > 0 || moreCome) {
        followFile(
          RESOLV_CONF,
          (text) => {
            this.text = text;
            for (const resolvConf of this.followers) resolvConf.take(text);
          },
          (reason) => {
            for (const resolvConf of this.followers) resolvConf.miss(reason);
          },
        );
      }
      this.log.readLibraries();
      await closeTree(this.order().lines);
      this.isClosed = true;
      sealBroker();
      this.closeInherited();
    } catch (error) {
      this.missing('no file system of our own', (error as Error).message);
    }
  }

  /** A directory among them would be a way back to all files. */
  private closeInherited(): void {
    const named = ownDescriptors(this.config);
    for (const link of this.links())
      if (link.kind === 'descriptor') named.push(link.fd, link.output ?? link.fd);
    for (const fd of this.inherited) {
      try {
        if (!named.includes(fd)) closeSync(fd);
      } catch {
        // Closed already.
      }
    }
  }

  private order(): Order {
    const forwards = this.forwards();
    const order = new Order();
    order.lines.push(`process ${process.pid}`);
    if (forwards.some((forward) => forward.direction === 'remote' && forward.target.kind === 'name'))
      order.addNameService();
    for (const path of this.socketTargets()) order.addSocket(path);
    for (const forward of forwards) {
      // Clients that are to be answered have sockets of their own, next to ours.
      if (forward.direction === 'local' && forward.listen.kind === 'unix' && forward.protocol === 'udp')
        order.add('read', dirname(resolve(forward.listen.path)));
    }
    for (const link of this.links()) {
      if (link.kind !== 'datagram') continue;
      // A peer whose path we are not told has it next to ours.
      const { family, ...at } = link.remote ?? link.local;
      if (family === 'unix' && 'path' in at) order.add('read', dirname(resolve(at.path)));
    }
    const { outDirectory, forwardEvents } = this.config;
    // Whoever makes the file anew makes it there.
    if (forwardEvents.path !== '') order.add('read', dirname(forwardEvents.path));
    if (outDirectory !== '') order.addWritable(outDirectory);
    if (this.config.sandbox.minimal) for (const path of MINIMAL) order.add('empty', path);
    return order;
  }

  /** Unix sockets that forwards and links lead to. */
  private socketTargets(): string[] {
    const targets = this.forwards().flatMap((forward) =>
      forward.direction === 'remote' && forward.target.kind === 'unix' ? [forward.target.path] : [],
    );
    const dialed = this.links().flatMap((link) =>
      link.kind === 'dial' && link.at.family === 'unix' ? [link.at.path] : [],
    );
    return [...targets, ...dialed];
  }

  private forwards(): GuestConfig['forwards'] {
    return this.guests.flatMap(({ forwards }) => forwards);
  }

  private links(): LinkTarget[] {
    return this.guests.flatMap(({ target }) =>
      target.kind === 'run' || target.kind === 'attach' || target.kind === 'webSocket' ? [] : [target],
    );
  }

  /** Files of sockets that we listen on. */
  private socketFiles(): string[] {
    const { api } = this.config;
    const control = this.guests.map(({ portRules }) => portRules?.controlPath ?? '');
    const paths = [api.path, ...control].filter((path) => path !== '');
    for (const forward of this.forwards()) {
      if (forward.direction === 'local' && forward.listen.kind === 'unix') paths.push(forward.listen.path);
    }
    for (const { target } of this.guests)
      if (target.kind === 'webSocket' && target.at.family === 'unix') paths.push(target.at.path);
    for (const link of this.links()) {
      if (link.kind === 'listen' && !link.awaited && link.at.family === 'unix') paths.push(link.at.path);
      if (link.kind === 'datagram' && link.local.family === 'unix') paths.push(link.local.path);
    }
    return paths
      .filter((path) => !path.startsWith('\0') && !path.startsWith('@'))
      .map((path) => resolve(path));
  }

  private missing(what: string, why: string): void {
    if (this.config.sandbox.required) throw new Error(`${what}: ${why}`);
    this.log.log('debug', what, { reason: why });
  }
}
