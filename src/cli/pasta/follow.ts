/**
 * The guest's network follows that of the host while it runs: its interface has the addresses and routes that the host's has
 * now, and so have DHCP, router advertisements and what stands for the host. The host is looked at once a second at most, and
 * only when it has something new to tell.
 *
 * Left out on purpose: the name of the interface and its MAC address stay, and so do flows, by whatever address they were begun.
 */
import { isDeepStrictEqual } from 'node:util';
import type { EngineClient } from '../../control/engine-client.ts';
import type { RouteSocket } from '../../template/route-socket.ts';
import { type GuestNetwork, guestNetwork } from './network.ts';
import type { PastaNetwork } from './pasta-config.ts';

const LOOK_MS = 1000;

export interface FollowedHost {
  /** As it was when `network` was made of it. */
  socket: Pick<RouteSocket, 'hasNews' | 'read'>;
  network: GuestNetwork;
}

type Changed = Pick<EngineClient, 'changeInterface' | 'update'>;

export class HostFollower {
  readonly #wish: PastaNetwork;
  readonly #socket: FollowedHost['socket'];
  readonly #client: Changed;
  readonly #say: (line: string) => void;
  #network: GuestNetwork;
  #isBusy = false;

  /** `say` is told what happens. */
  constructor(wish: PastaNetwork, host: FollowedHost, client: Changed, say: (line: string) => void) {
    this.#wish = wish;
    this.#socket = host.socket;
    this.#network = host.network;
    this.#client = client;
    this.#say = say;
  }

  /** From here on, as long as there is anything else to do. */
  start(): void {
    setInterval(() => void this.look(), LOOK_MS).unref();
  }

  async look(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      if (this.#socket.hasNews()) await this.#follow();
    } catch (error) {
      // The interface that was named is gone, for one: what was, holds until there is another.
      this.#say(`The host's network is not followed: ${(error as Error).message}`);
    } finally {
      this.#isBusy = false;
    }
  }

  async #follow(): Promise<void> {
    const before = this.#network;
    const now = guestNetwork(this.#wish, this.#socket.read(), before.families);
    const { plan: addresses, mappings, inside } = now;
    const isMoved =
      !isDeepStrictEqual(addresses, before.plan) || !isDeepStrictEqual(mappings, before.mappings);
    if (isMoved) await this.#client.update({ network: { addresses, mappings } });
    const { name } = before;
    const isChanged = !isDeepStrictEqual(inside, before.inside);
    if (isChanged && this.#wish.configure) this.#client.changeInterface(name, before.inside, inside);
    this.#network = { ...now, name };
    if (isMoved || isChanged) this.#say("The host's network has changed, and the guest's with it");
  }
}
