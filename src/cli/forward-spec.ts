/**
 * From a forward rule to what the data plane is given: names resolved where the rule needs them at start (both ends of
 * a local forward, the guest's side of a remote one), the rest left as it is.
 */
import type { Endpoint, ForwardSource, ForwardSpec, HostEnd, HostTarget } from '../config.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { ForwardRule } from './forward-rule.ts';

/** Gives the address and port that a label stands for; rejects with one line. */
export type ResolveEnd = (label: string, port: number) => Promise<Endpoint>;

export interface ForwardOptions {
  /** A wildcard listener takes clients of both families, however it is written. */
  dualStackWildcards: boolean;
  /** Whom the guest sees as the client of a local forward. */
  source: ForwardSource;
  /** A remote forward at an address of loopback is one of the guest's namespace: its stack never hears of that. */
  splicesLoopback: boolean;
}

/** @throws whatever `resolve` rejects with */
export async function toForwardSpec(
  rule: ForwardRule,
  resolve: ResolveEnd,
  options: ForwardOptions,
): Promise<ForwardSpec> {
  const { direction, protocol, rpc } = rule;
  if (direction === 'remote') {
    const bind = await endpoint(rule.bind, resolve);
    return {
      direction,
      protocol,
      bind,
      target: rule.host,
      proxyHeader: rule.proxyOut,
      rpc,
      ...(options.splicesLoopback && isLoopback(bind) ? { inside: { device: '' } } : {}),
    };
  }
  const listen = await hostEnd(rule.bind, resolve);
  const wildcard = listen.kind === 'ip' && (listen.address === '0.0.0.0' || listen.address === '::');
  const dualStack = wildcard && options.dualStackWildcards;
  return {
    direction,
    protocol,
    listen: dualStack ? { ...listen, address: '::' } : listen,
    dualStack,
    target: await endpoint(rule.host, resolve),
    proxyHeader: rule.proxyIn,
    rpc,
    source: options.source,
    isIdle: false,
  };
}

function isLoopback({ address }: Endpoint): boolean {
  return parseIpAddress(address).isLoopback;
}

async function hostEnd(end: HostTarget, resolve: ResolveEnd): Promise<HostEnd> {
  if (end.kind !== 'name') return end;
  return { kind: 'ip', ...(await resolve(end.label, end.port)) };
}

async function endpoint(end: HostTarget, resolve: ResolveEnd): Promise<Endpoint> {
  if (end.kind === 'unix') throw new Error(`a unix socket (${end.path}) on the guest's side`);
  if (end.kind === 'name') return resolve(end.label, end.port);
  return { address: end.address, port: end.port };
}
