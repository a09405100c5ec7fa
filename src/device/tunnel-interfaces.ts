/** The plain tunnels of a data plane, by our end of them. Loaded only where one is asked for. */
import type { AddressPlan } from '../config.ts';
import type { TunnelDevice } from '../device-spec.ts';
import { formatEndpoint } from '../stack/wire/address.ts';
import type { LinkServices } from './device-link.ts';
import type { OpenLink } from './open-link.ts';
import { TunnelInterface, type TunnelServices } from './tunnel-interface.ts';

/** Packets that a peer may have on their way to us: what fits into the socket's buffer. */
const SOCKET_QUEUE = 200;

export class TunnelInterfaces {
  readonly #services: TunnelServices;
  readonly #interfaces = new Map<string, TunnelInterface>();

  constructor(services: TunnelServices) {
    this.#services = services;
  }

  /** A link to the peer of `spec`, by an interface that is there or made now. @throws DeviceError, RangeError */
  open(spec: TunnelDevice, plan: AddressPlan, services: LinkServices): OpenLink {
    const { local, remote } = spec;
    const name = `udp://${formatEndpoint(local)}`;
    const notes: string[] = [];
    let tunnel = local.port === 0 ? undefined : this.#interfaces.get(name);
    if (tunnel === undefined) {
      if (spec.isExposed)
        notes.push('the tunnel is plain: whoever is on the way can read and forge what it carries');
      tunnel = new TunnelInterface(this.#services, spec, () => this.#interfaces.delete(name));
      if (local.port !== 0) this.#interfaces.set(name, tunnel);
    }
    const link = tunnel.join(services, spec, plan);
    if (local.port === 0 && remote === null) notes.push(`UDP port ${tunnel.port}`);
    return { link, info: { name, medium: 'ip', mtu: link.mtu, txQueueLen: SOCKET_QUEUE }, notes };
  }
}
