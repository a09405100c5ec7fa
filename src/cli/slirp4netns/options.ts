/**
 * The command line of `slirp4netns`: its options, in which order they are looked at, and what is printed meanwhile. The
 * order is the original's, because only the first thing that is wrong is told.
 */
import { lstatSync } from 'node:fs';
import { errnoTextOf } from '../../control/errno-text.ts';
import { Getopt, GetoptError, type OptionRule } from './getopt.ts';
import { usage, versionText, warnings } from './texts.ts';
import { wholeNumber } from './values.ts';

/** Largest MTU of a TAP. */
const MTU_MAX = 65521;
const MTU_DEFAULT = 1500;
/** Longest interface name in bytes; the rest of the word is cut off. */
const INTERFACE_NAME_MAX = 15;

function flag(long: string, short = ''): OptionRule {
  return { long, short, hasArgument: false };
}

function valued(long: string, short = ''): OptionRule {
  return { long, short, hasArgument: true };
}

/** In the original's order, which shows in what an ambiguous abbreviation is answered with. */
const rules: readonly OptionRule[] = [
  flag('configure', 'c'),
  valued('exit-fd', 'e'),
  valued('ready-fd', 'r'),
  valued('mtu', 'm'),
  valued('cidr'),
  flag('disable-host-loopback'),
  flag('no-host-loopback'),
  valued('netns-type'),
  valued('userns-path'),
  valued('api-socket', 'a'),
  flag('enable-ipv6', '6'),
  flag('enable-sandbox'),
  flag('create-sandbox'),
  flag('enable-seccomp'),
  flag('help', 'h'),
  flag('version', 'v'),
  valued('outbound-addr'),
  valued('outbound-addr6'),
  flag('disable-dns'),
  valued('macaddress'),
  valued('target-type'),
  { ...flag('print-config'), exactOnly: true },
];

/** A command line that is well-formed; values that need more than a look are still text. */
export interface Options {
  configure: boolean;
  exitFd: number;
  readyFd: number;
  mtu: number;
  ipv6: boolean;
  apiSocket: string;
  cidr: string;
  disableHostLoopback: boolean;
  disableDns: boolean;
  usernsPath: string;
  sandbox: boolean;
  seccomp: boolean;
  /** Empty = not given. */
  outbound4: string;
  outbound6: string;
  mac: string;
  target: Target;
  tapName: string;
  /** Ours alone. */
  printConfig: boolean;
}

export type Target =
  | { kind: 'pid'; pid: number }
  | { kind: 'path'; path: string }
  | { kind: 'tapfd'; fd: number }
  | { kind: 'bess'; path: string };

/** What is to be printed, and either options to go on with or an exit status. */
export interface Parsed {
  stdout: string;
  stderr: string;
  options: Options | undefined;
  status: number;
}

/** Leaves the reading with a line for standard error (may be empty) and the usage text on standard output. */
class Refusal extends Error {}

interface Raw {
  options: Options;
  netnsType: string;
  targetType: string;
}

/** @param program name in error texts and in the usage line */
export function parseOptions(args: readonly string[], program: string, release: string): Parsed {
  const raw: Raw = {
    options: {
      configure: false,
      exitFd: -1,
      readyFd: -1,
      mtu: MTU_DEFAULT,
      ipv6: false,
      apiSocket: '',
      cidr: '',
      disableHostLoopback: false,
      disableDns: false,
      usernsPath: '',
      sandbox: false,
      seccomp: false,
      outbound4: '',
      outbound6: '',
      mac: '',
      target: { kind: 'pid', pid: 0 },
      tapName: '',
      printConfig: false,
    },
    netnsType: '',
    targetType: '',
  };
  let stdout = '';
  const say = (text: string): void => {
    stdout += text;
  };
  const getopt = new Getopt(program, rules, args);
  try {
    for (let found = getopt.next(); found !== undefined; found = getopt.next()) {
      const { long } = found.rule;
      if (long === 'help' || long === 'version') {
        say(long === 'help' ? usage(program) : versionText(release));
        return { stdout, stderr: '', options: undefined, status: 0 };
      }
      take(raw, long, found.argument, say);
    }
    complete(raw, getopt.operands, say);
    return { stdout, stderr: '', options: raw.options, status: 0 };
  } catch (error) {
    if (!(error instanceof Refusal) && !(error instanceof GetoptError)) throw error;
    const stderr = error.message === '' ? '' : `${error.message}\n`;
    return { stdout: stdout + usage(program), stderr, options: undefined, status: 1 };
  }
}

function take(raw: Raw, name: string, value: string, say: (text: string) => void): void {
  const { options } = raw;
  switch (name) {
    case 'configure':
      options.configure = true;
      break;
    case 'exit-fd':
      options.exitFd = descriptor(name, value);
      break;
    case 'ready-fd':
      options.readyFd = descriptor(name, value);
      break;
    case 'mtu':
      options.mtu = wholeNumber(value);
      if (!(options.mtu >= 1 && options.mtu <= MTU_MAX))
        throw new Refusal('MTU must be a positive integer (< 65522)');
      break;
    case 'cidr':
      options.cidr = value;
      break;
    case 'no-host-loopback':
      say(warnings.deprecated(name, 'disable-host-loopback'));
      options.disableHostLoopback = true;
      break;
    case 'disable-host-loopback':
      options.disableHostLoopback = true;
      break;
    case 'netns-type':
      raw.netnsType = value;
      break;
    case 'userns-path':
      if (missing(value) !== '') throw new Refusal(`userns path doesn't exist: ${value}`);
      options.usernsPath = value;
      break;
    case 'api-socket':
      options.apiSocket = value;
      break;
    case 'enable-ipv6':
      say(warnings.ipv6);
      options.ipv6 = true;
      break;
    case 'create-sandbox':
      say(warnings.deprecated(name, 'enable-sandbox'));
      options.sandbox = true;
      break;
    case 'enable-sandbox':
      options.sandbox = true;
      break;
    case 'enable-seccomp':
      say(warnings.seccomp);
      options.seccomp = true;
      break;
    case 'outbound-addr':
      say(warnings.outbound4);
      options.outbound4 = value;
      break;
    case 'outbound-addr6':
      say(warnings.outbound6);
      options.outbound6 = value;
      break;
    case 'disable-dns':
      options.disableDns = true;
      break;
    case 'macaddress':
      options.mac = value;
      break;
    case 'print-config':
      options.printConfig = true;
      break;
    case 'target-type':
      raw.targetType = value;
      break;
    default:
      throw new Error(`option --${name} is in the table but not read`);
  }
}

function descriptor(name: string, text: string): number {
  // strtol(3) makes 0 of no text at all.
  const fd = text === '' ? 0 : wholeNumber(text);
  if (!(fd >= 0 && fd < 2 ** 31)) throw new Refusal(`${name} must be a non-negative integer`);
  return fd;
}

/** What access(2) says against `path`; empty = it is there. */
function missing(path: string): string {
  try {
    // Not what it leads to: that may be out of our reach, and yet not of the process that opens it for us.
    lstatSync(path);
    return '';
  } catch (error) {
    return errnoTextOf(error);
  }
}

function complete(raw: Raw, operands: readonly string[], say: (text: string) => void): void {
  const { options } = raw;
  if (options.mac !== '' && !options.configure)
    throw new Refusal('--macaddr cannot be specified when --configure or -c is not specified');
  switch (raw.targetType) {
    case '':
    case 'netns':
      options.target = namespaceTarget(raw, operands, say);
      break;
    case 'bess':
      options.target = bessTarget(raw, operands, say);
      break;
    default:
      throw new Refusal('--target-type must be either "netns" or "bess"');
  }
}

function namespaceTarget(raw: Raw, operands: readonly string[], say: (text: string) => void): Target {
  const { options, netnsType } = raw;
  const [target, tapName = ''] = operands;
  const wanted = netnsType === 'tapfd' ? 1 : 2;
  if (target === undefined || operands.length < wanted) throw new Refusal('');
  if (operands.length > 2) say(warnings.tooMany);
  options.tapName = Buffer.from(tapName).subarray(0, INTERFACE_NAME_MAX).toString();
  switch (netnsType) {
    case '':
    case 'pid': {
      const pid = wholeNumber(target);
      if (!(pid > 0 && pid < 2 ** 31)) throw new Refusal('PID must be a positive integer');
      return { kind: 'pid', pid };
    }
    case 'tapfd': {
      const fd = wholeNumber(target);
      if (!(fd >= 0 && fd < 2 ** 31)) throw new Refusal('TAPFD must a file descriptor');
      return { kind: 'tapfd', fd };
    }
    default: {
      const reason = missing(target);
      if (reason !== '') throw new Refusal(`existing path expected when --netns-type=path: ${reason}`);
      return { kind: 'path', path: target };
    }
  }
}

function bessTarget(raw: Raw, operands: readonly string[], say: (text: string) => void): Target {
  const { options, netnsType } = raw;
  const [path] = operands;
  if (path === undefined) throw new Refusal('');
  if (operands.length > 1) throw new Refusal('too many arguments');
  if (options.configure) throw new Refusal('--configure conflicts with --target-type=bess');
  if (netnsType !== '') throw new Refusal('--netns-type conflicts with --target-type=bess');
  if (options.usernsPath !== '') throw new Refusal('--userns-path conflicts with --target-type=bess');
  say(warnings.bess);
  return { kind: 'bess', path };
}
