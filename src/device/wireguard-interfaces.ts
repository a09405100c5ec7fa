/**
 * The WireGuard interfaces of a data plane, by name. Loaded only where one is asked for: node:crypto takes a few milliseconds of
 * the start.
 */
import type { WireGuardDevice } from '../device-spec.ts';
import type { LinkServices } from './device-link.ts';
import type { OpenLink } from './open-link.ts';
import { WireGuardInterface, type WireGuardServices } from './wireguard-interface.ts';

/** Packets that a peer may have on their way to us: what fits into the socket's buffer. */
const SOCKET_QUEUE = 200;

export class WireGuardInterfaces {
  readonly #services: WireGuardServices;
  readonly #interfaces = new Map<string, WireGuardInterface>();

  constructor(services: WireGuardServices) {
    this.#services = services;
  }

  /** A link to the peer of `spec`, by an interface that is there or made now. @throws DeviceError, RangeError */
  open(spec: WireGuardDevice, services: LinkServices): OpenLink {
    const name = spec.interface;
    let wireguard = this.#interfaces.get(name);
    if (wireguard === undefined) {
      wireguard = new WireGuardInterface(this.#services, spec, () => this.#interfaces.delete(name));
      this.#interfaces.set(name, wireguard);
    }
    // The interface has made its own of it, and so have the others.
    spec.privateKey.fill(0);
    const link = wireguard.join(services, spec);
    const notes = spec.listenPort === 0 && spec.peer.endpoint === null ? [`UDP port ${wireguard.port}`] : [];
    return { link, info: { name, medium: 'ip', mtu: link.mtu, txQueueLen: SOCKET_QUEUE }, notes };
  }
}
