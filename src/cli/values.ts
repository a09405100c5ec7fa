/**
 * Values of command line options: text in, checked value out. Everything that is wrong with one is a `UsageError` whose
 * message is one line that names the option, what was given and what is accepted.
 */
import {
  accessSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  readdirSync,
  readlinkSync,
  statSync,
} from 'node:fs';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import {
  type AddressPlan,
  type Congestion,
  defaultAddresses,
  type OutputSpec,
  type ProcessConfig,
} from '../config.ts';
import { isHostName } from '../control/names/host-name.ts';
import { formatIpv4, parseIpAddress } from '../stack/wire/address.ts';

/** The command line is not usable; nothing has been started. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly code = 'ERR_USAGE';
}

export function badValue(option: string, given: string, fault: string, accepted: string): UsageError {
  return new UsageError(`option ${option}: ${JSON.stringify(given)} ${fault}; accepted: ${accepted}`);
}

/** RFC 791 §3.1 asks every host to take 576; 65521 is the most that a TAP carries. Bytes of IP packet. */
export const MTU_MIN = 576;
export const MTU_MAX = 65521;
/** RFC 8200 §5. */
export const MTU_MIN_IPV6 = 1280;

/** A decimal number without sign, blanks or leading zeros, or −1. */
export function decimal(text: string): number {
  return /^(0|[1-9]\d{0,9})$/.test(text) ? Number(text) : -1;
}

export function parseMtu(text: string): number {
  const mtu = decimal(text);
  const accepted = `${MTU_MIN} to ${MTU_MAX}, with IPv6 at least ${MTU_MIN_IPV6}`;
  if (mtu < 0) throw badValue('--mtu', text, 'is not a number', accepted);
  if (mtu < MTU_MIN || mtu > MTU_MAX) throw badValue('--mtu', text, 'is out of range', accepted);
  return mtu;
}

const SECONDS_MAX = 65_535;

export function parseSeconds(option: string, text: string): number {
  const seconds = decimal(text);
  if (seconds < 0 || seconds > SECONDS_MAX)
    throw badValue(option, text, 'is no number of seconds', `0 (never) to ${SECONDS_MAX}`);
  return seconds;
}

/** The number of something in a list. */
export function parseNumber(text: string): number {
  const number = decimal(text);
  if (number < 1) throw new UsageError(`${JSON.stringify(text)} is not a number; accepted: 1, 2, …`);
  return number;
}

/** An inherited descriptor. What the runtime itself has open (epoll, eventfd) cannot have been meant. */
/** `said` is what the user has written. */
export function parseFd(option: string, text: string, said: string = text): number {
  const fd = decimal(text);
  const accepted = 'the number of an open descriptor';
  if (fd < 0) throw badValue(option, said, 'is not a descriptor number', accepted);
  try {
    fstatSync(fd);
    if (readlinkSync(`/proc/self/fd/${fd}`).startsWith('anon_inode:[event')) throw new Error('not inherited');
  } catch {
    throw badValue(option, said, 'is not open', accepted);
  }
  return fd;
}

export function parseReadableFile(option: string, text: string): string {
  try {
    accessSync(text, constants.R_OK);
  } catch {
    throw badValue(option, text, 'cannot be read', 'a file');
  }
  return text;
}

/** An inherited descriptor by which bytes come or go. */
export function parseStreamFd(option: string, text: string): number {
  const fd = parseFd(option, text);
  const stat = fstatSync(fd);
  if (stat.isFIFO() || stat.isSocket()) return fd;
  throw badValue(option, text, 'is neither a pipe nor a socket', 'the number of one');
}

const INTERFACE_NAME = /^[A-Za-z0-9_.@-]{1,15}$/;

/** An interface of the host that is there now. */
export function parseHostInterface(option: string, text: string): string {
  if (INTERFACE_NAME.test(text) && existsSync(`/sys/class/net/${text}`)) return text;
  const names = readdirSync('/sys/class/net').join(', ');
  throw badValue(option, text, 'is not an interface of this host', `one of ${names}`);
}

export function parseInterfaceName(text: string, option = '--interface'): string {
  if (text === 'lo')
    throw badValue(option, text, 'is the loopback interface', 'a TAP or TUN device, or a new name');
  // dev_valid_name() of the kernel, and no characters that are awkward in /proc paths.
  if (!INTERFACE_NAME.test(text) || text === '.' || text === '..') {
    throw badValue(
      option,
      text,
      'is not an interface name',
      '1 to 15 letters, digits, "_", "-", "." and "@"',
    );
  }
  return text;
}

export function parseDomain(text: string): string {
  if (text === '.' || isHostName(text)) return text;
  throw badValue(
    '--dns-search',
    text,
    'is not a domain',
    'a name of letters, digits and "-", or "." for none',
  );
}

export function parseDnsServer(text: string): string {
  if (isIP(text) === 0) throw badValue('--dns', text, 'is not an address', 'an IPv4 or IPv6 address');
  return text;
}

export function parseSourceAddress(option: string, text: string, family: 4 | 6): string {
  const accepted = `an IPv${family} address of the host`;
  if (isIP(text) !== family || text.includes('%')) {
    throw badValue(option, text, `is not an IPv${family} address`, accepted);
  }
  const address = parseIpAddress(text);
  // From loopback nothing leads to the outside (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
  if (address.isLoopback || address.isGroup) {
    throw badValue(option, text, 'is no address that others could answer to', accepted);
  }
  return text;
}

export const LOG_LEVELS: readonly ProcessConfig['logLevel'][] = [
  'trace',
  'debug',
  'info',
  'warn',
  'error',
  'fatal',
  'silent',
];

/** One of a few words. */
export function parseChoice<W extends string>(option: string, words: readonly W[], text: string): W {
  const word = words.find((name) => name === text);
  if (word === undefined) throw badValue(option, text, 'is unknown', words.join(', '));
  return word;
}

export const CONGESTIONS: readonly Congestion[] = ['auto', 'none', 'newReno', 'cubic'];

/** The file that stands for it; the capture is then written to the descriptor, whatever that leads to. */
export const STANDARD_OUTPUT = '/dev/stdout';

/** `-` is standard output, as elsewhere. It need not be a file that we could open. */
export function parsePcapPath(text: string): string {
  if (text === '-' || text === STANDARD_OUTPUT) return STANDARD_OUTPUT;
  return parseOutputPath('--pcap', text, 'a file that can be written');
}

/** A file that is there, or may be made where it is to be. */
export function parseOutputPath(option: string, text: string, accepted: string): string {
  if (text === '') throw badValue(option, text, 'is empty', accepted);
  const path = resolve(text);
  const isThere = existsSync(path);
  if (isThere && statSync(path).isDirectory()) throw badValue(option, text, 'is a directory', accepted);
  const directory = dirname(path);
  if (!isThere && !existsSync(directory))
    throw badValue(option, text, 'is in a directory that does not exist', accepted);
  try {
    accessSync(isThere ? path : directory, constants.W_OK);
  } catch {
    throw badValue(option, text, `${isThere ? '' : 'is in a directory that '}cannot be written`, accepted);
  }
  return path;
}

/** `FILE`, `fd:N`, or `-` for standard output. */
export function parseOutput(option: string, text: string): OutputSpec {
  if (text === '-' || text === STANDARD_OUTPUT) return { path: '', fd: 1 };
  if (text.startsWith('fd:')) return { path: '', fd: parseFd(option, text.slice('fd:'.length), text) };
  return { path: parseOutputPath(option, text, 'a file that can be written, or fd:N'), fd: -1 };
}

/** `FILE`, which may come later, or `fd:N`. */
export function parseInput(option: string, text: string): OutputSpec {
  if (text.startsWith('fd:')) return { path: '', fd: parseFd(option, text.slice('fd:'.length), text) };
  const accepted = 'a file that can be read, in a directory that is there, or fd:N';
  const path = resolve(text);
  const isThere = existsSync(path);
  if (text === '' || !existsSync(dirname(path))) throw badValue(option, text, 'is nowhere', accepted);
  if (isThere && statSync(path).isDirectory()) throw badValue(option, text, 'is a directory', accepted);
  try {
    accessSync(isThere ? path : dirname(path), constants.R_OK);
  } catch {
    throw badValue(option, text, 'cannot be read', accepted);
  }
  return { path, fd: -1 };
}

/** A directory of `--out-dir`. */
export function parseDirectory(text: string): string {
  const refuse = (fault: string): UsageError =>
    badValue('--out-dir', text, fault, 'a directory that is there and can be written to');
  if (text === '' || !existsSync(text)) throw refuse('does not exist');
  if (!statSync(text).isDirectory()) throw refuse('is no directory');
  if (resolve(text) === '/') throw refuse('is the root directory');
  try {
    accessSync(text, constants.W_OK | constants.X_OK);
  } catch {
    throw refuse('cannot be written to');
  }
  return resolve(text);
}

/** sun_path of unix(7) holds 108 bytes, the final NUL included. */
export const SOCKET_PATH_MAX = 107;

export function parseSocketPath(text: string): string {
  const path = resolve(text);
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX && text !== '') return path;
  const fault = text === '' ? 'is empty' : `is too long (${Buffer.byteLength(path)} bytes)`;
  throw badValue('--api-socket', text, fault, `a path of at most ${SOCKET_PATH_MAX} bytes`);
}

export function parseExistingPath(option: string, text: string): string {
  // Not what it leads to: a namespace of a process may be out of our reach, and yet not of those who open it for us.
  if (lstatSync(text, { throwIfNoEntry: false }) === undefined) {
    throw badValue(option, text, 'does not exist', 'the file of a namespace, like /proc/PID/ns/user');
  }
  return resolve(text);
}

export type Plan4 = Pick<AddressPlan, 'guest4' | 'prefix4' | 'lease4' | 'gateway4' | 'dns4'>;

/** Who is who in an IPv4 network: gateway +2, DNS +3, guest +100, DHCP from `lease`. */
export function planIn(network: number, prefix4: number, lease: number): Plan4 {
  return {
    guest4: formatIpv4(network + 100),
    prefix4,
    lease4: formatIpv4(network + lease),
    gateway4: formatIpv4(network + 2),
    dns4: formatIpv4(network + 3),
  };
}

const CIDR_ACCEPTED = 'an IPv4 network with prefix length 1 to 25, like 10.0.2.0/24';

/** The address plan in another IPv4 network. */
export function parseCidr(text: string): Plan4 {
  const [address = '', length = '', more] = text.split('/');
  const prefix4 = decimal(length);
  if (isIP(address) !== 4 || prefix4 < 0 || more !== undefined) {
    throw badValue('--cidr', text, 'is not a network', CIDR_ACCEPTED);
  }
  if (prefix4 < 1 || prefix4 > 25)
    throw badValue('--cidr', text, 'has a prefix length out of range', CIDR_ACCEPTED);
  const network = address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
  if (network % 2 ** (32 - prefix4) !== 0) {
    throw badValue('--cidr', text, 'has bits set beyond the prefix', CIDR_ACCEPTED);
  }
  const first = Math.floor(network / 2 ** 24);
  if (first === 0 || first === 127 || first >= 224) {
    throw badValue('--cidr', text, 'is a reserved range (RFC 6890)', CIDR_ACCEPTED);
  }
  return planIn(network, prefix4, 100);
}

const CIDR6_ACCEPTED = 'an IPv6 network with prefix length 64, like fd00::/64';

/** The address plan in another IPv6 network: gateway ::2, DNS ::3, guest ::100. */
export function parseCidr6(text: string): Pick<AddressPlan, 'guest6' | 'prefix6' | 'gateway6' | 'dns6'> {
  const [address = '', length = '', more] = text.split('/');
  if (isIP(address) !== 6 || address.includes('%') || decimal(length) < 0 || more !== undefined) {
    throw badValue('--cidr6', text, 'is not a network', CIDR6_ACCEPTED);
  }
  // RFC 7421: no other length has hosts configure themselves.
  if (length !== '64') throw badValue('--cidr6', text, 'has another prefix length', CIDR6_ACCEPTED);
  const network = parseIpAddress(address);
  if (network.w2 !== 0 || network.w3 !== 0) {
    throw badValue('--cidr6', text, 'has bits set beyond the prefix', CIDR6_ACCEPTED);
  }
  if (network.isUnspecified || network.isMulticast || network.isLinkLocal || network.isV4) {
    throw badValue('--cidr6', text, 'is a reserved range (RFC 6890)', CIDR6_ACCEPTED);
  }
  const host = (number: number): string => network.clone().set(network.w0, network.w1, 0, number).toString();
  return { guest6: host(0x100), prefix6: 64, gateway6: host(2), dns6: host(3) };
}

/** The plan of the guest that comes `index` places behind the first on the same network. */
export function neighborPlan(plan: AddressPlan, index: number): AddressPlan {
  const guest4 = formatIpv4(parseIpAddress(plan.guest4).w3 + index);
  const { w0, w1, w2, w3 } = parseIpAddress(plan.guest6);
  const guest6 = parseIpAddress(plan.guest6)
    .clone()
    .set(w0, w1, w2, w3 + index)
    .toString();
  return { ...plan, guest4, lease4: guest4, guest6 };
}

/** `cidr` and `cidr6` as texts, or not given. */
export function addressPlan(cidr: string | undefined, cidr6: string | undefined, ipv6: boolean): AddressPlan {
  if (cidr6 !== undefined && !ipv6) {
    throw badValue('--cidr6', cidr6, 'has no use with --no-ipv6', 'one of them');
  }
  return {
    ...defaultAddresses,
    ...(cidr === undefined ? {} : parseCidr(cidr)),
    ...(cidr6 === undefined ? {} : parseCidr6(cidr6)),
    ipv6,
  };
}
