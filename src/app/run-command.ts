/**
 * The process side of `tslirp run`: a command in a new user, network and mount namespace.
 *
 * The broker starts a process with everything as we found it, which makes the namespaces and is killed when we die in
 * whatever way; a short shell script prepares what the command sees, tells us, waits for the network, and then becomes the
 * command: same process, same process group, same terminal. There is no process between the broker and the command, so
 * signals, job control and the exit status are the command's own.
 *
 * Limits: there is no PID namespace, so what the command leaves behind in the background is not ended with it (it loses
 * its network); a set-user-ID program drops the parent-death signal (prctl(2)); should the host replace, by rename, a resolv.conf
 * that is no symlink into a directory below /run, the kernel drops the mount over it, and the host's file shows through until
 * the broker, a moment later, has covered that too. It does so only in the command's own mount namespace.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, join } from 'node:path';
import { type Config, isWanted, ownDescriptors, type RunTarget } from '../config.ts';
import { letCommandGo, orderCommand, removeUnlessBegun, signalCommand } from '../sandbox/broker.ts';
import { writeGuestFiles } from '../sandbox/guest-files.ts';
import { processFields } from '../sandbox/namespace.ts';
import { explainNamespaceFault } from '../sandbox/namespace-fault.ts';
import { closedStreams, onSignal, openDescriptors } from './found.ts';

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
 * tells how far it is, $5 closes those that the command is not to have; the rest is the command. The files are copied to a tmpfs of the new namespace first: the
 * directory can then be removed at once, and yet the mounts are of files that exist, so that others can mount over them.
 *
 * A directory is covered by one of ours with copies of its plain files: of name services, whose sockets would answer for the
 * host, and the one in /run that resolv.conf leads to, with all else that is in it, because files there are replaced by
 * rename, and the kernel drops a mount over such a one.
 *
 * Our directory goes when we end early: then there is nothing to warn of.
 *
 * Its variables have names that the environment of the command does not: the shell would pass on changed ones.
 */
const SCRIPT = `
tslirp_files=$1
tslirp_in=$3
tslirp_out=$4
tslirp_close=$5
tslirp_old=\${OLDPWD-}
cd "$2" 2>/dev/null
if [ -n "$tslirp_old" ]; then OLDPWD=$tslirp_old; else unset OLDPWD; fi
shift 5
tslirp_warn() {
  [ -d "$tslirp_files" ] || exit 1
  echo "tslirp: warning: $1: $tslirp_why" >&2
}
tslirp_over() {
  [ -f "$tslirp_files/$1" ] || return 0
  tslirp_target=$(readlink -f "/etc/$1") && [ -e "$tslirp_target" ] ||
    { echo "tslirp: warning: /etc/$1 does not exist and is left alone" >&2; return 0; }
  tslirp_why=$(cp "$tslirp_files/$1" "$tslirp_files/fs/$1" 2>&1 &&
    mount --bind "$tslirp_files/fs/$1" "$tslirp_target" 2>&1) || tslirp_warn "/etc/$1 cannot be replaced"
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
  tslirp_why=$(mount --rbind "$tslirp_copy" "$1" 2>&1) || tslirp_warn "$1 cannot be covered"
}
tslirp_why=$(mount -t tmpfs -o mode=0755 tslirp "$tslirp_files/fs" 2>&1) || tslirp_warn 'no tmpfs could be mounted'
for tslirp_place in ${NAME_SERVICES.join(' ')}; do tslirp_cover "$tslirp_place" files; done
tslirp_target=$(readlink -f /etc/resolv.conf)
case $tslirp_target in /run/*/*) tslirp_cover "\${tslirp_target%/*}" all ;; esac
tslirp_over resolv.conf
tslirp_over hosts
umount -l "$tslirp_files/fs" 2>/dev/null
echo "0 0" 2>/dev/null >/proc/sys/net/ipv4/ping_group_range
echo done >&"$tslirp_out"
read -r tslirp_word <&"$tslirp_in" && [ "$tslirp_word" = go ] || exit 1
eval "$tslirp_close"
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
  const fields = processFields(process.pid);
  return fields[2] === fields[5];
}

/** As a shell has it, of a status as wait(2) has it. */
export function exitStatus(status: number): number {
  const signal = status & 0x7f;
  return signal === 0 ? (status >> 8) & 0xff : 128 + signal;
}

/** Two descriptors of one digit, which is all that a shell can write, that the command was not to have. */
function freeDigits(taken: readonly number[]): [number, number] {
  const [first, second] = [3, 4, 5, 6, 7, 8, 9].filter((fd) => !taken.includes(fd));
  if (first === undefined || second === undefined)
    throw new CommandError('of descriptors 3 to 9 at least two must be free for the start of the command', 1);
  return [first, second];
}

/** A command in namespaces of its own, that waits for its network. */
export interface GuestCommand {
  /** Resolves with its number when the namespaces exist and the command waits in them; rejects when it comes to nothing. */
  readonly present: Promise<number>;
  /** Resolves when the command has all but its network. */
  readonly prepared: Promise<void>;
  /** The exit status for us to end with. */
  readonly ended: Promise<number>;
  /** Let the command begin. */
  go(): void;
  /** Ask the command to end, and see to it that it does. */
  terminate(): void;
}

export class RunCommand implements GuestCommand {
  readonly present: Promise<number>;
  /** It has taken its copies of our files. */
  readonly prepared: Promise<void>;
  readonly ended: Promise<number>;
  private running = true;

  /** Throws a CommandError, or with one line. */
  constructor(config: Config, target: RunTarget) {
    const [program = ''] = target.command;
    checkCommand(program);
    const { addresses, dns, dnsSearch } = config.guest;
    const files = writeGuestFiles(addresses, dns, dnsSearch);
    const removeFiles = (): void => files.remove();
    process.on('exit', removeFiles);
    const present = deferred<number>();
    const prepared = deferred<void>();
    const ended = deferred<number>();
    this.present = present.promise;
    this.prepared = prepared.promise;
    this.ended = ended.promise;
    // Whoever waits for the end hears of it there.
    this.present.catch(() => undefined);

    let said = '';
    const report = (text: string): void => {
      said += text;
      const [, fault] = /^fault (.*)$/m.exec(said) ?? [];
      if (fault !== undefined) present.reject(new Error(explainNamespaceFault(fault)));
      const [, pid] = /^there (\d+)$/m.exec(said) ?? [];
      if (pid !== undefined) present.resolve(Number(pid));
      if (!/^done$/m.test(said)) return;
      removeFiles();
      process.removeListener('exit', removeFiles);
      prepared.resolve();
    };
    // Descriptors meant for us must not stay open in the command.
    const ours = ownDescriptors(config.process).filter((fd) => fd >= 3);
    const [goFd, reportFd] = freeDigits(openDescriptors.filter((fd) => !ours.includes(fd)));
    const close = [goFd, reportFd, ...closedStreams].map((fd) => `exec ${fd}>&-`).join('\n');
    const start = [
      'sh',
      '-c',
      SCRIPT,
      'tslirp',
      files.directory,
      process.cwd(),
      String(goFd),
      String(reportFd),
      close,
    ];
    // Those of our own command line may be too long for an order.
    const { length } = target.command;
    const areOurs = process.argv.slice(-length).join('\0') === target.command.join('\0');
    const words = areOurs ? start : [...start, ...target.command];
    orderCommand(
      { goFd, reportFd, close: ours, mapsAll: target.mapAuto, words, ownWords: areOurs ? length : 0 },
      {
        report,
        ended: (status) => {
          this.running = false;
          present.reject(new Error('the command ended before its network was there'));
          ended.resolve(exitStatus(status));
        },
      },
    );
    removeUnlessBegun(files.directory);
    for (const signal of SIGNALS) {
      // By which a snapshot is asked for.
      if (signal === 'SIGUSR1' && isWanted(config.process.events)) continue;
      onSignal(signal, () => this.passOn(signal));
    }
  }

  go(): void {
    letCommandGo();
  }

  terminate(): void {
    this.signal('SIGTERM');
    setTimeout(() => this.signal('SIGKILL'), KILL_AFTER_MS).unref();
  }

  private signal(signal: NodeJS.Signals): void {
    if (this.running) signalCommand(osConstants.signals[signal]);
  }

  private passOn(signal: NodeJS.Signals): void {
    if ((signal === 'SIGINT' || signal === 'SIGQUIT') && isForeground()) return;
    this.signal(signal);
  }
}

export interface Deferred<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

export function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>['resolve'] = () => undefined;
  let reject: Deferred<T>['reject'] = () => undefined;
  const promise = new Promise<T>((settle, fail) => {
    resolve = settle;
    reject = fail;
  });
  return { promise, resolve, reject };
}
