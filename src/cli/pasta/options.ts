/**
 * The command line of `pasta`: its options, what each does, and what is printed meanwhile. Options are looked at in the order
 * in which they come, and only the first thing that is wrong is told; `--version` and `--help` act at once, which callers use
 * to ask whether there is an option.
 *
 * What help, the manual page and completions say is in the same table.
 */
import { Getopt, GetoptError, type OptionRule } from '../getopt.ts';
import {
  type PastaConfig,
  type PastaFamily,
  type PastaNetwork,
  type PortOption,
  plainConfig,
} from './pasta-config.ts';
import { target } from './target.ts';
import { usage, versionText } from './texts.ts';
import * as values from './values.ts';
import { PastaError } from './values.ts';

/** As it is while it is read. */
interface Reading {
  config: PastaConfig;
  userns: string;
  netns: string;
  netnsOnly: boolean;
  /** `--no-map-gw`. */
  noGatewayMapping: boolean;
  /** `-n` and `-a ADDR/LEN` exclude each other. */
  netmask: boolean;
  addressLength: boolean;
  /** Options that need --config-net. */
  copying: string[];
  warnings: string[];
}

export interface PastaOption extends OptionRule {
  /** Name of its value in help; empty = it has none. */
  readonly value: string;
  /** One line each; none: it is not told of. */
  readonly help: readonly string[];
  readonly take: (reading: Reading, value: string) => void;
}

/** A command line that can be used, or an end. */
export type Parsed =
  | { kind: 'config'; config: PastaConfig; warnings: string[] }
  /** Help or version, for standard output. */
  | { kind: 'text'; text: string }
  /** For standard error; the exit status is 1. */
  | { kind: 'refused'; text: string; warnings: string[] };

function flag(
  long: string,
  short: string,
  help: readonly string[],
  take: (reading: Reading) => void,
): PastaOption {
  return { long, short, hasArgument: false, value: '', help, take };
}

function valued(
  long: string,
  short: string,
  value: string,
  help: readonly string[],
  take: PastaOption['take'],
): PastaOption {
  return { long, short, hasArgument: true, value, help, take };
}

type FlagOf<T> = { [K in keyof T]: T[K] extends boolean ? K : never }[keyof T];

function network(
  long: string,
  short: string,
  name: FlagOf<PastaNetwork>,
  to: boolean,
  ...help: string[]
): PastaOption {
  return flag(long, short, help, ({ config }) => {
    config.network[name] = to;
  });
}

/** Of the family that the address belongs to. */
function familyOf({ network: { ipv4, ipv6 } }: PastaConfig, address: string): PastaFamily {
  return address.includes(':') ? ipv6 : ipv4;
}

function oneFamily({ config: { network: to } }: Reading, name: 'ipv4' | 'ipv6'): void {
  to.ipv4.enabled = name === 'ipv4';
  to.ipv6.enabled = name === 'ipv6';
}

function ports(long: string, option: PortOption, ...help: string[]): PastaOption {
  return valued(long, option.slice(1), 'SPEC', help, ({ config }, text) => {
    config.ports.specs.push({ option, text });
  });
}

function forPasst(long: string, short: string, hasArgument: boolean): PastaOption {
  return {
    ...{ long, short, hasArgument, value: '', help: [] },
    take: () => {
      throw new PastaError(`${short === '' ? `--${long}` : `-${short}`} is for passt mode only`);
    },
  };
}

function remapped(long: string, name: 'mapHostLoopback' | 'mapGuestAddress', ...help: string[]): PastaOption {
  return valued(long, '', 'ADDR', help, ({ config }, text) => {
    const { ipv4, ipv6 } = config.network;
    if (text === 'none') {
      ipv4[name] = 'none';
      ipv6[name] = 'none';
      return;
    }
    const address = values.hostAddress(text, 'Invalid address to remap to host: ', {
      loopback: true,
      multicast: true,
    });
    familyOf(config, address)[name] = address;
  });
}

function takeAddress(reading: Reading, text: string): void {
  const { address, prefixLength } = values.guestAddress(text);
  const family = familyOf(reading.config, address);
  family.address = address;
  if (prefixLength === 0) return;
  reading.addressLength = true;
  // The mask of -n is IPv4's alone.
  if (reading.netmask) throw new PastaError('Redundant prefix length specification');
  family.prefixLength = prefixLength;
}

function takeNetmask(reading: Reading, text: string): void {
  reading.config.network.ipv4.prefixLength = values.prefixLength(text);
  reading.netmask = true;
  if (reading.addressLength) throw new PastaError('Redundant prefix length specification');
}

function takeGateway({ config }: Reading, text: string): void {
  const gateway = values.hostAddress(text, 'Invalid gateway address: ', { loopback: true, multicast: true });
  familyOf(config, gateway).gateway = gateway;
}

function takeOutbound({ config }: Reading, text: string): void {
  const complaint = 'Invalid or redundant outbound address: ';
  const address = values.hostAddress(text, complaint, { multicast: true });
  const family = familyOf(config, address);
  if (family.outbound !== '') throw new PastaError(`${complaint}${text}`);
  family.outbound = address;
}

function takeDns({ config: { network: to } }: Reading, text: string): void {
  if (text === 'none') to.dns = [];
  else to.dns = [...(to.dns ?? []), values.hostAddress(text, 'Cannot use DNS address ')];
}

function takeSearch({ config: { network: to } }: Reading, text: string): void {
  if (text === 'none') {
    to.search = [];
    return;
  }
  const domains = text.split(/\s+/).filter((word) => word !== '');
  if (domains.length === 0) throw new PastaError(`Cannot use DNS search domain ${text}`);
  for (const domain of domains) values.domainName(domain, 'Cannot use DNS search domain ');
  to.search = [...(to.search ?? []), ...domains];
}

function takeStats({ config }: Reading, text: string): void {
  if (!config.foreground) throw new PastaError("Can't display statistics if not running in foreground");
  config.statsSeconds = values.seconds(text);
}

function dropped(long: string, take: (reading: Reading) => void): PastaOption {
  return flag(long, '', ['deprecated, with --config-net'], (reading) => {
    reading.warnings.push(`--${long} will be dropped soon`);
    reading.copying.push(long);
    take(reading);
  });
}

const HELP = flag('help', 'h', ['Display this help and exit'], () => undefined);
const VERSION = flag('version', '', ['Show version and exit'], () => undefined);

/** In the order of the help. */
export const OPTIONS: readonly PastaOption[] = [
  flag('debug', 'd', ['Be verbose'], ({ config }) => {
    config.verbosity = 'debug';
  }),
  flag('trace', '', ['Be extra verbose, implies --debug'], ({ config }) => {
    config.verbosity = 'trace';
  }),
  valued(
    'stats',
    '',
    'DELAY',
    ['Display counters, every DELAY seconds at most', 'needs --foreground in front of it'],
    takeStats,
  ),
  flag('quiet', 'q', ["Don't print informational messages"], ({ config }) => {
    config.verbosity = 'quiet';
  }),
  flag('foreground', 'f', ["Don't run in background"], ({ config }) => {
    config.foreground = true;
  }),
  flag('stderr', 'e', ['no effect, deprecated'], ({ warnings }) => {
    warnings.push('--stderr will be dropped soon');
  }),
  valued('log-file', 'l', 'PATH', ['Log (only) to this file'], ({ config }, text) => {
    config.logFile = values.path('--log-file', text);
  }),
  valued('log-size', '', 'BYTES', ['Maximum size of the log file', 'default: 1 MiB'], ({ config }, text) => {
    config.logSize = values.logSize(text);
  }),
  valued(
    'runas',
    '',
    'UID[:GID]',
    ['Run as this user and group, numbers or names', 'default, for root: nobody'],
    ({ config }, text) => {
      if (!/^[^:]+(:[^:]+)?$/.test(text)) throw new PastaError(`Invalid --runas option: ${text}`);
      config.runAs = text;
    },
  ),
  valued('conf-path', 'c', 'PATH', ['Socket by which pesto changes forwards'], ({ config }, text) => {
    config.ports.controlPath = values.path('--conf-path', text);
  }),
  HELP,
  VERSION,
  valued(
    'ns-ifname',
    'I',
    'NAME',
    ['Name of the interface in the namespace', "default: the template's"],
    ({ config }, text) => {
      config.network.name = values.interfaceName(text);
    },
  ),
  valued('fd', 'F', 'FD', ['Use FD, an attached TAP, instead of making one'], ({ config }, text) => {
    config.fd = values.descriptor(text);
  }),
  valued('pcap', 'p', 'FILE', ['Capture what passes the TAP to this file'], ({ config }, text) => {
    config.pcapPath = values.path('--pcap', text);
  }),
  valued('pid', 'P', 'FILE', ['Write own PID to this file'], ({ config }, text) => {
    config.pidFile = values.path('--pid', text);
  }),
  valued(
    'mtu',
    'm',
    'MTU',
    ['Set and announce this MTU; 0: neither', 'default: 65520'],
    ({ config }, text) => {
      config.network.mtu = values.mtu(text);
    },
  ),
  valued(
    'address',
    'a',
    'ADDR[/LEN]',
    ["The guest's address, once for IPv4 and IPv6", 'default: those of the template interface'],
    takeAddress,
  ),
  valued(
    'netmask',
    'n',
    'MASK',
    ['IPv4 mask, dotted or in bits', 'default: of the matching address on the host'],
    takeNetmask,
  ),
  valued(
    'mac-addr',
    'M',
    'MAC',
    ['MAC address of the gateway', 'default: 9a:55:9a:55:9a:55'],
    ({ config }, text) => {
      config.network.mac = values.macAddress(text);
    },
  ),
  valued(
    'gateway',
    'g',
    'ADDR',
    ['Gateway, once for IPv4 and IPv6', 'default: that of the template interface'],
    takeGateway,
  ),
  valued(
    'interface',
    'i',
    'NAME',
    ['Template interface, for addresses and routes', 'default: that of the first default route'],
    ({ config }, text) => {
      config.network.template = values.hostInterface(text);
    },
  ),
  valued(
    'outbound',
    'o',
    'ADDR',
    ['Source address of outbound sockets', 'default: as the routes have it'],
    takeOutbound,
  ),
  valued('outbound-if4', '', 'NAME', ['Interface of outbound IPv4 sockets'], ({ config }, text) => {
    config.network.ipv4.outboundInterface = values.hostInterface(text);
  }),
  valued('outbound-if6', '', 'NAME', ['Interface of outbound IPv6 sockets'], ({ config }, text) => {
    config.network.ipv6.outboundInterface = values.hostInterface(text);
  }),
  valued(
    'dns',
    'D',
    'ADDR',
    [
      'Name server to announce, several times',
      '"none": nothing about DNS',
      'default: those of /etc/resolv.conf',
    ],
    takeDns,
  ),
  valued(
    'search',
    'S',
    'LIST',
    ['Search domains to announce, several times', '"none": none', 'default: those of /etc/resolv.conf'],
    takeSearch,
  ),
  valued('hostname', 'H', 'NAME', ['Hostname of the guest'], ({ config }, text) => {
    config.network.hostname = values.hostName(text);
  }),
  valued('fqdn', '', 'NAME', ["Guest's domain name, by DHCP"], ({ config }, text) => {
    config.network.fqdn = values.domainName(text, 'Invalid FQDN: ');
  }),
  network('dhcp-dns', '', 'dhcpDns', true, 'Announce name servers by DHCP, DHCPv6, NDP'),
  network('dhcp-search', '', 'dhcpSearch', true, 'Announce search domains by DHCP, DHCPv6, NDP'),
  remapped(
    'map-host-loopback',
    'mapHostLoopback',
    "Address that leads to the host's loopback",
    '"none": nothing does',
    'default: the gateway',
  ),
  remapped(
    'map-guest-addr',
    'mapGuestAddress',
    "Address that leads to the guest's address on the host",
    '"none", which is the default: nothing does',
  ),
  valued('dns-forward', '', 'ADDR', ['Forward DNS queries sent to this address'], ({ config }, text) => {
    const address = values.hostAddress(text, 'Invalid DNS forwarding address: ', { loopback: true });
    familyOf(config, address).dnsForward = address;
  }),
  valued(
    'dns-host',
    '',
    'ADDR',
    ['Name server that they are forwarded to', 'default: the first of /etc/resolv.conf'],
    ({ config }, text) => {
      const address = values.hostAddress(text, 'Invalid host nameserver address: ');
      familyOf(config, address).dnsHost = address;
    },
  ),
  network('no-tcp', '', 'tcp', false, 'No TCP'),
  network('no-udp', '', 'udp', false, 'No UDP'),
  flag('no-icmp', '', ['No ICMP, no ICMPv6'], ({ config }) => {
    config.network.icmp = false;
    config.network.ndp = false;
  }),
  network('no-dhcp', '', 'dhcp', false, 'No DHCP server'),
  network('no-ndp', '', 'ndp', false, 'No NDP responses'),
  network('no-dhcpv6', '', 'dhcpv6', false, 'No DHCPv6 server'),
  network('no-ra', '', 'ra', false, 'No router advertisements'),
  flag('freebind', '', ["Listen on addresses that the host doesn't have"], ({ config }) => {
    config.ports.freebind = true;
  }),
  flag('no-map-gw', '', ["The gateway's address doesn't lead to the host"], (reading) => {
    reading.noGatewayMapping = true;
  }),
  flag('ipv4-only', '4', ['IPv4 only'], (reading) => oneFamily(reading, 'ipv4')),
  flag('ipv6-only', '6', ['IPv6 only'], (reading) => oneFamily(reading, 'ipv6')),
  ports('tcp-ports', '-t', 'TCP ports of the host that lead to the guest', 'several times; default: auto'),
  ports('udp-ports', '-u', 'UDP ports of the host that lead to the guest', 'several times; default: auto'),
  ports(
    'tcp-ns',
    '-T',
    "TCP ports of the guest's loopback that lead to the host",
    'several times; default: auto',
  ),
  ports(
    'udp-ns',
    '-U',
    "UDP ports of the guest's loopback that lead to the host",
    'several times; default: auto',
  ),
  flag('host-lo-to-ns-lo', '', ["Clients of the host's loopback come to the guest's"], ({ config }) => {
    config.ports.loopbackToLoopback = true;
  }),
  flag('no-splice', '', ["Clients of the host's loopback come by the TAP"], ({ config }) => {
    config.ports.splice = false;
  }),
  flag('splice-only', '', ['No TAP, only loopback ports are forwarded'], ({ config }) => {
    config.spliceOnly = true;
  }),
  valued('userns', '', 'PATH', ['User namespace to join'], (reading, text) => {
    if (reading.netnsOnly) throw new PastaError('Both --userns and --netns-only given');
    reading.userns = values.path('userns', text);
  }),
  valued(
    'netns',
    '',
    'PATH|NAME',
    ['Network namespace, a file or a name of ip-netns(8)'],
    (reading, text) => {
      reading.netns = values.path('netns', text);
    },
  ),
  flag(
    'netns-only',
    '',
    ["Don't join or make a user namespace", 'implied by --netns without --userns'],
    (reading) => {
      if (reading.userns !== '') throw new PastaError('Both --userns and --netns-only given');
      reading.netnsOnly = true;
    },
  ),
  flag('no-netns-quit', '', ["Don't quit when the namespace is gone"], ({ config }) => {
    config.quitsWithNamespace = false;
  }),
  network('config-net', '', 'configure', true, 'Set addresses and routes in the namespace'),
  dropped('no-copy-routes', ({ config }) => {
    config.network.copyRoutes = false;
  }),
  dropped('no-copy-addrs', ({ config }) => {
    config.network.copyAddresses = false;
  }),
  valued('ns-mac-addr', '', 'MAC', ["The guest's MAC address"], ({ config }, text) => {
    config.network.guestMac = values.macAddress(text);
  }),
  flag('chroot-fallback', '', ['no effect'], () => undefined),
  forPasst('socket', 's', true),
  forPasst('vhost-user', '', false),
  forPasst('print-capabilities', '', false),
  forPasst('repair-path', '', true),
  forPasst('one-off', '1', false),
  forPasst('no-dhcp-dns', '', false),
  forPasst('no-dhcp-search', '', false),
];

/** What can only be told of the whole. */
function complete(reading: Reading, operands: readonly string[]): void {
  const { config, copying } = reading;
  const { network: net, ports: forwarded } = config;
  const [copies] = copying;
  if (copies !== undefined && !net.configure) throw new PastaError(`--${copies} needs --config-net`);
  if (config.spliceOnly) {
    forwarded.loopbackToLoopback = true;
    net.icmp = false;
  }
  if (forwarded.loopbackToLoopback && !forwarded.splice)
    throw new PastaError('--host-lo-to-ns-lo is incompatible with --no-splice');
  if (net.configure) net.ra = false;
  for (const family of [net.ipv4, net.ipv6]) {
    if (reading.noGatewayMapping && family.mapHostLoopback === '') family.mapHostLoopback = 'none';
    if (family.mapGuestAddress === 'none') family.mapGuestAddress = '';
    if (net.dns?.length === 0) family.dnsForward = '';
  }
  reading.warnings.push(...values.mtuWarnings(net.mtu, net.ipv4.enabled, net.ipv6.enabled));
  config.target = target(reading, operands);
  if (config.target.kind !== 'command') return;
  config.foreground = true;
  if (config.verbosity === 'normal') config.verbosity = 'quiet';
}

/** @param program name in error texts and in the usage line */
export function parseOptions(args: readonly string[], program: string, release: string): Parsed {
  const config = plainConfig();
  const reading: Reading = {
    ...{ config, userns: '', netns: '', netnsOnly: false, noGatewayMapping: false },
    ...{ netmask: false, addressLength: false, copying: [], warnings: [] },
  };
  const { warnings } = reading;
  const getopt = new Getopt(program, OPTIONS, args, true);
  try {
    for (let found = getopt.next(); found !== undefined; found = getopt.next()) {
      const { rule, argument } = found;
      if (rule === HELP) return { kind: 'text', text: usage(program, OPTIONS) };
      if (rule === VERSION) return { kind: 'text', text: versionText(release) };
      rule.take(reading, argument);
    }
    complete(reading, getopt.operands);
    return { kind: 'config', config, warnings };
  } catch (error) {
    if (error instanceof GetoptError)
      return { kind: 'refused', text: `${error.message}\n${usage(program, OPTIONS)}`, warnings };
    if (error instanceof PastaError) return { kind: 'refused', text: `${error.message}\n`, warnings };
    throw error;
  }
}
