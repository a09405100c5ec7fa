/**
 * Entering a namespace to open its TAP: runs the helper program (sys/netns/helper) inside by way of nsenter(1).
 *
 * The namespace files are opened here first and handed to nsenter as descriptors. So what is entered is what was looked
 * at: a process number that is reused in between (setns(2) knows only names and descriptors) is noticed by its start time.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { AddressPlan, Config, DeviceSpec } from '../config.ts';
import { parseIpAddress } from '../stack/wire/address.ts';

/** Which namespaces to enter. */
export interface NamespaceRef {
  netPath: string;
  /** Empty = none. */
  userPath: string;
  /** Process that the paths belong to, or 0, and its start time as /proc tells it. */
  pid: number;
  startTime: string;
}

/** A device opened in a namespace, held by the helper until `release`. */
export interface HeldDevice {
  spec: DeviceSpec;
  /** What could not be had, one sentence each. */
  notes: string[];
  release: () => void;
}

/** What the helper is asked; its other half is in sys/netns/helper, which shares no code with us. */
interface HelperRequest {
  name: string;
  mode: Config['configure'];
  mtu: number;
  defaultMtu: number;
  txQueueLen: number;
  addresses: { address: number[]; prefix: number; gateway: number[] }[];
}

type HelperAnswer = Omit<DeviceSpec, 'holderPid' | 'holderFd' | 'name'> & {
  fd: number;
  notes: string[];
  error?: string;
};

/** MTU of interfaces that we create: the largest a TAP takes, rounded to a multiple of 16 (bytes of IP packet). */
export const DEFAULT_MTU = 65520;
/** A burst of this many packets is not lost while the data plane does something else. */
const TX_QUEUE_LENGTH = 10000;
const HELPER_TIMEOUT_MS = 10000;
const OUTPUT_MAX = 64 * 1024;
const NSFS_MAGIC = 0x6e736673;

/** Field 22 of /proc/PID/stat, or empty when there is no such process or it is only a zombie. */
export function processStartTime(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
  } catch {
    return '';
  }
}

/** Namespaces of a running process. Throws with one line when there is none. */
export function namespaceOfProcess(pid: number, usernsPath = ''): NamespaceRef {
  const startTime = processStartTime(pid);
  if (startTime === '') throw new Error(`there is no process ${pid}`);
  const userPath = usernsPath === '' ? `/proc/${pid}/ns/user` : usernsPath;
  return { netPath: `/proc/${pid}/ns/net`, userPath, pid, startTime };
}

/** Network namespace by file; a /proc/PID/ns/net path means that process, and with `joinOwner` its user namespace. */
export function namespaceOfPath(netPath: string, usernsPath = '', joinOwner = true): NamespaceRef {
  const match = /^\/proc\/(\d+)\/ns\/net$/.exec(netPath);
  if (match !== null) {
    const ofProcess = namespaceOfProcess(Number(match[1]), usernsPath);
    return joinOwner ? ofProcess : { ...ofProcess, userPath: usernsPath };
  }
  return { netPath, userPath: usernsPath, pid: 0, startTime: '' };
}

function openNamespace(path: string, kind: string): number {
  try {
    const fd = openSync(path, 'r');
    if (statfsSync(path).type !== NSFS_MAGIC) {
      closeSync(fd);
      throw new Error(`${path} is not a ${kind} namespace`);
    }
    return fd;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === undefined
      ? error
      : new Error(`the ${kind} namespace ${path} cannot be opened: ${code}`, { cause: error });
  }
}

function sameFile(a: string, b: string): boolean {
  const first = statSync(a);
  const second = statSync(b);
  return first.dev === second.dev && first.ino === second.ino;
}

/**
 * nsenter becomes root inside the user namespace, as root may. For everybody else, and for a root that may not drop its
 * groups (setgroups "deny"), the identity is kept: the owner of the namespace is root in there already.
 */
function keepsCredentials(): boolean {
  if (process.geteuid?.() !== 0) return true;
  try {
    return readFileSync('/proc/self/setgroups', 'latin1').startsWith('deny');
  } catch {
    return false;
  }
}

/** Address text as bytes in network order. */
export function addressBytes(text: string): number[] {
  const { isV4, w0, w1, w2, w3 } = parseIpAddress(text);
  const words = isV4 ? [w3] : [w0, w1, w2, w3];
  return words.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]);
}

function helperRequest(config: Config): HelperRequest {
  const plan: AddressPlan = config.guest.addresses;
  const addresses = [
    { address: addressBytes(plan.guest4), prefix: plan.prefix4, gateway: addressBytes(plan.gateway4) },
  ];
  if (plan.ipv6) {
    addresses.push({
      address: addressBytes(plan.guest6),
      prefix: plan.prefix6,
      gateway: addressBytes(plan.gateway6),
    });
  }
  return {
    name: config.interfaceName,
    mode: config.configure,
    mtu: config.mtu,
    defaultMtu: DEFAULT_MTU,
    txQueueLen: TX_QUEUE_LENGTH,
    addresses,
  };
}

/** Open (and where asked create and configure) the interface. Rejects with one line. */
export function openDevice(namespace: NamespaceRef, config: Config): Promise<HeldDevice> {
  const helper = fileURLToPath(new URL('../sys/netns/helper.js', import.meta.url));
  const fds: number[] = [];
  const args: string[] = [];
  try {
    fds.push(openNamespace(namespace.netPath, 'network'));
    args.push('--net=/proc/self/fd/3');
    if (namespace.userPath !== '') {
      fds.push(openNamespace(namespace.userPath, 'user'));
      if (!sameFile(namespace.userPath, '/proc/self/ns/user')) {
        args.push('--user=/proc/self/fd/4');
        if (keepsCredentials()) args.push('--preserve-credentials');
      }
    }
    if (namespace.pid !== 0 && processStartTime(namespace.pid) !== namespace.startTime) {
      throw new Error(`there is no process ${namespace.pid} any more`);
    }
    args.push('--', process.execPath, helper, JSON.stringify(helperRequest(config)));
    return startHelper(args, fds, config.interfaceName);
  } catch (error) {
    return Promise.reject(error);
  } finally {
    // Ours would keep the namespace alive for as long as we run.
    for (const fd of fds) closeSync(fd);
  }
}

function startHelper(args: string[], fds: number[], name: string): Promise<HeldDevice> {
  // NODE_OPTIONS is for the program the user started, not for this one.
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'pipe', ...fds], env });
  return new Promise((resolve, reject) => {
    let output = '';
    let complaint = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), HELPER_TIMEOUT_MS);
    const fail = (message: string): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(new Error(message));
    };
    child.on('error', (error) => fail(`nsenter cannot be started: ${error.message}`));
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
      const answer = JSON.parse(output.slice(0, end)) as HelperAnswer;
      if (answer.error !== undefined) {
        fail(answer.error);
        return;
      }
      const { fd, notes, ...device } = answer;
      resolve({
        spec: { ...device, name, holderPid: child.pid ?? 0, holderFd: fd },
        notes,
        release: () => child.stdin?.end(),
      });
    });
    child.on('close', (code, signal) => {
      const line = complaint.trim().split('\n')[0] ?? '';
      fail(`the namespace cannot be entered: ${line === '' ? `helper ended with ${signal ?? code}` : line}`);
    });
  });
}
