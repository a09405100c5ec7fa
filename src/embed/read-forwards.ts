/** Forwards as an embedder writes them: texts of the command line, or data. */
import { parseForwardRule } from '../cli/forward-rule.ts';
import { toForwardSpec } from '../cli/forward-spec.ts';
import type { AddressPlan, Endpoint, ForwardSpec, HostEnd } from '../config.ts';
import { Resolver } from '../control/names/resolver.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { badConfig } from './errors.ts';
import { Fields } from './fields.ts';
import type { ForwardConfig } from './types.ts';

/** Rejects with a `TslirpError`. */
export async function readForwards(
  forwards: readonly ForwardConfig[],
  addresses: AddressPlan,
): Promise<ForwardSpec[]> {
  if (!Array.isArray(forwards)) throw badConfig('forwards', 'want a list');
  const lists = forwards.map((forward, index) => readForward(`forwards.${index}`, forward, addresses));
  return (await Promise.all(lists)).flat();
}

/** One for each port of a range. Rejects with a `TslirpError`. */
export async function readForward(
  path: string,
  forward: ForwardConfig,
  addresses: AddressPlan,
): Promise<ForwardSpec[]> {
  try {
    if (typeof forward === 'string') return await readText(forward, 'local', addresses);
    if (typeof forward === 'object' && forward !== null && 'direction' in forward)
      return [checkSpec(path, forward)];
    const fields = new Fields(path, forward, ['local', 'remote']);
    const local = fields.text('local');
    const remote = fields.text('remote');
    if ((local === undefined) === (remote === undefined))
      throw badConfig(path, 'want a text, { local }, { remote }, or the forward as data');
    if (local !== undefined) return await readText(local, 'local', addresses);
    return await readText(remote as string, 'remote', addresses);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'BAD_CONFIG') throw error;
    throw badConfig(path, (error as Error).message, error);
  }
}

async function readText(
  text: string,
  direction: ForwardSpec['direction'],
  addresses: AddressPlan,
): Promise<ForwardSpec[]> {
  const rule = text.replace(/^(tcp|udp):(?!\/\/)/, '$1://');
  const rules = parseForwardRule(rule, direction, { strict: true, addresses });
  const resolver = new Resolver();
  return Promise.all(
    rules.map((each) =>
      toForwardSpec(each, (label, port) => resolver.resolve(label, port), {
        dualStackWildcards: false,
        splicesLoopback: false,
        source: '',
      }),
    ),
  );
}

/** Data that JavaScript may have got wrong. What is left out is as usual. */
function checkSpec(path: string, spec: ForwardSpec): ForwardSpec {
  const of = (key: string, value: unknown): Fields =>
    new Fields(`${path}.${key}`, value, ['kind', 'address', 'port', 'path', 'label']);
  const common = ['direction', 'protocol', 'rpc', 'proxyHeader'];
  const isLocal = spec.direction === 'local';
  const own = isLocal ? ['listen', 'dualStack', 'target', 'source', 'isIdle'] : ['bind', 'target'];
  const fields = new Fields(path, spec, [...common, ...own]);
  const protocol = fields.oneOf('protocol', ['tcp', 'udp']);
  if (protocol === undefined) throw badConfig(`${path}.protocol`, 'want tcp, udp');
  const rpc = fields.flag('rpc') ?? false;
  switch (spec.direction) {
    case 'local':
      return {
        ...{
          direction: 'local',
          protocol,
          rpc,
          listen: hostEnd(`${path}.listen`, of('listen', spec.listen)),
        },
        target: endpoint(`${path}.target`, of('target', spec.target)),
        dualStack: fields.flag('dualStack') ?? false,
        proxyHeader: fields.flag('proxyHeader') ?? false,
        source: fields.text('source') ?? '',
        isIdle: fields.flag('isIdle') ?? false,
      };
    case 'remote': {
      const target = of('target', spec.target);
      const proxyHeader = fields.number('proxyHeader', 0, 2) ?? 0;
      return {
        ...{ direction: 'remote', protocol, rpc, proxyHeader: proxyHeader as 0 | 1 | 2 },
        bind: endpoint(`${path}.bind`, of('bind', spec.bind)),
        target:
          target.oneOf('kind', ['ip', 'unix', 'name']) === 'name'
            ? { kind: 'name', label: target.text('label') ?? '', port: port(`${path}.target`, target) }
            : hostEnd(`${path}.target`, target),
      };
    }
    default:
      throw badConfig(`${path}.direction`, 'want local, remote');
  }
}

function port(path: string, end: Fields): number {
  const number = end.number('port', 0, 65535);
  if (number === undefined) throw badConfig(`${path}.port`, 'want a port');
  return number;
}

function endpoint(path: string, end: Fields): Endpoint {
  const address = end.text('address') ?? '';
  try {
    return { address: parseIpAddress(address).toString(), port: port(path, end) };
  } catch (error) {
    if ((error as { code?: unknown }).code === 'BAD_CONFIG') throw error;
    throw badConfig(`${path}.address`, `${JSON.stringify(address)} is no address`);
  }
}

function hostEnd(path: string, end: Fields): HostEnd {
  if (end.oneOf('kind', ['ip', 'unix']) !== 'unix') return { kind: 'ip', ...endpoint(path, end) };
  const socket = end.text('path') ?? '';
  if (!socket.startsWith('/')) throw badConfig(`${path}.path`, 'want the path of a socket');
  return { kind: 'unix', path: socket };
}
