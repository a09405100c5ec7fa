/**
 * The process side of `tslirp run`: a command in a new user, network and mount namespace.
 *
 * unshare(1) makes the namespaces, setpriv(1) has the kernel kill the command when this process dies in whatever way, and
 * a short shell script tells us that the namespaces are there (descriptor 4), prepares what the command sees, waits for
 * the network (descriptor 3), and then becomes the command: same process, same process group, same terminal. There is no
 * process between us and the command, so signals, job control and the exit status are the command's own.
 *
 * Limits: there is no PID namespace, so what the command leaves behind in the background is not ended with it (it loses
 * its network); a set-user-ID program drops the parent-death signal (prctl(2)); should the host replace, by rename, a resolv.conf
 * that is no symlink into a directory below /run, the kernel drops the mount over it and the host's file shows through.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Config, RunTarget } from '../config.ts';
import { type GuestFiles, writeGuestFiles } from '../sandbox/guest-files.ts';
import { holderPid, launcherDescriptors } from '../sandbox/launcher.ts';
import {
  closedStreams,
  foundEnvironment,
  ignoredSignals,
  onSignal,
  openDescriptors,
  openFilesLimit,
} from './found.ts';

/** Where nscd, nslcd, systemd-resolved, avahi, mdnsd and sssd have their sockets. */
const NAME_SERVICES = [
  '/run/nscd',
  '/var/run/nscd',
  '/run/nslcd',
  '/run/systemd/resolve',
  '/run/avahi-daemon',
  '/run/mdnsd',
  '/var/lib/sss/pipes',
] as const;

/**
 * $1 is the directory of our files, $2 the working directory, $3 and $4 the descriptors on which it is told to go on and
 * tells how far it is, $5 what undoes the runtime's changes to the process; the rest is the command. The files are copied to a tmpfs of the new namespace first: the
 * directory can then be removed at once, and yet the mounts are of files that exist, so that others can mount over them.
 *
 * A directory is covered by one of ours with copies of its plain files: of name services, whose sockets would answer for the
 * host, and the one in /run that resolv.conf leads to, with all else that is in it, because files there are replaced by
 * rename, and the kernel drops a mount over such a one.
 *
 * Its variables have names that the environment of the command does not: the shell would pass on changed ones.
 */
const SCRIPT = `
tslirp_files=$1
tslirp_in=$3
tslirp_out=$4
tslirp_restore=$5
echo there >&"$tslirp_out"
tslirp_old=\${OLDPWD-}
cd "$2" 2>/dev/null
if [ -n "$tslirp_old" ]; then OLDPWD=$tslirp_old; else unset OLDPWD; fi
shift 5
tslirp_over() {
  [ -f "$tslirp_files/$1" ] || return 0
  tslirp_target=$(readlink -f "/etc/$1") && [ -e "$tslirp_target" ] ||
    { echo "tslirp: warning: /etc/$1 does not exist and is left alone" >&2; return 0; }
  cp "$tslirp_files/$1" "$tslirp_files/fs/$1" && mount --bind "$tslirp_files/fs/$1" "$tslirp_target" ||
    echo "tslirp: warning: /etc/$1 cannot be replaced" >&2
}
tslirp_cover() {
  tslirp_copy=$tslirp_files/fs$1
  [ -d "$1" ] && [ ! -e "$tslirp_copy" ] && mkdir -p "$tslirp_copy" 2>/dev/null || return 0
  for tslirp_entry in "$1"/* "$1"/.[!.]*; do
    tslirp_name=\${tslirp_entry##*/}
    if [ -L "$tslirp_entry" ] || [ -f "$tslirp_entry" ]; then cp -P "$tslirp_entry" "$tslirp_copy/$tslirp_name"
    elif [ "$2" = all ] && [ -e "$tslirp_entry" ]; then
      if [ -d "$tslirp_entry" ]; then mkdir "$tslirp_copy/$tslirp_name"; else : >"$tslirp_copy/$tslirp_name"; fi
      mount --rbind "$tslirp_entry" "$tslirp_copy/$tslirp_name"
    fi
  done 2>/dev/null
  mount --rbind "$tslirp_copy" "$1" || echo "tslirp: warning: $1 cannot be covered" >&2
}
mount -t tmpfs -o mode=0755 tslirp "$tslirp_files/fs" || echo "tslirp: warning: no tmpfs could be mounted" >&2
for tslirp_place in ${NAME_SERVICES.join(' ')}; do tslirp_cover "$tslirp_place" files; done
tslirp_target=$(readlink -f /etc/resolv.conf)
case $tslirp_target in /run/*/*) tslirp_cover "\${tslirp_target%/*}" all ;; esac
tslirp_over resolv.conf
tslirp_over hosts
umount -l "$tslirp_files/fs" 2>/dev/null
echo "0 0" 2>/dev/null >/proc/sys/net/ipv4/ping_group_range
echo done >&"$tslirp_out"
read -r tslirp_word <&"$tslirp_in" && [ "$tslirp_word" = go ] || exit 1
[ "\${LISTEN_PID-}" != "$PPID" ] || LISTEN_PID=$$
eval "$tslirp_restore"
exec "$@"
`;

const SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
/** How long a command may take to end after we have asked it to because there is no network any more. */
const KILL_AFTER_MS = 2000;

/** The command cannot be run at all; `status` as the shell has it (POSIX XCU §2.8.2). */
export class CommandError extends Error {
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/** Looks a command up as execvp(3) does, so that a typing error is told before anything is started. */
export function checkCommand(command: string): void {
  let found = 127;
  const { PATH = '/usr/bin:/bin' } = process.env;
  const places = command.includes('/')
    ? [command]
    : PATH.split(delimiter).map((directory) => join(directory || '.', command));
  for (const place of places) {
    try {
      const isFile = statSync(place).isFile();
      found = 126;
      if (!isFile) continue;
      accessSync(place, constants.X_OK);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EACCES') found = 126;
    }
  }
  throw new CommandError(`${command}: ${found === 127 ? 'command not found' : 'cannot be executed'}`, found);
}

/**
 * Whether the terminal sends its signals to us directly, and so to the command as well (fields 5 and 8 of /proc/PID/stat):
 * passing them on would deliver them twice.
 */
function isForeground(): boolean {
  const text = readFileSync('/proc/self/stat', 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[2] === fields[5];
}

export function exitStatus(code: number | null, signal: NodeJS.Signals | null): number {
  return signal === null ? (code ?? 1) : 128 + osConstants.signals[signal];
}

/** Two descriptors of one digit, which is all that a shell can write, that the command was not to have. */
function freeDigits(taken: readonly number[]): [number, number] {
  const [first, second] = [3, 4, 5, 6, 7, 8, 9].filter((fd) => !taken.includes(fd));
  if (first === undefined || second === undefined)
    throw new CommandError('of descriptors 3 to 9 at least two must be free for the start of the command', 1);
  return [first, second];
}

/** What the shell has to do so that the command finds the process as we have; the runtime sets all of it to its taste. */
function restoring(ours: readonly number[]): string {
  const lines = [...ours, ...closedStreams].map((fd) => `exec ${fd}>&-`);
  // SIGKILL and SIGSTOP are never ignored.
  if (ignoredSignals.length > 0) lines.push(`trap '' ${ignoredSignals.join(' ')}`);
  if (openFilesLimit !== '') lines.push(`ulimit -Sn ${openFilesLimit}`);
  return lines.join('\n');
}

export class RunCommand {
  /** Resolves when the namespaces exist and the command waits in them; rejects when it comes to nothing. */
  readonly present: Promise<void>;
  /** Resolves when the command has taken its copies of our files. */
  readonly prepared: Promise<void>;
  /** The exit status for us to end with. */
  readonly ended: Promise<number>;
  readonly pid: number;
  private readonly child: ChildProcess;
  private readonly files: GuestFiles;
  private readonly control: Duplex;

  constructor(config: Config, target: RunTarget) {
    const [program = ''] = target.command;
    checkCommand(program);
    this.files = writeGuestFiles(config.guest.addresses, config.guest.dns, config.dnsSearch);
    const removeFiles = (): void => this.files.remove();
    process.on('exit', removeFiles);

    // Namespaces that were made for us while we still could (bin/launcher.pl), or new ones.
    const holder = holderPid();
    const [enter, ...namespaces]: [string, ...string[]] =
      holder === 0
        ? ['unshare', '--user', '--map-root-user', '--net', '--mount', '--propagation', 'slave']
        : ['nsenter', '--target', String(holder), '--user', '--net', '--mount', '--preserve-credentials'];
    const guard = ['--', 'setpriv', '--pdeathsig', 'KILL', '--'];
    const stdio: ('inherit' | 'pipe' | 'ignore' | number)[] = ['inherit', 'inherit', 'inherit'];
    // Descriptors meant for us must not stay open in the command; the runtime closes only low ones by itself.
    const ours = [config.readyFd, config.exitFd, config.flowLog.fd, ...launcherDescriptors];
    const theirs = openDescriptors.filter((fd) => !ours.includes(fd));
    const [goFd, reportFd] = freeDigits(theirs);
    for (let fd = stdio.length; fd <= Math.max(goFd, reportFd, ...ours, ...theirs); fd++)
      stdio[fd] = 'ignore';
    for (const fd of ours) if (fd >= 3) stdio[fd] = 2;
    for (const fd of theirs) stdio[fd] = fd;
    stdio[goFd] = 'pipe';
    stdio[reportFd] = 'pipe';
    const numbers = [String(goFd), String(reportFd)];
    const files = [this.files.directory, process.cwd()];
    const script = [
      'sh',
      '-c',
      SCRIPT,
      'tslirp',
      ...files,
      ...numbers,
      restoring([goFd, reportFd]),
      ...target.command,
    ];
    // The directory that we are in may be gone, which the shell would complain of.
    this.child = spawn(enter, [...namespaces, ...guard, ...script], {
      stdio,
      cwd: '/',
      env: foundEnvironment(),
    });
    this.pid = this.child.pid ?? 0;
    this.control = this.child.stdio[goFd] as Duplex;
    const report = this.child.stdio[reportFd] as Duplex;
    this.control?.on('error', () => undefined);
    report?.on('error', () => undefined);

    this.ended = new Promise((resolve) => {
      this.child.on('error', () => resolve(1));
      this.child.on('exit', (code, signal) => resolve(exitStatus(code, signal)));
    });
    let prepared = (): void => undefined;
    this.prepared = new Promise((resolve) => {
      prepared = resolve;
    });
    this.present = new Promise((resolve, reject) => {
      this.child.on('error', (error) => reject(new Error(`${enter} cannot be started: ${error.message}`)));
      this.child.on('exit', (code, signal) => {
        const how = signal ?? `status ${code}`;
        reject(new Error(`no namespaces could be made for the command (${enter} ended with ${how})`));
      });
      // The namespaces are there as soon as the script runs; what it does next goes on beside us.
      let words = '';
      report?.setEncoding('latin1').on('data', (text: string) => {
        words += text;
        resolve();
        if (!words.includes('done')) return;
        this.files.remove();
        process.removeListener('exit', removeFiles);
        report.destroy();
        prepared();
      });
    });
    this.present.catch(() => undefined);
    for (const signal of SIGNALS) onSignal(signal, () => this.passOn(signal));
  }

  /** Let the command begin. */
  go(): void {
    this.control.end('go\n');
  }

  /** Ask the command to end, and see to it that it does. */
  terminate(): void {
    this.child.kill('SIGTERM');
    setTimeout(() => this.child.kill('SIGKILL'), KILL_AFTER_MS).unref();
  }

  private passOn(signal: NodeJS.Signals): void {
    if ((signal === 'SIGINT' || signal === 'SIGQUIT') && isForeground()) return;
    this.child.kill(signal);
  }
}
