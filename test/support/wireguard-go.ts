/**
 * A machine with another WireGuard than ours: a namespace with a cable to the "host", and wireguard-go in it with
 * wireguard-tools. What is inside its interface `wg0` is 10.9.0.0/24 and fd09::/64, the other end has .1 and ::1.
 */
import { bareNamespace, type Namespace } from './namespaces.ts';
import { must, type Running, run } from './processes.ts';
import { until } from './wait.ts';

export const OURS = { outer4: '10.77.0.1', outer6: 'fd77::1', inner4: '10.9.0.1', inner6: 'fd09::1' };
export const THEIRS = { outer4: '10.77.0.2', outer6: 'fd77::2', inner4: '10.9.0.2', inner6: 'fd09::2' };

/** Starts until it is there. */
const ATTEMPTS = 5;

export interface Keys {
  privateKey: string;
  publicKey: string;
}

export async function newKeys(): Promise<Keys> {
  const privateKey = (await must(['wg', 'genkey'])).trim();
  const publicKey = (await must(['wg', 'pubkey'], { input: `${privateKey}\n` })).trim();
  return { privateKey, publicKey };
}

export class WireGuardGo {
  readonly namespace: Namespace;
  readonly #anchor: Running;
  #config = '';
  #routes: string[] = [];
  process: Running | undefined;

  private constructor(namespace: Namespace, anchor: Running) {
    this.namespace = namespace;
    this.#anchor = anchor;
  }

  static async make(): Promise<WireGuardGo> {
    const { namespace, anchor } = await bareNamespace({ plain: true });
    const machine = new WireGuardGo(namespace, anchor);
    await must(['ip', '-batch', '-'], {
      input: `link add wgc0 type veth peer name eth0 netns ${namespace.pid}
link set wgc0 up
address add ${OURS.outer4}/24 dev wgc0
address add ${OURS.outer6}/64 dev wgc0 nodad
`,
    });
    await namespace.ip(
      'link set eth0 up',
      `address add ${THEIRS.outer4}/24 dev eth0`,
      `address add ${THEIRS.outer6}/64 dev eth0 nodad`,
    );
    // Its control socket has a place of its own, which need not be ours to write to.
    await namespace.must(['mount', '-t', 'tmpfs', 'run', '/run']);
    return machine;
  }

  /** Bring up `wg0` with `config` (as wg(8) has it), through which these addresses are reached. */
  async up(config: string, ...routes: string[]): Promise<void> {
    this.#config = config;
    this.#routes = routes;
    const { namespace } = this;
    const isUp = async (): Promise<boolean> => (await namespace.run(['wg', 'show', 'wg0'])).status === 0;
    let error: unknown;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // One that finds something left of the one before it may give up, or never get there.
      await this.process?.stop('SIGKILL');
      this.process = namespace.start(['wireguard-go', '-f', 'wg0']);
      error = await until(isUp, 'wireguard-go', 10_000, 50).catch((fault: unknown) => fault);
      if (error === undefined) break;
    }
    if (error !== undefined) throw new Error(`${String(error)}; it says: ${this.process?.stderr}`);
    await namespace.must(['sh', '-c', 'cat >/run/wg0.conf && wg setconf wg0 /run/wg0.conf'], {
      input: config,
    });
    await namespace.ip(
      'link set wg0 mtu 1420 up',
      `address add ${THEIRS.inner4}/24 dev wg0`,
      `address add ${THEIRS.inner6}/64 dev wg0 nodad`,
      ...routes.map((route) => `route add ${route} dev wg0`),
    );
  }

  /** Killed, and up again with the same keys. */
  async restart(): Promise<void> {
    await this.process?.stop('SIGKILL');
    await until(
      async () => (await this.namespace.run(['ip', 'link', 'show', 'wg0'])).status !== 0,
      'wg0 gone',
    );
    await this.up(this.#config, ...this.#routes);
  }

  /** Whether an echo request through the tunnel is answered within a second. */
  async pings(address: string): Promise<boolean> {
    return (await this.namespace.run(['ping', '-n', '-c', '1', '-W', '1', address])).status === 0;
  }

  async end(): Promise<void> {
    await this.process?.stop('SIGKILL');
    await this.#anchor.stop();
    await until(async () => (await run(['ip', 'link', 'show', 'wgc0'])).status !== 0, 'the cable gone');
  }
}
