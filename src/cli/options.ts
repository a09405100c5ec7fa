/**
 * The command line of `tslirp`: what each option is called, and how the whole becomes a `Config`.
 *
 * Everything is checked here, before anything is started. The one thing left open are host names in rules, which take a
 * look-up: the rules come back beside the configuration.
 */
import { Command, CommanderError, Option } from 'commander';
import {
  type AddressPlan,
  type AttachTarget,
  type Config,
  type Congestion,
  defaultBehavior,
  defaultLimits,
  defaultNames,
  defaultSetup,
  type FlowLogSpec,
  noFlowLog,
} from '../config.ts';
import { parsePrefix } from '../firewall/prefix.ts';
import { type ParsedRule, RuleError } from '../firewall/rule.ts';
import { type Direction, type ForwardRule, ForwardRuleError, parseForwardRule } from './forward-rule.ts';
import { parseRuleList } from './rule.ts';
import {
  addressPlan,
  badValue,
  decimal,
  MTU_MIN_IPV6,
  parseCongestion,
  parseDnsServer,
  parseDomain,
  parseExistingPath,
  parseFd,
  parseFlowLog,
  parseHostInterface,
  parseInterfaceName,
  parseLogLevel,
  parseMtu,
  parsePcapPath,
  parseSocketPath,
  parseSourceAddress,
  UsageError,
} from './values.ts';

/** A request of this many bytes is refused: 1 MiB is the most. */
const API_REQUEST_MAX = 1024 * 1024 + 1;

/** A usable command line. */
export interface Invocation {
  /** Without rules yet: they follow from the other members once names are resolved. */
  config: Config;
  allow: ParsedRule[];
  deny: ParsedRule[];
  forwards: ForwardRule[];
}

/** Help or version, to be printed on standard output. */
export interface Information {
  text: string;
}

interface SharedOptions {
  allow?: ParsedRule[];
  deny?: ParsedRule[];
  localForward: string[];
  remoteForward: string[];
  sourceIpv4?: string;
  sourceIpv6?: string;
  outboundInterface?: string;
  enableRouting?: boolean;
  enableHost?: boolean;
  mtu?: number;
  cidr?: string;
  cidr6?: string;
  ipv6: boolean;
  /** A list, false for --no-dns, or not given. */
  dns?: string[] | false;
  dnsSearch?: string[];
  interface: string;
  configure?: boolean;
  userns?: string;
  fd?: number;
  congestion: Congestion;
  pcap?: string;
  /** Not given: as far as the system has it. */
  sandbox?: boolean;
  apiSocket?: string;
  flowLog?: FlowLogSpec;
  readyFd?: number;
  exitFd?: number;
  logLevel: Config['logLevel'];
}

function ruleOption(name: string): (value: string, previous?: ParsedRule[]) => ParsedRule[] {
  return (value, previous = []) => {
    try {
      return [...previous, ...parseRuleList(value, { strict: true })];
    } catch (error) {
      if (error instanceof RuleError) throw new UsageError(`option ${name}: ${error.message}`);
      throw error;
    }
  };
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

function forwardRules(options: SharedOptions, addresses: AddressPlan): ForwardRule[] {
  const read = (texts: string[], option: string, direction: Direction): ForwardRule[] =>
    texts.flatMap((text) => {
      try {
        return parseForwardRule(text, direction, { strict: true, addresses });
      } catch (error) {
        if (error instanceof ForwardRuleError) throw new UsageError(`option ${option}: ${error.message}`);
        throw error;
      }
    });
  return [
    ...read(options.localForward, '--local-forward', 'local'),
    ...read(options.remoteForward, '--remote-forward', 'remote'),
  ];
}

function addShared(command: Command): Command {
  return command
    .option(
      '--allow <rules>',
      'let the guest reach these, as [tcp|udp|icmp|any://]HOST[:PORTS],…',
      ruleOption('--allow'),
    )
    .option('--deny <rules>', 'never let the guest reach these; stronger than --allow', ruleOption('--deny'))
    .option('--enable-routing', "open all addresses that are not the host's")
    .option('--enable-host', "open the host's addresses and networks")
    .option(
      '-L, --local-forward <rule>',
      'publish a service of the guest on the host (repeatable), as [SCHEME://][BINDIP:]PORT[:GUESTIP:GUESTPORT]',
      collect,
      [],
    )
    .option(
      '-R, --remote-forward <rule>',
      'bring a service of the host to the guest (repeatable), as [SCHEME://][BINDIP:]PORT[:HOST:HOSTPORT]',
      collect,
      [],
    )
    .option('--source-ipv4 <address>', 'source address of host sockets, IPv4', (value) =>
      parseSourceAddress('--source-ipv4', value, 4),
    )
    .option('--source-ipv6 <address>', 'source address of host sockets, IPv6', (value) =>
      parseSourceAddress('--source-ipv6', value, 6),
    )
    .option('--outbound-interface <name>', 'interface that host sockets use, whatever routes say', (value) =>
      parseHostInterface('--outbound-interface', value),
    )
    .option('--mtu <n>', 'MTU in bytes (default: 65520; an existing interface keeps its own)', parseMtu)
    .option('--cidr <net/prefix>', 'IPv4 network: gateway +2, DNS +3, guest +100 (default: 10.0.2.0/24)')
    .option('--cidr6 <net/64>', 'IPv6 network: gateway ::2, DNS ::3, guest ::100 (default: fd00::/64)')
    .option('--ipv6', 'IPv6 as well as IPv4', true)
    .addOption(new Option('--no-ipv6', 'IPv4 only'))
    .option(
      '--dns <address>',
      "DNS server to use instead of the host's (repeatable)",
      (value, previous?: unknown) => [
        ...(Array.isArray(previous) ? (previous as string[]) : []),
        parseDnsServer(value),
      ],
    )
    .option(
      '--dns-search <domain>',
      "domain that the guest completes short names with, instead of the host's (repeatable; . = none)",
      (value, previous: string[] = []) => [...previous, parseDomain(value)],
    )
    .option('--no-dns', 'no DNS service at the DNS addresses')
    .option('--interface <name>', 'interface inside the namespace', parseInterfaceName, 'tap0')
    .addOption(
      new Option('--congestion <name>', 'congestion control towards the guest: auto, none, newReno or cubic')
        .argParser(parseCongestion)
        .default('auto'),
    )
    .option('--pcap <file>', 'write a capture of all packets', parsePcapPath)
    .option('--sandbox', 'fail where the sandbox cannot be had (default: use what the system offers)')
    .option('--no-sandbox', 'keep all rights after the start')
    .option('--api-socket <path>', 'take requests on a unix socket', parseSocketPath)
    .option(
      '--flow-log <file>',
      'write a JSON line for each flow and each refusal to a file, or to descriptor fd:N',
      parseFlowLog,
    )
    .option('--ready-fd <n>', 'write "1" to this descriptor and close it when packets flow', (value) =>
      parseFd('--ready-fd', value),
    )
    .option('--exit-fd <n>', 'end when the other end of this descriptor closes', (value) =>
      parseFd('--exit-fd', value),
    )
    .option('--log-level <level>', 'trace, debug, info, warn, error, fatal or silent', parseLogLevel, 'info')
    .helpOption('-h, --help', 'show this help');
}

function toConfig(options: SharedOptions, target: Config['target']): Invocation {
  const ipv6 = options.ipv6;
  const mtu = options.mtu ?? 0;
  if (ipv6 && mtu !== 0 && mtu < MTU_MIN_IPV6) {
    throw badValue('--mtu', String(mtu), 'is too small for IPv6', `at least ${MTU_MIN_IPV6}, or --no-ipv6`);
  }
  const addresses = addressPlan(options.cidr, options.cidr6, ipv6);
  const networks = [`${addresses.guest4}/${addresses.prefix4}`];
  if (ipv6) networks.push(`${addresses.guest6}/${addresses.prefix6}`);
  const config: Config = {
    guest: {
      addresses,
      policy: {
        enableRouting: options.enableRouting === true,
        enableHost: options.enableHost === true,
        allow: [],
        deny: [],
        guestNetworks: networks.map((text) => {
          const { address, bits } = parsePrefix(text);
          return { address: address.toString(), bits };
        }),
      },
      behavior:
        options.flowLog === undefined
          ? defaultBehavior
          : { ...defaultBehavior, flowEvents: true, denials: 'all' },
      congestion: options.congestion,
      source4: options.sourceIpv4 ?? '',
      source6: options.sourceIpv6 ?? '',
      outboundInterface: options.outboundInterface ?? '',
      dns: options.dns !== false,
      autoconfiguration: true,
      pcapPath: options.pcap ?? '',
      pcapFormat: 'pcap',
    },
    limits: defaultLimits,
    forwards: [],
    names: defaultNames,
    readyFd: options.readyFd ?? -1,
    exitFd: options.exitFd ?? -1,
    exitOnData: true,
    logLevel: options.logLevel,
    interfaceName: options.interface,
    mtu,
    configure: options.configure === undefined ? 'auto' : options.configure ? 'yes' : 'no',
    setup: defaultSetup,
    api: { path: options.apiSocket ?? '', requestMax: API_REQUEST_MAX, echo: false },
    flowLog: options.flowLog ?? noFlowLog,
    sandbox: {
      mountTree: options.sandbox !== false,
      minimal: false,
      seccomp: options.sandbox !== false,
      required: options.sandbox === true,
    },
    dnsSearch: options.dnsSearch === undefined ? null : options.dnsSearch.filter((name) => name !== '.'),
    dnsServers: options.dns === undefined || options.dns === false ? [] : options.dns,
    target,
  };
  return {
    config,
    allow: options.allow ?? [],
    deny: options.deny ?? [],
    forwards: forwardRules(options, addresses),
  };
}

function attachTarget(text: string, usernsPath: string): AttachTarget {
  if (/^\d+$/.test(text)) {
    const pid = decimal(text);
    if (pid < 1)
      throw new UsageError(`${JSON.stringify(text)} is not a process number; accepted: PID or NETNS-PATH`);
    return { kind: 'attach', pid, netnsPath: '', usernsPath };
  }
  return { kind: 'attach', pid: 0, netnsPath: text, usernsPath };
}

/** Reads the arguments after the program's name. @throws UsageError */
export function parseArguments(args: readonly string[], version: string): Invocation | Information {
  let result: Invocation | undefined;
  let text = '';
  const program = new Command('tslirp');
  const output = {
    writeOut: (part: string): void => {
      text += part;
    },
    writeErr: (): void => undefined,
  };
  // Subcommands inherit these two when they are made, so they come first.
  program.exitOverride().configureOutput(output);
  program
    .description('The network of its host for a network namespace, without root')
    .version(version, '--version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
    .enablePositionalOptions();

  addShared(program.command('run'))
    .description('run a command in a new namespace with a network inside; exits as the command does')
    .usage('[options] -- COMMAND…')
    .argument('<command...>', 'the command and its arguments')
    .passThroughOptions()
    .action((command: string[], options: SharedOptions) => {
      result = toConfig(options, { kind: 'run', command });
    });

  addShared(program.command('attach'))
    .description('give a network to a namespace that exists')
    .usage('[options] PID|NETNS-PATH | --fd N')
    .argument('[target]', 'a process number, or the file of a network namespace')
    .option('--fd <n>', 'instead of a namespace: an attached TAP, or a unix packet socket', (value) =>
      parseFd('--fd', value),
    )
    .option('--configure', 'set addresses, routes and MTU (default: when the interface is missing)')
    .option('--no-configure', 'leave the interface as it is')
    .option('--userns <path>', 'user namespace to enter first', (value) =>
      parseExistingPath('--userns', value),
    )
    .allowExcessArguments(false)
    .action((target: string | undefined, options: SharedOptions) => {
      const { fd } = options;
      if (fd !== undefined && target === undefined) {
        result = toConfig(options, { kind: 'descriptor', fd });
        return;
      }
      if (fd !== undefined || target === undefined)
        throw new UsageError(
          'attach takes either a target (PID or NETNS-PATH) or --fd N (see tslirp --help)',
        );
      if (target !== '' && !/^\d+$/.test(target)) parseTargetPath(target);
      result = toConfig(options, attachTarget(target, options.userns ?? ''));
    });

  try {
    program.parse(args as string[], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { text };
    throw new UsageError(explain(error));
  }
  if (result === undefined) throw new UsageError('no subcommand; accepted: run, attach (see tslirp --help)');
  return result;
}

function parseTargetPath(text: string): void {
  try {
    parseExistingPath('', text);
  } catch {
    throw new UsageError(`${JSON.stringify(text)} does not exist; accepted: PID or NETNS-PATH`);
  }
}

/** One line out of what the option parser says in two. */
function explain(error: CommanderError): string {
  if (error.code === 'commander.help') return 'no subcommand; accepted: run, attach (see tslirp --help)';
  const [first = ''] = error.message.replace(/^error: /, '').split('\n');
  return `${first} (see tslirp --help)`;
}
