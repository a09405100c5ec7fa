/**
 * What the command line of `tslirp` may hold: commands, arguments and options, with what is said of them. Reading, help, the
 * manual page and completions are all made from this table.
 */
import { Command, Option, type OutputConfiguration } from 'commander';
import type { Congestion, OutputSpec, ProcessConfig } from '../config.ts';
import { type ParsedRule, RuleError } from '../firewall/rule.ts';
import { parseAutoForward, parseLoopback } from './auto-forward.ts';
import { linkForms } from './link-spec.ts';
import type { PublishOptions } from './publishing.ts';
import { parseRuleList } from './rule.ts';
import {
  CONGESTIONS,
  LOG_LEVELS,
  parseChoice,
  parseDirectory,
  parseDnsServer,
  parseDomain,
  parseExistingPath,
  parseFd,
  parseHostInterface,
  parseInput,
  parseInterfaceName,
  parseMtu,
  parseNumber,
  parseOutput,
  parsePcapPath,
  parseReadableFile,
  parseSeconds,
  parseSocketPath,
  parseSourceAddress,
  parseStreamFd,
  UsageError,
} from './values.ts';

const DAEMON_LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal'] as const;

type DaemonLogLevel = (typeof DAEMON_LOG_LEVELS)[number];

/** Options of `run`, `attach` and `serve`, as they were read. */
export interface ServeOptions extends PublishOptions {
  /** The long names of those that were given. */
  given: ReadonlySet<string>;
  allow?: ParsedRule[];
  deny?: ParsedRule[];
  localForward?: string[];
  remoteForward?: string[];
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
  interface?: string;
  configure?: boolean;
  userns?: string;
  mapAuto?: boolean;
  fd?: number;
  link?: string[];
  oneOff?: boolean;
  insecureKeyFile?: boolean;
  insecureTunnel?: boolean;
  congestion: Congestion;
  /** True: in `outDir`. */
  pcap?: string | true;
  /** Not given: as far as the system has it. */
  sandbox?: boolean;
  apiSocket?: string;
  flowLog?: OutputSpec;
  events?: OutputSpec;
  outDir?: string;
  readyFd?: number;
  exitFd?: number;
  logLevel: ProcessConfig['logLevel'];
  quiet?: boolean;
  printConfig?: boolean;
}

/** Options of `tunnel`, beside those that it has in common with serving. */
export interface TunnelOptions
  extends Pick<
    ServeOptions,
    | 'mtu'
    | 'readyFd'
    | 'exitFd'
    | 'events'
    | 'sandbox'
    | 'apiSocket'
    | 'logLevel'
    | 'quiet'
    | 'printConfig'
    | 'insecureTunnel'
    | 'given'
  > {
  to: string;
  tun: string;
  address: string[];
  route?: string[];
  keepalive: number;
}

/** Options of `daemon`. */
export interface DaemonCommandOptions {
  controlFd?: number;
  controlReadFd?: number;
  controlWriteFd?: number;
  logFd?: number;
  logLevel: DaemonLogLevel;
  exitWithParent?: boolean;
  publicKey?: string;
}

/** Options of the commands that ask a running tslirp. */
export interface ClientOptions {
  /** Not given: as the environment says. */
  apiSocket?: string;
  json?: boolean;
}

type SimpleQuestion = 'info' | 'stats' | 'flows' | 'forwards' | 'listeners' | 'events';

/** What a running tslirp is asked. */
export type ClientQuestion =
  | { kind: SimpleQuestion }
  | { kind: 'cutFlows' | 'removeForwards'; ids: number[] }
  | { kind: 'addForward'; rule: string };

/** What a well-formed command line leads to; one of them is called. */
export interface Actions {
  run: (command: string[], options: ServeOptions) => void;
  attach: (target: string | undefined, options: ServeOptions) => void;
  serve: (options: ServeOptions) => void;
  tunnel: (command: string[], options: TunnelOptions) => void;
  daemon: (options: DaemonCommandOptions) => void;
  version: (isJson: boolean) => void;
  ask: (question: ClientQuestion, options: ClientOptions) => void;
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

/** Of an option that may come more than once; `false` is its negation's. */
function each(parse: (value: string) => string = String): (value: string, previous?: unknown) => string[] {
  return (value, previous) => [...(Array.isArray(previous) ? (previous as string[]) : []), parse(value)];
}

/** An option with one of a few values. */
function choice(long: string, description: string, values: readonly string[], otherwise: string): Option {
  const option = new Option(long, description).default(otherwise);
  // Not `choices()`, which would check them in other words than ours.
  option.argChoices = [...values];
  return option.argParser((value) => parseChoice(option.long ?? '', values, value));
}

/** Of everything that goes on until it is told to end. */
function addProcess(command: Command): Command {
  return command
    .option('--sandbox', 'fail where the sandbox cannot be had (default: use what the system offers)')
    .option('--no-sandbox', 'keep all rights after the start')
    .option('--api-socket <path>', 'take requests on a unix socket', parseSocketPath)
    .option(
      '--events <file>',
      'write a JSON line for whatever appears in the guest or goes, to a file, a unix socket, or descriptor fd:N',
      (value) => parseOutput('--events', value),
    )
    .option('--ready-fd <n>', 'write "1" to this descriptor and close it when packets flow', (value) =>
      parseFd('--ready-fd', value),
    )
    .option('--exit-fd <n>', 'end when the other end of this descriptor closes', (value) =>
      parseFd('--exit-fd', value),
    )
    .addOption(choice('--log-level <level>', 'how much is told', LOG_LEVELS, 'info'))
    .option('-q, --quiet', 'tell nothing but what goes wrong, as --log-level error')
    .option('--print-config', 'print what the options make, as JSON, and end');
}

function addServing(command: Command): Command {
  const serving = command
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
      'publish a service of the guest on the host (repeatable), as [SCHEME://][BINDIP:]PORT[:[GUESTIP:]GUESTPORT]',
      each(),
    )
    .option(
      '-R, --remote-forward <rule>',
      'bring a service of the host to the guest (repeatable), as [SCHEME://][BINDIP:]PORT[:[HOST:]HOSTPORT]',
      each(),
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
    .option(
      '--mtu <n>',
      'MTU in bytes (default: 65520; an existing interface keeps its own; of a link that is none, 1500)',
      parseMtu,
    )
    .option('--cidr <net/prefix>', 'IPv4 network: gateway +2, DNS +3, guest +100 (default: 10.0.2.0/24)')
    .option('--cidr6 <net/64>', 'IPv6 network: gateway ::2, DNS ::3, guest ::100 (default: fd00::/64)')
    .option('--ipv6', 'IPv6 as well as IPv4', true)
    .addOption(new Option('--no-ipv6', 'IPv4 only'))
    .option(
      '--dns <address>',
      "DNS server to use instead of the host's (repeatable)",
      each((value) => parseDnsServer(value)),
    )
    .option(
      '--dns-search <domain>',
      "domain that the guest completes short names with, instead of the host's (repeatable; . = none)",
      each((value) => parseDomain(value)),
    )
    .option('--no-dns', 'no DNS service at the DNS addresses')
    .addOption(choice('--congestion <name>', 'congestion control towards the guest', CONGESTIONS, 'auto'))
    .option(
      '--pcap [file]',
      'write a capture of all packets (- = standard output; default: vpn.pcap in --out-dir)',
      parsePcapPath,
    )
    .option(
      '--flow-log <file>',
      'write a JSON line for each flow and each refusal to a file, or to descriptor fd:N',
      (value) => parseOutput('--flow-log', value),
    )
    .option(
      '--out-dir <directory>',
      'keep files there of what is published: vpn_bridges.csv, endpoints.txt, netbinds.csv, ipaddr.txt, guest_ip',
      parseDirectory,
    );
  return addProcess(serving);
}

/** Of the commands whose guest is a namespace. */
function addInterface(command: Command): Command {
  return command
    .option('--interface <name>', 'interface inside the namespace (default: tap0)', parseInterfaceName)
    .option(
      '--auto-forward [spec]',
      'publish services of the guest as they come (after =: tcp, udp, ports, !ports, bind=ADDRESS, loopback=skip, exact, per-address, max=N, interval=MS)',
      (value) => parseAutoForward(value === '\0' ? '' : value),
    )
    .option(
      '--forward-loopback <how>',
      "services on the guest's loopback, found by --auto-forward: splice, led to from the host's loopback, or skip",
      (value) => parseLoopback('--forward-loopback', value),
    );
}

/** Which services of a guest get ports of the host. */
function addPublishing(command: Command): Command {
  return command
    .option(
      '--port-map <maps>',
      'keep ports of the host for services of the guest (repeatable), as tcp|udp:[HOST/]PORT:GUEST:PORT[,source=SOURCE],…',
      each(),
    )
    .option(
      '--forward-events <file>',
      "publish the services that a file names as it grows, as Penguin's VPN plugin writes it, or a pipe, a unix socket, fd:N",
      (value) => parseInput('--forward-events', value),
    )
    .option('--port-map-wait', 'wait for a port of a map that is in use, instead of ending')
    .option('--forward-per-address', 'a port of the host for each address of a service that listens on all')
    .option(
      '--forward-source <who>',
      'whom published services see as their client: gateway, client, or an address',
    )
    .option('--state <file>', 'keep which service had which port of the host, for the next start');
}

/** The long names of the options that come, as they come. */
function noteGiven(command: Command): ReadonlySet<string> {
  const given = new Set<string>();
  for (const option of command.options)
    command.on(`option:${option.name()}`, () => given.add(option.long ?? ''));
  return given;
}

function addClient(command: Command): Command {
  return command
    .option(
      '--api-socket <path>',
      'of the tslirp that is asked (default: $TSLIRP_API_SOCKET)',
      parseSocketPath,
    )
    .option('--json', 'the answer as it comes');
}

/** The whole of it. What goes wrong while it is read is a CommanderError, or a UsageError. */
export function buildProgram(version: string, output: OutputConfiguration, actions: Actions): Command {
  const program = new Command('tslirp');
  // Subcommands inherit these when they are made, so they come first.
  program.exitOverride().configureOutput(output).helpOption('-h, --help', 'show this help');
  program
    .description('The network of its host for a network namespace, without root')
    .version(version, '-V, --version', 'show the version')
    .helpCommand('help [command]', 'show the help of a command')
    .enablePositionalOptions();

  const run = addInterface(addPublishing(addServing(program.command('run'))))
    .description('run a command in a new namespace with a network inside; exits as the command does')
    .usage('[options] [--] [COMMAND…]')
    .argument('[command...]', 'the command and its arguments (default: a shell)')
    .option('--map-auto', 'give the command the ids of /etc/subuid and /etc/subgid too (newuidmap)')
    .passThroughOptions();
  const givenToRun = noteGiven(run);
  run.action((command: string[], options: Omit<ServeOptions, 'given'>) =>
    actions.run(command, { ...options, given: givenToRun }),
  );

  const attach = addInterface(addPublishing(addServing(program.command('attach'))))
    .description('give a network to a namespace that exists')
    .usage('[options] PID|NAME|NETNS-PATH | --fd N')
    .argument('[target]', 'a process number, a name of `ip netns`, or the file of a network namespace')
    .option('--fd <n>', 'instead of a namespace: an attached TAP, or a unix packet socket', (value) =>
      parseFd('--fd', value),
    )
    .option('--link <spec>', 'tun:NAME: a TUN device of this name instead of a TAP', each())
    .option('--configure', 'set addresses, routes and MTU (default: when the interface is missing)')
    .option('--no-configure', 'leave the interface as it is')
    .option('--userns <path>', 'user namespace to enter first', (value) =>
      parseExistingPath('--userns', value),
    )
    .allowExcessArguments(false);
  const givenToAttach = noteGiven(attach);
  attach.action((target: string | undefined, options: Omit<ServeOptions, 'given'>) =>
    actions.attach(target, { ...options, given: givenToAttach }),
  );

  const serve = addPublishing(addServing(program.command('serve')))
    .description('give a network to virtual machines and whatever else sends packets')
    .usage('[options] --link SPEC…')
    .option(
      '--link <spec>',
      `where packets come from, each a guest of its own (repeatable): ${linkForms}`,
      each(),
    )
    .option('--one-off', "end with the first link's peer, and wait for no other")
    .option('--insecure-key-file', 'take a wireguard:FILE that others may read')
    .option(
      '--insecure-tunnel',
      'take a tunnel: that others can reach, although it is neither sealed nor signed',
    )
    .allowExcessArguments(false);
  const givenToServe = noteGiven(serve);
  serve.action((options: Omit<ServeOptions, 'given'>) => actions.serve({ ...options, given: givenToServe }));

  const tunnel = addProcess(program.command('tunnel'))
    .description('reach a network through a plain tunnel, in a new namespace with a command, or in this one')
    .usage('[options] --to HOST:PORT --address ADDRESS/BITS [-- COMMAND…]')
    .argument('[command...]', 'the command and its arguments (default: none, and the namespace is this one)')
    .requiredOption('--to <host:port>', 'where the other end is, as tslirp serve --link tunnel: or any other')
    .requiredOption(
      '--address <address/bits>',
      'inner address, and the network that it is in; one for each family',
      each(),
    )
    .option('--route <prefix>', 'what is reached through the tunnel besides (repeatable)', each())
    .option('--tun <name>', 'interface', (value) => parseInterfaceName(value, '--tun'), 'tun0')
    .option('--mtu <n>', 'MTU in bytes (default: 1400, or less where the path has less room)', parseMtu)
    .option(
      '--keepalive <seconds>',
      'send an empty datagram when nothing was sent for so long (0: never)',
      (value) => parseSeconds('--keepalive', value),
      0,
    )
    .option(
      '--insecure-tunnel',
      'take a tunnel that others can reach, although it is neither sealed nor signed',
    )
    .passThroughOptions();
  const givenToTunnel = noteGiven(tunnel);
  tunnel.action((command: string[], options: Omit<TunnelOptions, 'given'>) =>
    actions.tunnel(command, { ...options, given: givenToTunnel }),
  );
  program
    .command('daemon')
    .description('networks for the tunnels of a program that talks to this one over descriptors')
    .usage('[options] --control-fd N | --control-read-fd N --control-write-fd M')
    .option('--control-fd <n>', 'a unix stream socket, on which descriptors may be passed', (value) =>
      parseStreamFd('--control-fd', value),
    )
    .option('--control-read-fd <n>', 'a pipe or a socket that requests are read from', (value) =>
      parseStreamFd('--control-read-fd', value),
    )
    .option('--control-write-fd <n>', 'a pipe or a socket that answers are written to', (value) =>
      parseStreamFd('--control-write-fd', value),
    )
    .option('--log-fd <n>', 'write log lines here as JSON, instead of as notices', (value) =>
      parseFd('--log-fd', value),
    )
    .addOption(choice('--log-level <level>', 'how much is told', DAEMON_LOG_LEVELS, 'info'))
    .option(
      '--public-key <file>',
      'verify this installation by its manifest first, with an Ed25519 key',
      (value) => parseReadableFile('--public-key', value),
    )
    .option('--exit-with-parent', 'end when the process that has started this one does')
    .allowExcessArguments(false)
    .action((options: DaemonCommandOptions) => actions.daemon(options));

  program
    .command('version')
    .description('what this installation is')
    .addOption(choice('--output <form>', 'how it is told', ['text', 'json'], 'text'))
    .allowExcessArguments(false)
    .action(({ output: form }: { output: string }) => actions.version(form === 'json'));

  const ask = (kind: SimpleQuestion) => (options: ClientOptions) => actions.ask({ kind }, options);
  const ids = (value: string, previous: number[] = []): number[] => [...previous, parseNumber(value)];
  addClient(program.command('info')).description('what a running tslirp is').action(ask('info'));
  addClient(program.command('stats'))
    .description('the counters and gauges of a running tslirp')
    .action(ask('stats'));
  addClient(program.command('events'))
    .description('what appears in the guest and on the host, and goes, as it happens: a JSON line each')
    .action(ask('events'));
  addClient(program.command('listeners'))
    .description('the listening sockets of the guest that are known')
    .action(ask('listeners'));
  const flow = program.command('flow').description('the flows of a running tslirp').helpCommand(false);
  addClient(flow.command('ls')).description('list flows').action(ask('flows'));
  addClient(flow.command('kill'))
    .description('cut flows')
    .argument('<id...>', 'their numbers', ids)
    .action((numbers: number[], options: ClientOptions) =>
      actions.ask({ kind: 'cutFlows', ids: numbers }, options),
    );
  const forward = program
    .command('forward')
    .description('the published ports of a running tslirp')
    .helpCommand(false);
  addClient(forward.command('ls')).description('list published ports').action(ask('forwards'));
  addClient(forward.command('add'))
    .description('publish another port')
    .argument('<rule>', 'as with -L, without names, unix sockets and PROXY headers')
    .action((rule: string, options: ClientOptions) => actions.ask({ kind: 'addForward', rule }, options));
  addClient(forward.command('rm'))
    .description('publish ports no more')
    .argument('<id...>', 'their numbers', ids)
    .action((numbers: number[], options: ClientOptions) =>
      actions.ask({ kind: 'removeForwards', ids: numbers }, options),
    );
  return program;
}
