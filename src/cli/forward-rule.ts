/**
 * Forward rules as users write them (`-L` publishes a service of the guest on the host, `-R` brings one of the host to the
 * guest's side), for both command lines that have them.
 *
 *     rule  := [ scheme "://" ] parts
 *     parts := PORT | BINDIP ":" PORT | PORT ":" HOST ":" HOSTPORT
 *            | [BINDIP] ":" [PORT] ":" [HOST] ":" [HOSTPORT]
 *     and in the strict reading, as Docker has it,
 *            | [BINDIP ":"] PORT ":" HOSTPORT ["/" protocol]
 *
 * Addresses with ":" go in brackets, which nest (`[query@srv-[::1]:53]`). What is missing is filled in: the host port
 * from the bind port, addresses from the defaults of the direction, IPv6 ones when the other address of the rule is an
 * IPv6 literal. The host's end may be `unix:/path`, without a port. Text that is no address is a label: a host name, or
 * `query@srv-server`; labels stay in the result, for the control plane to resolve.
 *
 * Two readings:
 *
 * - strict (tslirp): schemes that say what they do; ranges of ports (`8000-8099`) as so many rules; whatever cannot work
 *   is refused with one line.
 * - lenient (slirpnetstack): that program's schemes and its error texts, and nothing refused that it accepts. Not copied:
 *   it takes a rule of five or more fields for an empty one.
 */
import { type AddressPlan, defaultAddresses, type ForwardSpec, type HostTarget } from '../config.ts';
import { isHostName } from '../control/names/host-name.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { parseGoUint16, splitFields } from './rule-fields.ts';

export type Direction = ForwardSpec['direction'];

/** A rule whose ends may still be names. */
export interface ForwardRule {
  direction: Direction;
  protocol: 'tcp' | 'udp';
  /** Where it listens. A unix socket only for `local`. */
  bind: HostTarget;
  /** Where it connects to. A unix socket only for `remote`. */
  host: HostTarget;
  /** Version of the PROXY protocol header sent to the target of a remote forward; 0 = none. */
  proxyOut: 0 | 1 | 2;
  /** Clients of a local forward send a header that names the real client. */
  proxyIn: boolean;
  rpc: boolean;
}

export interface ForwardDialect {
  strict: boolean;
  addresses: AddressPlan;
}

/** The message is one line: what is wrong and, in the strict reading, what is accepted. */
export class ForwardRuleError extends Error {
  override readonly name = 'ForwardRuleError';
  readonly code = 'ERR_FORWARD_RULE';
}

type Scheme = Pick<ForwardRule, 'protocol' | 'proxyIn' | 'proxyOut' | 'rpc'>;

const plain = { proxyIn: false, proxyOut: 0, rpc: false } as const;
const tcp: Scheme = { ...plain, protocol: 'tcp' };
const udp: Scheme = { ...plain, protocol: 'udp' };
const udpRpc: Scheme = { ...udp, rpc: true };
const tcpProxy: Scheme = { ...tcp, proxyIn: true };
const udpProxy: Scheme = { ...udp, proxyIn: true };

const strictSchemes: Record<Direction, Record<string, Scheme>> = {
  local: { tcp, udp, 'udp+rpc': udpRpc, 'tcp+proxy': tcpProxy, 'udp+spp': udpProxy },
  remote: {
    tcp,
    udp,
    'udp+rpc': udpRpc,
    'tcp+proxy1': { ...tcp, proxyOut: 1 },
    'tcp+proxy2': { ...tcp, proxyOut: 2 },
  },
};

const lenientSchemes: Record<Direction, Record<string, Scheme>> = {
  local: { tcp, udp, udprpc: udpRpc, tcppp: tcpProxy, udpspp: udpProxy },
  remote: { tcp, udp, udprpc: udpRpc, tcppp: tcp, udpspp: udp },
};

const forms: Record<Direction, string> = {
  local: '[SCHEME://][BINDIP:]PORT[:[GUESTIP:]GUESTPORT] or [SCHEME://]unix:PATH[:GUESTIP]:GUESTPORT',
  remote: '[SCHEME://][BINDIP:]PORT[:[HOST:]HOSTPORT] or [SCHEME://][BINDIP:]PORT:unix:PATH',
};

/** The protocol behind the ports, in place of a scheme in front. */
const PROTOCOL_BEHIND = /^((?:.*:)?[0-9][0-9-]*)\/(tcp|udp)$/;
const PORTS = /^[0-9][0-9-]*$/;
const SRV_LABEL = /^([^@]+)@srv-(.+)$/;

/** Ports from … to; one port is a range of one. */
interface PortRange {
  first: number;
  last: number;
}

/**
 * Reads one rule. The strict reading makes one `ForwardRule` for each port of a range.
 * @throws ForwardRuleError
 */
export function parseForwardRule(text: string, direction: Direction, dialect: ForwardDialect): ForwardRule[] {
  return new RuleReader(text, direction, dialect).read();
}

/** slirpnetstack's reading, with that program's addresses. @throws ForwardRuleError */
export function parseSlirpnetstackForward(text: string, direction: Direction): ForwardRule {
  const [rule] = parseForwardRule(text, direction, { strict: false, addresses: defaultAddresses });
  return rule as ForwardRule;
}

class RuleReader {
  readonly #text: string;
  readonly #direction: Direction;
  readonly #strict: boolean;
  readonly #addresses: AddressPlan;

  constructor(text: string, direction: Direction, dialect: ForwardDialect) {
    this.#text = text;
    this.#direction = direction;
    this.#strict = dialect.strict;
    this.#addresses = dialect.addresses;
  }

  read(): ForwardRule[] {
    const [word, parts] = this.#split();
    const scheme = this.#scheme(word);
    const [bindText, bindPortText, hostText, hostPortText] = this.#fields(parts);

    const bindPort = this.#ports(bindPortText);
    const hostPort = hostPortText === '' ? bindPort : this.#ports(hostPortText);
    const count = this.#count(bindPort, hostPort, bindText, hostText);

    const bind = this.#end(bindText);
    const host = this.#end(hostText);
    const v6 = (bind?.kind === 'ip' && isV6(bind)) || (host?.kind === 'ip' && isV6(host));
    const defaults = this.#defaults(v6);
    const rules: ForwardRule[] = [];
    for (let i = 0; i < count; i++) {
      const rule: ForwardRule = {
        direction: this.#direction,
        ...scheme,
        bind: withPort(bind ?? defaults.bind, bindPort.first + i),
        host: withPort(host ?? defaults.host, hostPort.first + i),
      };
      if (this.#strict) this.#check(rule);
      rules.push(rule);
    }
    return rules;
  }

  /** Scheme and the rest. */
  #split(): [string, string] {
    const separator = this.#text.indexOf('://');
    if (separator >= 0) return [this.#text.slice(0, separator), this.#text.slice(separator + 3)];
    const [, parts, protocol] = (this.#strict && PROTOCOL_BEHIND.exec(this.#text)) || [];
    return parts === undefined || protocol === undefined ? ['tcp', this.#text] : [protocol, parts];
  }

  #refuse(fault: string): never {
    throw new ForwardRuleError(`${JSON.stringify(this.#text)} ${fault}; accepted: ${forms[this.#direction]}`);
  }

  #scheme(word: string): Scheme {
    const schemes = (this.#strict ? strictSchemes : lenientSchemes)[this.#direction];
    const scheme = Object.hasOwn(schemes, word) ? schemes[word] : undefined;
    if (scheme !== undefined) return scheme;
    if (!this.#strict) throw new ForwardRuleError(`unknown network type "${word}"`);
    throw new ForwardRuleError(
      `${JSON.stringify(this.#text)} has the unknown scheme ${JSON.stringify(word)}; accepted: ${Object.keys(schemes).join(', ')}`,
    );
  }

  /** Bind address, bind port, host address, host port; empty where not given. */
  #fields(parts: string): [string, string, string, string] {
    if (this.#strict && parts === '') this.#refuse('has nothing in it');
    if (this.#strict && /\s/.test(parts)) this.#refuse('has a blank inside');
    const split = splitFields(parts);
    if (split === undefined) return this.#badShape('has brackets that do not pair up');
    const fields = joinUnixPath(split);
    const unix = fields.findIndex(isUnix);
    if (unix >= 0) return this.#unixFields(fields, unix);
    const [a = '', b = '', c = '', d = ''] = fields;
    switch (fields.length) {
      case 1:
        return ['', a, '', ''];
      case 2:
        // No host is called by a number.
        return this.#strict && PORTS.test(a) ? ['', a, '', b] : [a, b, '', ''];
      case 3:
        return this.#strict && a !== '' && !PORTS.test(a) ? [a, b, '', c] : ['', a, b, c];
      case 4:
        return [a, b, c, d];
      default:
        return this.#badShape('has more than four fields (an IPv6 address is written [fd00::1])');
    }
  }

  /** A unix socket takes the place of an address and its port, on the host's side of the rule. */
  #unixFields(fields: string[], at: number): [string, string, string, string] {
    const local = this.#direction === 'local';
    if (at !== (local ? 0 : fields.length - 1)) {
      return this.#badShape(`has a unix socket where the guest's side is`);
    }
    const path = fields[at] as string;
    const rest = fields.toSpliced(at, 1);
    const [a = '', b = ''] = rest;
    if (rest.length === 1) return local ? [path, '', '', a] : ['', a, path, ''];
    if (rest.length === 2) return local ? [path, '', a, b] : [a, b, path, ''];
    return this.#badShape(`has no port on the guest's side`);
  }

  #badShape(fault: string): never {
    if (this.#strict) this.#refuse(fault);
    throw new ForwardRuleError(`bad forward rule "${this.#text}": it ${fault}`);
  }

  #ports(text: string): PortRange {
    if (text === '') return { first: 0, last: 0 };
    if (!this.#strict) {
      const port = parseGoUint16(text);
      if (typeof port === 'string') throw new ForwardRuleError(port);
      return { first: port, last: port };
    }
    const match = /^(0|[1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$/.exec(text);
    const first = Number(match?.[1] ?? -1);
    const last = Number(match?.[2] ?? first);
    if (match === null || first > 65535 || last > 65535) {
      return this.#refuse(
        `has the port ${JSON.stringify(text)}, which is not a number from 0 to 65535 or a range`,
      );
    }
    if (first > last || (first === 0 && last > 0)) {
      return this.#refuse(`has the ports ${JSON.stringify(text)}, which are not a range`);
    }
    return { first, last };
  }

  /** How many rules the ranges make. */
  #count(bind: PortRange, host: PortRange, bindText: string, hostText: string): number {
    const bindCount = bind.last - bind.first + 1;
    const hostCount = host.last - host.first + 1;
    if (bindCount === hostCount && (bindCount === 1 || !(isUnix(bindText) || isUnix(hostText)))) {
      return bindCount;
    }
    return this.#refuse('has ranges of ports that do not match');
  }

  /** An end without its port; undefined when the field is empty. */
  #end(text: string): HostTarget | undefined {
    if (text === '') return undefined;
    if (isUnix(text)) return { kind: 'unix', path: this.#path(text.slice('unix:'.length)) };
    try {
      const address = parseIpAddress(text);
      if (this.#strict && address.isV4 && text.includes(':')) {
        return this.#refuse(`has an IPv4-mapped address; write ${address.toString()}`);
      }
      return { kind: 'ip', address: address.toString(), port: 0 };
    } catch (error) {
      if (error instanceof ForwardRuleError) throw error;
    }
    if (this.#strict && !isHostName(text) && !SRV_LABEL.test(text)) {
      return this.#refuse(`has ${JSON.stringify(text)}, which is neither an address nor a name`);
    }
    return { kind: 'name', label: text, port: 0 };
  }

  #path(path: string): string {
    // sun_path has 108 bytes, with the final NUL (unix(7)).
    if (Buffer.byteLength(path) > 107 || path.includes('\0')) {
      return this.#badShape('has a path too long for a unix socket (107 bytes)');
    }
    return path;
  }

  #defaults(v6: boolean): { bind: HostTarget; host: HostTarget } {
    const plan = this.#addresses;
    const at = (address: string): HostTarget => ({ kind: 'ip', address, port: 0 });
    const loopback = at(v6 ? '::1' : '127.0.0.1');
    return this.#direction === 'local'
      ? { bind: loopback, host: at(v6 ? plan.guest6 : plan.guest4) }
      : { bind: at(v6 ? plan.gateway6 : plan.gateway4), host: loopback };
  }

  /** Strict only: what could never carry anything. */
  #check(rule: ForwardRule): void {
    const { direction, bind, host, protocol } = rule;
    const guest = direction === 'local' ? host : bind;
    if (!this.#addresses.ipv6 && guest.kind === 'ip' && isV6(guest))
      this.#refuse('has an IPv6 address on the guest side, without IPv6');
    if (guest.kind === 'ip' && parseIpAddress(guest.address).isLoopback) this.#checkSplice(rule);
    if (direction === 'local') {
      if (bind.kind === 'unix' && portOf(host) === 0 && !rule.proxyIn) this.#refuse('has no guest port');
      return;
    }
    if (portOf(bind) === 0 && protocol === 'tcp') this.#refuse('has no port to listen on');
    if (host.kind === 'ip' && host.port === 0) this.#refuse('has no port to connect to');
    if (host.kind === 'name' && host.port === 0 && !SRV_LABEL.test(host.label))
      this.#refuse('has no port to connect to');
  }

  /** To or from the guest's loopback: it is for programs of the host alone, and nothing of the stack is in between. */
  #checkSplice({ direction, bind, host, protocol, proxyIn, proxyOut, rpc }: ForwardRule): void {
    if (rpc || proxyIn || proxyOut !== 0)
      this.#refuse("is to the guest's loopback or from it, which takes plain tcp or udp");
    if (direction === 'remote' && (host.kind === 'name' || (host.kind === 'unix' && protocol === 'udp')))
      this.#refuse("has no address where what comes from the guest's loopback is led to");
    if (direction === 'remote' || bind.kind === 'unix') return;
    if (bind.kind !== 'ip' || !parseIpAddress(bind.address).isLoopback)
      this.#refuse(
        "would open the guest's loopback to others than programs of this host: bind it to 127.0.0.1 or [::1]",
      );
  }
}

function isUnix(field: string): boolean {
  return field.startsWith('unix:/');
}

/** Puts `unix:/path`, written without brackets, together again. */
function joinUnixPath(fields: string[]): string[] {
  const at = fields.findIndex((field, i) => field === 'unix' && fields[i + 1]?.startsWith('/') === true);
  return at < 0 ? fields : fields.toSpliced(at, 2, `unix:${fields[at + 1]}`);
}

function isV6(end: { address: string }): boolean {
  return end.address.includes(':');
}

function withPort(end: HostTarget, port: number): HostTarget {
  return end.kind === 'unix' ? end : { ...end, port };
}

function portOf(end: HostTarget): number {
  return end.kind === 'unix' ? -1 : end.port;
}
