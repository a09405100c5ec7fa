/**
 * Opening, inside a network namespace, what the data plane needs from there: the TUN/TAP driver, a netlink socket and the
 * directory of the IPv6 settings. All three stay those of the namespace they were opened in, wherever they are used.
 *
 * A process with threads cannot enter a user namespace (setns(2)). So nsenter(1) enters, and becomes a perl of a few lines
 * that opens, says the numbers, and waits until the data plane has taken the descriptors over with pidfd_getfd(2). Perl,
 * because it is there on every Debian (perl-base is essential), starts in 2 ms and knows socket(2) and errno; a shell
 * cannot make a socket while no interface is up, and another Node would take longer than everything else together.
 *
 * The namespace files are opened here first and handed to nsenter as descriptors. So what is entered is what was looked
 * at: a process number that is reused in between (setns(2) knows only names and descriptors) is noticed by its start time.
 */
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import type { NamespaceDescriptors } from '../config.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import { askKeeper, identity, isConfined, releaseKeeper } from './launcher.ts';
import { type NamespaceRef, processStartTime } from './namespace.ts';

/** Descriptors opened in a namespace, held by a child process until `release`. */
export interface HeldDescriptors {
  descriptors: NamespaceDescriptors;
  /** Resolves when the helper has ended: an interface lives as long as the last descriptor attached to it. */
  release: () => Promise<void>;
}

/**
 * Prints `open TUN NETLINK SETTINGS` (-1 = none) or `STEP ERRNO`. 2050 is O_RDWR | O_NONBLOCK; 16, 3, 0 are AF_NETLINK,
 * SOCK_RAW, NETLINK_ROUTE.
 */
const PROGRAM = `
$| = 1;
sub fail { print "$_[0] ", $! + 0, "\\n"; exit }
sysopen TUN, "/dev/net/tun", 2050 or fail("tun");
socket NETLINK, 16, 3, 0 or fail("netlink");
$settings = sysopen(SETTINGS, "/proc/sys/net/ipv6/conf", 0) ? fileno SETTINGS : -1;
print "open ", fileno TUN, " ", fileno NETLINK, " $settings\\n";
<STDIN>;
`;

/** What setns(2) says of such a file. */
const EINVAL = 22;
const TIMEOUT_MS = 10000;
const OUTPUT_MAX = 64 * 1024;
const NSFS_MAGIC = 0x6e736673;

function openNamespace(path: string, kind: string): number {
  try {
    const fd = openSync(path, 'r');
    if (statfsSync(path).type === NSFS_MAGIC) return fd;
    closeSync(fd);
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    throw new DeviceError('namespace', -errno, `the ${kind} namespace ${path} cannot be opened: ${code}`);
  }
  throw new DeviceError('namespace', EINVAL, `${path} is not a ${kind} namespace`);
}

function sameFile(a: string, b: string): boolean {
  const first = statSync(a);
  const second = statSync(b);
  return first.dev === second.dev && first.ino === second.ino;
}

/**
 * nsenter becomes root inside the user namespace, as root may. For everybody else, and for a root that may not drop its
 * groups (no capability, or setgroups "deny"), the identity is kept: the owner of the namespace is root in there already.
 */
function keepsCredentials(): boolean {
  if (process.geteuid?.() !== 0 || isConfined) return true;
  try {
    return readFileSync('/proc/self/setgroups', 'latin1').startsWith('deny');
  } catch {
    return false;
  }
}

/** Rejects with a DeviceError. */
export function openInNamespace(namespace: NamespaceRef): Promise<HeldDescriptors> {
  const fds: number[] = [];
  const enter: string[] = [];
  try {
    fds.push(openNamespace(namespace.netPath, 'network'));
    // Where we are already there is nothing to enter, and an ordinary user may not.
    if (!sameFile(namespace.netPath, '/proc/self/ns/net')) enter.push('--net=/proc/self/fd/3');
    if (namespace.userPath !== '') {
      fds.push(openNamespace(namespace.userPath, 'user'));
      if (!sameFile(namespace.userPath, '/proc/self/ns/user')) {
        enter.push('--user=/proc/self/fd/4');
        if (keepsCredentials()) enter.push('--preserve-credentials');
      }
    }
    if (namespace.pid !== 0 && processStartTime(namespace.pid) !== namespace.startTime) {
      throw new DeviceError('namespace', 0, `there is no process ${namespace.pid} any more`);
    }
    const kept = takeKept(fds[0] ?? -1);
    return kept === undefined ? startHelper(enter, fds) : Promise.resolve(kept);
  } catch (error) {
    return Promise.reject(error);
  } finally {
    // Ours would keep the namespace alive for as long as we run.
    for (const fd of fds) closeSync(fd);
  }
}

/** What bin/launcher.pl has had opened already, if it was in this very namespace. */
function takeKept(network: number): HeldDescriptors | undefined {
  const kept = askKeeper();
  if (kept === undefined || kept.network !== identity(fstatSync(network))) {
    releaseKeeper();
    return undefined;
  }
  const { pid: holder, tun, netlink, ipv6Settings } = kept;
  return {
    descriptors: { holder, tun, netlink, ipv6Settings },
    release: async () => releaseKeeper(),
  };
}

function explain(step: string, errno: number): DeviceError {
  const [deviceStep, what]: [DeviceStep, string] =
    step === 'tun'
      ? ['tun', '/dev/net/tun cannot be opened for reading and writing']
      : ['namespace', 'no netlink socket in the namespace'];
  return new DeviceError(deviceStep, errno, `${what}: ${getSystemErrorName(-errno)}`);
}

function startHelper(enter: string[], fds: number[]): Promise<HeldDescriptors> {
  const command = ['perl', '-e', PROGRAM];
  const [program = '', ...args] = enter.length === 0 ? command : ['nsenter', ...enter, '--', ...command];
  // What else the environment holds (PERL5OPT, …) is for the programs the user started, not for these.
  const { PATH = '/usr/bin:/bin' } = process.env;
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe', ...fds], env: { PATH, LC_ALL: 'C' } });
  const ended = new Promise<void>((resolve) => {
    child.on('exit', () => resolve());
  });
  return new Promise((resolve, reject) => {
    let output = '';
    let complaint = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    const fail = (error: DeviceError): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(error);
    };
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(new DeviceError('namespace', -(error.errno ?? 0), `${program} cannot be started: ${error.code}`)),
    );
    child.stdin?.on('error', () => undefined);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (complaint.length < OUTPUT_MAX) complaint += text;
    });
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (output.includes('\n') || output.length > OUTPUT_MAX) return;
      output += text;
      const end = output.indexOf('\n');
      if (end < 0) return;
      clearTimeout(timer);
      const [word = '', ...rest] = output.slice(0, end).split(' ');
      const [tun = 0, netlink = -1, ipv6Settings = -1] = rest.map(Number);
      if (word !== 'open') {
        fail(explain(word, tun));
        return;
      }
      resolve({
        descriptors: { holder: child.pid ?? 0, tun, netlink, ipv6Settings },
        release: () => {
          child.kill('SIGKILL');
          return ended;
        },
      });
    });
    child.on('close', (code, signal) => {
      const line = complaint.trim().split('\n')[0] ?? '';
      const reason = line === '' ? `helper ended with ${signal ?? code}` : line;
      fail(new DeviceError('namespace', 0, `the namespace cannot be entered: ${reason}`));
    });
  });
}
