/**
 * Remote forwards of a guest: which (protocol, address, port) on its side leads to a service of the host. Looked up
 * when a flow is opened, before the policy: a forward is the user's own word for exactly this address and port, and
 * opens nothing else.
 */
import type { HostTarget, RemoteForwardSpec } from '../../config.ts';
import type { OwnAddresses } from '../../stack/ip/own-addresses.ts';
import { IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { EADDRINUSE } from '../../sys/errno.ts';
import { ForwardError } from '../publish/forward-error.ts';

/** One of them, ready for use. */
export interface RemoteForward {
  readonly kind: 'remote';
  readonly id: number;
  readonly protocol: 'tcp' | 'udp';
  readonly bind: IpAddress;
  readonly bindPort: number;
  readonly target: HostTarget;
  /** Address of an `ip` target; not used for the other kinds. */
  readonly address: IpAddress;
  readonly scopeId: number;
  readonly proxyHeader: 0 | 1 | 2;
  readonly rpc: boolean;
}

export class RemoteForwards {
  /** Another number after every change. */
  version = 0;
  readonly #own: OwnAddresses;
  readonly #byId = new Map<number, RemoteForward>();
  /** By protocol and port; the few that share them are compared by address. */
  readonly #byPort = new Map<number, RemoteForward[]>();

  constructor(own: OwnAddresses) {
    this.#own = own;
  }

  /** Throws `ForwardError` when the place is taken. */
  add(id: number, spec: RemoteForwardSpec): void {
    const bind = parseIpAddress(spec.bind.address);
    const bindPort = spec.bind.port;
    if (this.match(spec.protocol, bind, bindPort) !== null) {
      throw new ForwardError(
        EADDRINUSE,
        `${spec.protocol} port ${bindPort} of ${bind.toString()} is forwarded already`,
      );
    }
    const { target } = spec;
    const zone = target.kind === 'ip' ? splitZone(target.address) : { address: '', scopeId: 0 };
    const forward: RemoteForward = {
      kind: 'remote',
      id,
      protocol: spec.protocol,
      bind,
      bindPort,
      target,
      address: target.kind === 'ip' ? parseIpAddress(zone.address) : new IpAddress(),
      scopeId: zone.scopeId,
      proxyHeader: spec.proxyHeader,
      rpc: spec.rpc,
    };
    const key = keyOf(spec.protocol, bindPort);
    const others = this.#byPort.get(key);
    if (others === undefined) this.#byPort.set(key, [forward]);
    else others.push(forward);
    this.#byId.set(id, forward);
    this.#own.claim(bind);
    this.version++;
  }

  remove(id: number): boolean {
    const forward = this.#byId.get(id);
    if (forward === undefined) return false;
    this.#byId.delete(id);
    const key = keyOf(forward.protocol, forward.bindPort);
    const left = (this.#byPort.get(key) ?? []).filter((other) => other !== forward);
    if (left.length === 0) this.#byPort.delete(key);
    else this.#byPort.set(key, left);
    this.#own.disclaim(forward.bind);
    this.version++;
    return true;
  }

  /** The forward at exactly this place, or null. */
  match(protocol: 'tcp' | 'udp', address: IpAddress, port: number): RemoteForward | null {
    const forwards = this.#byPort.get(keyOf(protocol, port));
    if (forwards === undefined) return null;
    for (let i = 0; i < forwards.length; i++) {
      const forward = forwards[i] as RemoteForward;
      if (forward.bind.equals(address)) return forward;
    }
    return null;
  }
}

function keyOf(protocol: 'tcp' | 'udp', port: number): number {
  return protocol === 'tcp' ? port : port | 0x10000;
}

/** `fe80::1%3`: literals carry the zone as a number, because only the control plane knows names of interfaces. */
export function splitZone(text: string): { address: string; scopeId: number } {
  const at = text.indexOf('%');
  if (at < 0) return { address: text, scopeId: 0 };
  return { address: text.slice(0, at), scopeId: Number(text.slice(at + 1)) };
}
