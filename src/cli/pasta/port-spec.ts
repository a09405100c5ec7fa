/**
 * What follows `-t`, `-u`, `-T` and `-U` of pasta, and of pesto:
 *
 *     spec    = "none" | [ listen "/" ] chunk { "," chunk }             listen: not with -T and -U
 *     listen  = address [ "%" interface ] | "*" [ "%" interface ] | "%" interface
 *     chunk   = ports [ ":" target ]                                     these ports
 *             | "~" ports                                                not these, wherever that stands
 *             | "all" [ ":" address ]                                    all but the ephemeral ones, as far as they can be had
 *             | "auto"                                                   each while there is a listener where it leads
 *     target  = [ address "/" ] ports | address
 *     ports   = number [ "-" number ]
 *
 * Addresses may be in brackets. With exclusions or "auto" alone all ports are meant.
 */
import type { PortRange, PortRule, PortScope } from '../../config.ts';
import { withRules } from '../../expose/port-rule.ts';
import { parseIpAddress } from '../../stack/wire/address.ts';
import { decimal } from '../values.ts';

/** One line, as pasta has it. */
export class PortSpecError extends Error {
  override readonly name = 'PortSpecError';
}

/** By its short name. `T` and `U` are about the guest's loopback, the others about the host. */
export type PortOption = 't' | 'u' | 'T' | 'U';

const PORT_MAX = 65535;
const INTERFACE_MAX = 15;
const ALL: PortRange = { first: 1, last: PORT_MAX };
/** Of the guest: where its loopback clients are. */
const LOOPBACK_DEVICE = 'lo';

/** Ports that lead somewhere. */
interface Chunk {
  range: PortRange;
  address: string;
  /** Where `range` leads. */
  target: PortRange;
}

interface Listen {
  address: string;
  device: string;
}

const LISTEN = /^(?<address>\*|[^%]*)(?:%(?<device>.*))?$/s;
const CHUNK = /^(?<ports>[^:]*)(?::(?<target>.*))?$/s;
const TARGET = /^(?:(?<address>.*)\/)?(?<ports>[^/]*)$/s;

export function protocolOf(option: PortOption): 'tcp' | 'udp' {
  return option === 't' || option === 'T' ? 'tcp' : 'udp';
}

/**
 * The rules of `spec` behind those that are there already. @throws PortSpecError and RuleRefused
 */
export function addPortSpec(
  option: PortOption,
  spec: string,
  rules: readonly PortRule[],
  scope: PortScope,
): PortRule[] {
  if (spec !== 'none') return withRules(rules, parsePortSpec(option, spec, scope), scope);
  if (rules.some(({ protocol }) => protocol === protocolOf(option)))
    throw new PortSpecError(`-${option} none conflicts with previous options`);
  return [...rules];
}

/** @throws PortSpecError */
export function parsePortSpec(option: PortOption, spec: string, scope: PortScope): PortRule[] {
  const invalid = (): PortSpecError => new PortSpecError(`Invalid port specifier '${spec}'`);
  const { listen, rest } = splitListen(option, spec, invalid);
  const words = rest.split(',');
  const excluded = words.filter((word) => word.startsWith('~')).map((word) => range(word.slice(1), invalid));
  const included = words.filter((word) => !word.startsWith('~') && word !== 'auto');
  const auto = words.includes('auto');
  const chunks: (Chunk & { bestEffort: boolean })[] = included.map((word) => {
    const all = /^all(?::(?<address>.+))?$/s.exec(word);
    if (all === null) return { ...readChunk(word, invalid), bestEffort: false };
    const to = all.groups?.['address'];
    return {
      range: ALL,
      address: to === undefined ? '' : address(to, invalid),
      target: ALL,
      bestEffort: true,
    };
  });
  if (chunks.length === 0) chunks.push({ range: ALL, address: '', target: ALL, bestEffort: true });
  return chunks.flatMap(({ range: wanted, address: targetAddress, target, bestEffort }) => {
    const without = bestEffort ? [...excluded, scope.ephemeral] : excluded;
    return pieces(wanted, without).map(
      (piece): PortRule => ({
        protocol: protocolOf(option),
        ...listenOf(listen, scope),
        range: piece,
        targetAddress,
        targetPort: target.first + piece.first - wanted.first,
        bestEffort,
        auto,
      }),
    );
  });
}

function splitListen(
  option: PortOption,
  spec: string,
  invalid: () => PortSpecError,
): { listen: Listen; rest: string } {
  const isInside = option === 'T' || option === 'U';
  const at = spec.indexOf('/');
  const before = spec.slice(0, Math.max(0, at));
  const { address: text = '', device } = LISTEN.exec(before)?.groups ?? {};
  // The address of a target may have been meant.
  if (at < 0 || (/^\d+(?:-\d+)?:/.test(before) && readAddress(text) === undefined))
    return { listen: { address: '', device: isInside ? LOOPBACK_DEVICE : '' }, rest: spec };
  if (isInside) throw new PortSpecError(`Listening address not allowed for -${option} ${spec}`);
  if (device === '' || (text === '' && device === undefined)) throw invalid();
  if (device !== undefined && device.length > INTERFACE_MAX)
    throw new PortSpecError(`Interface name '${device}' is too long (max ${INTERFACE_MAX})`);
  const isAny = text === '' || text === '*';
  return {
    listen: { address: isAny ? '' : address(text, invalid), device: device ?? '' },
    rest: spec.slice(at + 1),
  };
}

/** With one family, all addresses are those of it. */
function listenOf({ address: given, device }: Listen, { ipv4, ipv6 }: PortScope): Listen {
  if (given !== '' || ipv4 === ipv6) return { address: given, device };
  return { address: ipv4 ? '0.0.0.0' : '::', device };
}

function readChunk(word: string, invalid: () => PortSpecError): Chunk {
  const { ports = '', target } = CHUNK.exec(word)?.groups ?? {};
  const from = range(ports, invalid);
  if (target === undefined) return { range: from, address: '', target: from };
  const { address: before, ports: behind = '' } = TARGET.exec(target)?.groups ?? {};
  // An address alone: the ports are the same.
  if (before === undefined && readAddress(behind) !== undefined)
    return { range: from, address: address(behind, invalid), target: from };
  const to = range(behind, invalid);
  if (to.last - to.first !== from.last - from.first) throw invalid();
  return { range: from, address: before === undefined ? '' : address(before, invalid), target: to };
}

/** `0` is for the table to refuse. */
function range(text: string, invalid: () => PortSpecError): PortRange {
  const [, from = '', to = from] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  const [first, last] = [decimal(from), decimal(to)];
  if (first < 0 || last < first || last > PORT_MAX) throw invalid();
  return { first, last };
}

/** What is left of `whole` without what is excluded, in order. */
function pieces(whole: PortRange, excluded: readonly PortRange[]): PortRange[] {
  const left: PortRange[] = [];
  let { first } = whole;
  for (const gap of [...excluded].sort((one, other) => one.first - other.first)) {
    if (gap.first > whole.last) break;
    if (gap.first > first) left.push({ first, last: gap.first - 1 });
    first = Math.max(first, gap.last + 1);
  }
  if (first <= whole.last) left.push({ first, last: whole.last });
  return left;
}

function address(text: string, invalid: () => PortSpecError): string {
  const read = readAddress(text);
  if (read === undefined) throw invalid();
  return read;
}

function readAddress(text: string): string | undefined {
  try {
    return parseIpAddress(/^\[(.*)\]$/s.exec(text)?.[1] ?? text).toString();
  } catch {
    return undefined;
  }
}
