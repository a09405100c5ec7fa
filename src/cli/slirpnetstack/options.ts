/**
 * The command line of slirpnetstack as checked values. Names in -allow, -deny, -source-ipv4, -source-ipv6 and -m are
 * resolved where they stand, so the first thing that is wrong is what is told. Names in -L and -R stay open.
 */
import type { Endpoint } from '../../config.ts';
import { LookupError, Resolver } from '../../control/names/resolver.ts';
import { RuleError, type RuleSpec, toRuleSpec } from '../../firewall/rule.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { type ForwardRule, ForwardRuleError, parseSlirpnetstackForward } from '../forward-rule.ts';
import { parseRuleEntry } from '../rule.ts';
import { parseGoUint16, splitFields } from '../rule-fields.ts';
import {
  type Flag,
  FlagValueError,
  parseFlags,
  parseGoBool,
  parseGoDuration,
  parseGoInt,
  parseGoUint,
} from './go-flags.ts';

/** Where metrics are served. */
export type MetricsAddress = ({ net: 'tcp' | 'udp' } & Endpoint) | { net: 'unix'; path: string };

export interface Options {
  version: boolean;
  /** -1 = none. */
  fd: number;
  netns: string;
  interface: string;
  mtu: number;
  local: ForwardRule[];
  remote: ForwardRule[];
  allow: RuleSpec[];
  deny: RuleSpec[];
  enableHost: boolean;
  enableRouting: boolean;
  /** Literals, or empty. */
  source4: string;
  source6: string;
  dnsTtlMs: number;
  metrics: MetricsAddress | null;
  pcap: string;
  quiet: boolean;
  exitWithParent: boolean;
  /** Ours alone. */
  printConfig: boolean;
}

const METRICS_FORM = 'Address must be in form net://address, where net is one of unix/tcp/udp';

/** Rejects with a FlagError. */
export async function parseOptions(
  args: readonly string[],
  resolver: Resolver = new Resolver(),
): Promise<Options> {
  const options: Options = {
    version: false,
    fd: -1,
    netns: '',
    interface: 'tun0',
    mtu: 0,
    local: [],
    remote: [],
    allow: [],
    deny: [],
    enableHost: false,
    enableRouting: false,
    source4: '',
    source6: '',
    dnsTtlMs: 5000,
    metrics: null,
    pcap: '',
    quiet: false,
    exitWithParent: false,
    printConfig: false,
  };
  const to = <K extends keyof Options>(
    name: K,
    read: (value: string) => Options[K] | Promise<Options[K]>,
    boolean = false,
  ): Flag => ({
    boolean,
    set: async (value) => {
      options[name] = await read(value);
    },
  });
  const text = (value: string): string => value;
  const flags: Record<string, Flag> = {
    version: to('version', parseGoBool, true),
    fd: to('fd', parseGoInt),
    netns: to('netns', text),
    interface: to('interface', text),
    mtu: to('mtu', parseGoUint),
    L: { set: (value) => void options.local.push(forwardRule(value, 'local')) },
    R: { set: (value) => void options.remote.push(forwardRule(value, 'remote')) },
    allow: { set: (value) => addRules(options.allow, value, resolver) },
    deny: { set: (value) => addRules(options.deny, value, resolver) },
    'enable-host': to('enableHost', parseGoBool, true),
    'enable-routing': to('enableRouting', parseGoBool, true),
    'source-ipv4': to('source4', (value) => sourceAddress(value, 4, resolver)),
    'source-ipv6': to('source6', (value) => sourceAddress(value, 6, resolver)),
    'dns-ttl': to('dnsTtlMs', parseGoDuration),
    m: to('metrics', (value) => metricsAddress(value, resolver)),
    pcap: to('pcap', text),
    'print-config': to('printConfig', parseGoBool, true),
    quiet: to('quiet', parseGoBool, true),
    'exit-with-parent': to('exitWithParent', parseGoBool, true),
    // There is one thread that works, whatever is asked for.
    maxprocs: { set: (value) => void parseGoInt(value) },
  };
  await parseFlags(args, flags);
  return options;
}

/** What is wrong with a rule or a name is the reason that the flag is refused with. */
function asReason(error: unknown): unknown {
  const expected =
    error instanceof ForwardRuleError || error instanceof RuleError || error instanceof LookupError;
  return expected ? new FlagValueError(error.message, { cause: error }) : error;
}

function forwardRule(value: string, direction: 'local' | 'remote'): ForwardRule {
  try {
    return parseSlirpnetstackForward(value, direction);
  } catch (error) {
    throw asReason(error);
  }
}

async function addRules(rules: RuleSpec[], value: string, resolver: Resolver): Promise<void> {
  for (const entry of value.split(',')) {
    try {
      const rule = parseRuleEntry(entry, { strict: false });
      const { host } = rule;
      const address = host.kind === 'name' ? await lookUp(host.name, resolver) : undefined;
      rules.push(toRuleSpec(rule, address));
    } catch (error) {
      throw asReason(error);
    }
  }
}

async function lookUp(name: string, resolver: Resolver): Promise<string> {
  try {
    return (await resolver.resolve(name, 0)).address;
  } catch (error) {
    throw asReason(error);
  }
}

async function sourceAddress(value: string, family: 4 | 6, resolver: Resolver): Promise<string> {
  const literal = asLiteral(value);
  const address = literal ?? parseIpAddress(await lookUp(value, resolver));
  if (address.isV4 !== (family === 4)) throw new FlagValueError(`${value} is not an IPv${family} address`);
  return address.toString();
}

async function metricsAddress(value: string, resolver: Resolver): Promise<MetricsAddress> {
  const separator = value.indexOf('://');
  const net = value.slice(0, Math.max(0, separator));
  const rest = value.slice(separator + 3);
  if (net === 'unix') return { net, path: rest };
  if (net !== 'tcp' && net !== 'udp') throw new FlagValueError(METRICS_FORM);
  const fields = splitFields(rest);
  if (fields === undefined || fields.length > 2)
    throw new FlagValueError(`address ${rest}: too many colons in address`);
  const [host = '', portText] = fields;
  if (portText === undefined) throw new FlagValueError(`address ${rest}: missing port in address`);
  const port = portText === '' ? 0 : parseGoUint16(portText);
  if (typeof port === 'string') throw new FlagValueError(`address ${portText}: invalid port`);
  if (host === '') return { net, address: '::', port };
  const literal = asLiteral(host);
  return { net, address: literal?.toString() ?? (await lookUp(host, resolver)), port };
}

function asLiteral(text: string): IpAddress | undefined {
  try {
    return parseIpAddress(text);
  } catch {
    return undefined;
  }
}
