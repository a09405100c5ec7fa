/**
 * How the command line of `tslirp` becomes a `Config`.
 *
 * Everything is checked here, before anything is started. The one thing left open are host names in rules, which take a
 * look-up: the rules come back beside the configuration.
 */
import { accessSync, constants, existsSync, lstatSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { type Command, CommanderError } from 'commander';
import {
  type AddressPlan,
  type AttachTarget,
  type Config,
  defaultGuest,
  type ForwardSource,
  type GuestConfig,
  noOutput,
  processLimits,
  sharedLimits,
} from '../config.ts';
import { defaultSetup, type InterfaceSetup } from '../device-spec.ts';
import type { ParsedRule } from '../firewall/rule.ts';
import { profiles } from '../profiles.ts';
import { type Direction, type ForwardRule, ForwardRuleError, parseForwardRule } from './forward-rule.ts';
import { guestNetworks } from './guest-networks.ts';
import { linkForms, parseLinkSpec } from './link-spec.ts';
import { byGuest, guestNames, linkedGuests, peerNetwork } from './linked-guests.ts';
import {
  buildProgram,
  type ClientOptions,
  type ClientQuestion,
  type DaemonCommandOptions,
  type ServeOptions,
} from './program.ts';
import { autoForwardSpec, forwardSource, publishSpec } from './publishing.ts';
import { tunnelGuest, tunnelTarget } from './tunnel-client.ts';
import {
  addressPlan,
  badValue,
  decimal,
  MTU_MIN_IPV6,
  neighborPlan,
  parseInterfaceName,
  STANDARD_OUTPUT,
  UsageError,
} from './values.ts';

/** Where ip-netns(8) has the namespaces that it names. */
const NETNS_DIRECTORY = '/run/netns';
const DEFAULT_INTERFACE = 'tap0';
/** Of a guest on a switch: the smallest network has so many addresses behind the first guest's. */
const NEIGHBORS_MAX = 20;
const TARGETS = 'PID, NAME or NETNS-PATH';

/** Of each two, one makes the other meaningless. */
const CONFLICTS: readonly (readonly [string, string])[] = [
  ['--dns', '--no-dns'],
  ['--dns-search', '--no-dns'],
  ['--ipv6', '--no-ipv6'],
  ['--sandbox', '--no-sandbox'],
  ['--configure', '--no-configure'],
  ['--quiet', '--log-level'],
  ['--fd', '--configure'],
  ['--fd', '--interface'],
  ['--fd', '--userns'],
  ['--fd', '--link'],
  ['--link', '--interface'],
  ['--fd', '--auto-forward'],
];

/** A request of this many bytes is refused: 1 MiB is the most. */
const API_REQUEST_MAX = 1024 * 1024 + 1;

/** A usable command line. */
export interface Invocation {
  /** Without rules yet: they follow from the other members once names are resolved. */
  config: Config;
  allow: ParsedRule[];
  deny: ParsedRule[];
  forwards: ForwardRule[];
  /** The guests of `serve` besides the first, who share its policy. */
  more: { guest: GuestConfig; forwards: ForwardRule[] }[];
  /** Whom the guest sees as the client of a published service. */
  source: ForwardSource;
  /** Nothing is to be served: `config` is what is asked for. */
  printsConfig: boolean;
}

/** Help or version, to be printed on standard output. */
export interface Information {
  text: string;
}

/** Something to ask a tslirp that runs. */
export interface ClientInvocation {
  question: ClientQuestion;
  options: ClientOptions;
}

/** What this installation is, as JSON. */
export interface VersionInvocation {
  versionOf: string;
}

/** A program wants tunnels. */
export interface DaemonInvocation {
  daemon: DaemonCommandOptions;
}

function daemonInvocation(options: DaemonCommandOptions): DaemonInvocation {
  const { controlFd, controlReadFd, controlWriteFd } = options;
  const isPair = controlReadFd !== undefined && controlWriteFd !== undefined;
  const isNone = controlReadFd === undefined && controlWriteFd === undefined;
  if (controlFd === undefined ? isPair : isNone) return { daemon: options };
  throw new UsageError(
    'daemon takes either --control-fd N or both --control-read-fd N and --control-write-fd M',
  );
}

function refuseConflicts(options: ServeOptions): void {
  for (const [one, other] of CONFLICTS) {
    if (options.given.has(one) && options.given.has(other))
      throw new UsageError(`options ${one} and ${other} exclude each other; accepted: one of them`);
  }
  const { flowLog = noOutput, events = noOutput, forwardEvents = noOutput } = options;
  const pcap = pcapPath(options);
  // One stream of bytes for two purposes is of use for neither.
  const uses: [string, string | number | undefined][] = [
    ['--fd', options.fd],
    ['--ready-fd', options.readyFd],
    ['--exit-fd', options.exitFd],
    ['--flow-log', flowLog.fd < 0 ? flowLog.path : flowLog.fd],
    ['--events', events.fd < 0 ? events.path : events.fd],
    ['--forward-events', forwardEvents.fd < 0 ? forwardEvents.path : forwardEvents.fd],
    ['--pcap', pcap === STANDARD_OUTPUT ? 1 : pcap],
  ];
  const seen = new Map<string | number, string>();
  for (const [option, value] of uses) {
    if (value === undefined || value === '') continue;
    const before = seen.get(value);
    if (before !== undefined) {
      const what = typeof value === 'number' ? `descriptor ${value}` : JSON.stringify(value);
      throw new UsageError(
        `options ${before} and ${option} are both given ${what}; accepted: another for one`,
      );
    }
    seen.set(value, option);
  }
}

/** Empty: none. */
function pcapPath({ pcap = '', outDir }: ServeOptions): string {
  if (pcap !== true) return pcap;
  if (outDir !== undefined) return join(outDir, 'vpn.pcap');
  throw new UsageError(
    'option --pcap: no file; accepted: a file that can be written, or none with --out-dir',
  );
}

function forwardRules(
  { localForward, remoteForward }: Pick<ServeOptions, 'localForward' | 'remoteForward'>,
  addresses: AddressPlan,
): ForwardRule[] {
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
    ...read(localForward ?? [], '--local-forward', 'local'),
    ...read(remoteForward ?? [], '--remote-forward', 'remote'),
  ];
}

/** `peer`: the addresses of a guest whose link has given it some. */
function toInvocation(
  options: ServeOptions,
  target: GuestConfig['target'],
  setup: InterfaceSetup = defaultSetup,
  peer?: AddressPlan,
): Invocation {
  refuseConflicts(options);
  const ipv6 = options.ipv6;
  const mtu = options.mtu ?? 0;
  if (ipv6 && mtu !== 0 && mtu < MTU_MIN_IPV6) {
    throw badValue('--mtu', String(mtu), 'is too small for IPv6', `at least ${MTU_MIN_IPV6}, or --no-ipv6`);
  }
  const addresses = addressPlan(options.cidr, options.cidr6, ipv6);
  const reached = peer ?? addresses;
  const config: Config = {
    process: {
      limits: processLimits,
      readyFd: options.readyFd ?? -1,
      exitFd: options.exitFd ?? -1,
      exitOnData: true,
      logLevel: options.quiet === true ? 'error' : options.logLevel,
      api: { path: options.apiSocket ?? '', requestMax: API_REQUEST_MAX, echo: false },
      flowLog: options.flowLog ?? noOutput,
      events: options.events ?? noOutput,
      forwardEvents: options.forwardEvents ?? noOutput,
      outDirectory: options.outDir ?? '',
      sandbox: {
        mountTree: options.sandbox !== false,
        minimal: false,
        seccomp: options.sandbox !== false,
        required: options.sandbox === true,
      },
    },
    guest: {
      ...defaultGuest,
      target,
      interface: {
        name: options.interface ?? DEFAULT_INTERFACE,
        mtu,
        configure: options.configure === undefined ? 'auto' : options.configure ? 'yes' : 'no',
        setup,
      },
      addresses,
      policy: {
        enableRouting: options.enableRouting === true,
        enableHost: options.enableHost === true,
        allow: [],
        deny: [],
        guestNetworks: guestNetworks(addresses),
      },
      behavior:
        options.flowLog === undefined
          ? profiles.tslirp
          : { ...profiles.tslirp, flowEvents: true, denials: 'all' },
      congestion: options.congestion,
      source4: options.sourceIpv4 ?? '',
      source6: options.sourceIpv6 ?? '',
      outboundInterface: options.outboundInterface ?? '',
      dns: options.dns !== false,
      dnsServers: options.dns === undefined || options.dns === false ? [] : options.dns,
      dnsSearch: options.dnsSearch === undefined ? null : options.dnsSearch.filter((name) => name !== '.'),
      pcapPath: pcapPath(options),
      autoForward: autoForwardSpec(options),
      publish: publishSpec(options, reached),
    },
  };
  return {
    config,
    allow: options.allow ?? [],
    deny: options.deny ?? [],
    printsConfig: options.printConfig === true,
    forwards: forwardRules(options, reached),
    source: forwardSource(options, reached),
    more: [],
  };
}

/** `serve`: a guest for each link. */
function serveInvocation(options: ServeOptions): Invocation {
  const specs = (options.link ?? []).flatMap((text) => linkedGuests(parseLinkSpec(text), options));
  const [first] = specs;
  if (first === undefined) throw new UsageError(`serve needs --link SPEC; accepted: ${linkForms}`);
  const isShared = specs.length > 1 || first.target.kind === 'webSocket';
  if (isShared) {
    for (const option of ['--pcap', '--api-socket', '--port-map', '--forward-events', '--state'])
      if (options.given.has(option))
        throw new UsageError(`option ${option} is for one guest; accepted: with one --link`);
  }
  const names = guestNames(specs);
  const locals = byGuest(options.localForward, '--local-forward', names);
  const remotes = byGuest(options.remoteForward, '--remote-forward', names);
  const { localForward: _l, remoteForward: _r, ...rest } = options;
  const invocation = toInvocation(rest, first.target, defaultSetup, first.addresses);
  const { config } = invocation;
  /** How many have a place on each network. */
  const places = new Map<string, number>();
  const guests = specs.map(({ target, mtu, network, addresses, hasGateway = true }, index) => {
    const name = names[index] as string;
    const place = network === undefined ? 0 : (places.get(network.name) ?? 0);
    if (network !== undefined) places.set(network.name, place + 1);
    if (place > NEIGHBORS_MAX)
      throw badValue(
        '--link',
        network?.name ?? '',
        'has too many guests',
        `${NEIGHBORS_MAX + 1} on a switch`,
      );
    const guest: GuestConfig = {
      ...{ ...config.guest, name, target },
      addresses: neighborPlan(config.guest.addresses, place),
      ...(network === undefined ? {} : { network }),
      ...(addresses === undefined ? {} : peerNetwork(config.guest, addresses)),
      interface: { ...config.guest.interface, mtu: mtu === 0 ? config.guest.interface.mtu : mtu },
      limits: isShared ? sharedLimits : config.guest.limits,
      dns: config.guest.dns && (hasGateway || options.given.has('--dns')),
      // A port of the host is for one of them.
      publish: isShared ? null : config.guest.publish,
    };
    if (target.kind === 'webSocket' && locals.has(name))
      throw new UsageError(
        `option --local-forward: ${name} has many guests; accepted: ,guest=NAME of another link`,
      );
    const rules = { localForward: locals.get(name) ?? [], remoteForward: remotes.get(name) ?? [] };
    return { guest, forwards: forwardRules(rules, guest.addresses) };
  });
  const [{ guest, forwards } = { guest: config.guest, forwards: [] }, ...more] = guests;
  return { ...invocation, config: { ...config, guest }, forwards, more };
}

/** `attach --link tun:NAME`. */
function tunInvocation(options: ServeOptions, target: AttachTarget): Invocation {
  const [spec = '', ...others] = options.link ?? [];
  const accepted = 'tun:NAME, once; serve takes all others';
  const name = spec.startsWith('tun:') ? spec.slice('tun:'.length) : '';
  if (name === '' || others.length > 0) throw badValue('--link', spec, 'is of no use here', accepted);
  const setup = { ...defaultSetup, medium: 'ip' } as const;
  return toInvocation({ ...options, interface: parseInterfaceName(name) }, target, setup);
}

/** A text without a slash may be a name that `ip netns` has given: that is where it says that it is. */
function netnsPath(text: string): string {
  const named = `${NETNS_DIRECTORY}/${text}`;
  if (text !== '' && !text.includes('/') && existsSync(named)) return named;
  if (lstatSync(text, { throwIfNoEntry: false }) === undefined)
    throw new UsageError(`${JSON.stringify(text)} does not exist; accepted: ${TARGETS}`);
  return text;
}

function attachTarget(text: string, usernsPath: string): AttachTarget {
  if (!/^\d+$/.test(text)) return { kind: 'attach', pid: 0, netnsPath: netnsPath(text), usernsPath };
  const pid = decimal(text);
  if (pid < 1) throw new UsageError(`${JSON.stringify(text)} is not a process number; accepted: ${TARGETS}`);
  return { kind: 'attach', pid, netnsPath: '', usernsPath };
}

/** The user's own, where it can be executed. */
function shell(): string {
  const { SHELL = '' } = process.env;
  try {
    if (isAbsolute(SHELL)) accessSync(SHELL, constants.X_OK);
    return isAbsolute(SHELL) ? SHELL : '/bin/sh';
  } catch {
    return '/bin/sh';
  }
}

const AUTO_FORWARD = '--auto-forward';
/** No word that anybody can write. */
const NO_VALUE = `${AUTO_FORWARD}=\0`;

/** An option whose value may be left out must not take the word that follows it. */
function withValue(word: string): string {
  return word === AUTO_FORWARD ? NO_VALUE : word;
}

function withoutValue(word: string): string {
  return word === NO_VALUE ? AUTO_FORWARD : word;
}

/** Reads the arguments after the program's name. @throws UsageError */
export function parseArguments(
  args: readonly string[],
  version: string,
): Invocation | Information | ClientInvocation | DaemonInvocation | VersionInvocation {
  let result: ReturnType<typeof parseArguments> | undefined;
  let text = '';
  const output = {
    writeOut: (part: string): void => {
      text += part;
    },
    writeErr: (): void => undefined,
  };
  const program = buildProgram(version, output, {
    run: (command, options) => {
      const words = command.length === 0 ? [shell()] : command.map(withoutValue);
      result = toInvocation(options, { kind: 'run', command: words, mapAuto: options.mapAuto === true });
    },
    attach: (target, options) => {
      const { fd } = options;
      if ((fd === undefined) === (target === undefined))
        throw new UsageError(
          `attach takes either a target (${TARGETS}) or --fd N (see tslirp attach --help)`,
        );
      if (fd !== undefined) result = toInvocation(options, { kind: 'descriptor', fd });
      else {
        const namespace = attachTarget(target ?? '', options.userns ?? '');
        result =
          options.link === undefined ? toInvocation(options, namespace) : tunInvocation(options, namespace);
      }
    },
    serve: (options) => {
      result = serveInvocation(options);
    },
    tunnel: (command, options) => {
      // bin/tslirp goes by it.
      if (command.length > 0 && !args.includes('--'))
        throw new UsageError(`tunnel has ${JSON.stringify(command[0])}; accepted: -- in front of a COMMAND`);
      const { sandbox, ...rest } = options;
      const serving: ServeOptions = {
        ...{ ipv6: true, congestion: 'auto', ...rest },
        ...(sandbox === undefined ? {} : { sandbox }),
      };
      const { config, ...invocation } = toInvocation(serving, tunnelTarget(command));
      const guest = { ...config.guest, ...tunnelGuest(command, options) };
      result = { ...invocation, config: { ...config, guest } };
    },
    daemon: (options) => {
      result = daemonInvocation(options);
    },
    version: (isJson) => {
      result = isJson ? { versionOf: version } : { text: `${version}\n` };
    },
    ask: (question, options) => {
      result = { question, options };
    },
  });
  try {
    program.parse(args.map(withValue), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { text };
    throw new UsageError(explain(error, commandOf(program, args), args));
  }
  if (result === undefined) throw new UsageError(noCommand(program));
  return result;
}

/** The command that `args` lead to, as far as they lead. */
function commandOf(program: Command, args: readonly string[]): Command {
  let command = program;
  for (const word of args) {
    const next = command.commands.find((sub) => sub.name() === word);
    if (next === undefined) return command;
    command = next;
  }
  return command;
}

function path(command: Command): string {
  return command.parent === null ? command.name() : `${path(command.parent)} ${command.name()}`;
}

function noCommand(command: Command): string {
  return `no command; accepted: ${commandNames(command)} (see ${path(command)} --help)`;
}

function commandNames(command: Command): string {
  return command.commands.map((sub) => sub.name()).join(', ');
}

/** One line out of what the option parser says in two. */
function explain(error: CommanderError, command: Command, [word, about]: readonly string[]): string {
  if (error.code === 'commander.help') {
    if (word !== 'help' || about === undefined) return noCommand(command);
    return `there is no command ${JSON.stringify(about)}; accepted: ${commandNames(command)}`;
  }
  const [first = '', hint = ''] = error.message.replace(/^error: /, '').split('\n');
  const see = `(see ${path(command)} --help)`;
  const [, name] = /^unknown option '(--[\w-]+)=/.exec(first) ?? [];
  if (command.options.some((option) => option.long === name)) return `option ${name} takes no value ${see}`;
  const meant = hint.replace(/^\((.*)\?\)$/, '; $1?').replace('; Did', '; did');
  return `${first}${meant} ${see}`;
}
