/**
 * The command line of `slirp4netns`: its options, in which order they are looked at, and what is printed meanwhile. The
 * order is the original's, because only the first thing that is wrong is told.
 */
import { lstatSync } from 'node:fs';
import { errnoTextOf } from '../../control/errno-text.ts';
import { Getopt, GetoptError, type OptionRule } from '../getopt.ts';
import { usage, versionText, warnings } from './texts.ts';
import { wholeNumber } from './values.ts';

/** Largest MTU of a TAP. */
const MTU_MAX = 65521;
const MTU_DEFAULT = 1500;
/** Longest interface name in bytes; the rest of the word is cut off. */
const INTERFACE_NAME_MAX = 15;

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

/** As it is while it is read. */
interface Raw extends Options {
  netnsType: string;
  targetType: string;
}

/** One option, and what it does with its value; it may say something on standard output. */
interface Rule extends OptionRule {
  readonly take: (options: Raw, value: string) => string;
}

type Named<T> = { [K in keyof Raw]: Raw[K] extends T ? K : never }[keyof Raw];

/** `said` is printed when it is given. */
function flag(long: string, short: string, name: Named<boolean>, said = ''): Rule {
  const take: Rule['take'] = (options) => {
    options[name] = true;
    return said;
  };
  return { long, short, hasArgument: false, take };
}

function deprecated(long: string, instead: string, name: Named<boolean>): Rule {
  return flag(long, '', name, warnings.deprecated(long, instead));
}

function valued(long: string, short: string, take: Rule['take']): Rule {
  return { long, short, hasArgument: true, take };
}

function text(long: string, short: string, name: Named<string>, said = ''): Rule {
  return valued(long, short, (options, value) => {
    options[name] = value;
    return said;
  });
}

function descriptor(long: string, short: string, name: 'exitFd' | 'readyFd'): Rule {
  return valued(long, short, (options, value) => {
    // strtol(3) makes 0 of no text at all.
    const fd = value === '' ? 0 : wholeNumber(value);
    if (!(fd >= 0 && fd < 2 ** 31)) throw new Refusal(`${long} must be a non-negative integer`);
    options[name] = fd;
    return '';
  });
}

function takeMtu(options: Raw, value: string): string {
  options.mtu = wholeNumber(value);
  if (!(options.mtu >= 1 && options.mtu <= MTU_MAX))
    throw new Refusal('MTU must be a positive integer (< 65522)');
  return '';
}

function takeUserns(options: Raw, value: string): string {
  if (missing(value) !== '') throw new Refusal(`userns path doesn't exist: ${value}`);
  options.usernsPath = value;
  return '';
}

const HELP: Rule = { long: 'help', short: 'h', hasArgument: false, take: () => '' };
const VERSION: Rule = { long: 'version', short: 'v', hasArgument: false, take: () => '' };

/** In the original's order, which shows in what an ambiguous abbreviation is answered with. */
const rules: readonly Rule[] = [
  flag('configure', 'c', 'configure'),
  descriptor('exit-fd', 'e', 'exitFd'),
  descriptor('ready-fd', 'r', 'readyFd'),
  valued('mtu', 'm', takeMtu),
  text('cidr', '', 'cidr'),
  flag('disable-host-loopback', '', 'disableHostLoopback'),
  deprecated('no-host-loopback', 'disable-host-loopback', 'disableHostLoopback'),
  text('netns-type', '', 'netnsType'),
  valued('userns-path', '', takeUserns),
  text('api-socket', 'a', 'apiSocket'),
  flag('enable-ipv6', '6', 'ipv6', warnings.ipv6),
  flag('enable-sandbox', '', 'sandbox'),
  deprecated('create-sandbox', 'enable-sandbox', 'sandbox'),
  flag('enable-seccomp', '', 'seccomp', warnings.seccomp),
  HELP,
  VERSION,
  text('outbound-addr', '', 'outbound4', warnings.outbound4),
  text('outbound-addr6', '', 'outbound6', warnings.outbound6),
  flag('disable-dns', '', 'disableDns'),
  text('macaddress', '', 'mac'),
  text('target-type', '', 'targetType'),
  { ...flag('print-config', '', 'printConfig'), exactOnly: true },
];

/** @param program name in error texts and in the usage line */
export function parseOptions(args: readonly string[], program: string, release: string): Parsed {
  const options: Raw = {
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
      const { rule, argument } = found;
      if (rule === HELP || rule === VERSION) {
        say(rule === HELP ? usage(program) : versionText(release));
        return { stdout, stderr: '', options: undefined, status: 0 };
      }
      say(rule.take(options, argument));
    }
    complete(options, getopt.operands, say);
    return { stdout, stderr: '', options, status: 0 };
  } catch (error) {
    if (!(error instanceof Refusal) && !(error instanceof GetoptError)) throw error;
    const stderr = error.message === '' ? '' : `${error.message}\n`;
    return { stdout: stdout + usage(program), stderr, options: undefined, status: 1 };
  }
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

function complete(options: Raw, operands: readonly string[], say: (text: string) => void): void {
  if (options.mac !== '' && !options.configure)
    throw new Refusal('--macaddr cannot be specified when --configure or -c is not specified');
  switch (options.targetType) {
    case '':
    case 'netns':
      options.target = namespaceTarget(options, operands, say);
      break;
    case 'bess':
      options.target = bessTarget(options, operands, say);
      break;
    default:
      throw new Refusal('--target-type must be either "netns" or "bess"');
  }
}

function namespaceTarget(options: Raw, operands: readonly string[], say: (text: string) => void): Target {
  const { netnsType } = options;
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

function bessTarget(options: Raw, operands: readonly string[], say: (text: string) => void): Target {
  const { netnsType } = options;
  const [path] = operands;
  if (path === undefined) throw new Refusal('');
  if (operands.length > 1) throw new Refusal('too many arguments');
  if (options.configure) throw new Refusal('--configure conflicts with --target-type=bess');
  if (netnsType !== '') throw new Refusal('--netns-type conflicts with --target-type=bess');
  if (options.usernsPath !== '') throw new Refusal('--userns-path conflicts with --target-type=bess');
  say(warnings.bess);
  return { kind: 'bess', path };
}
