/**
 * The ports that lead to the other side by rules, put together: where listeners are seen, the forwards, and the socket at
 * which rules are changed. What needs the file system or a socket of its own is had before the sandbox closes.
 */
import type { PortRulesSpec } from '../config.ts';
import type { EngineClient } from '../control/engine-client.ts';
import type { Log } from '../control/log.ts';
import { NetlinkSource } from '../expose/netlink-source.ts';
import { PortTable } from '../expose/port-table.ts';
import { hostForwards, spliceForwards } from '../expose/rule-forwarding.ts';
import { RuleWatch } from '../expose/rule-watch.ts';
import type { Inside } from '../sandbox/broker.ts';
import { hasIpv6 } from './publishing.ts';

export class PortRules {
  readonly #watch: RuleWatch;

  private constructor(watch: RuleWatch) {
    this.#watch = watch;
  }

  /** Binds what the rules say. `inside`: by whom the guest's listeners are seen. Rejects with RuleRefused. */
  static async start(
    client: EngineClient,
    spec: PortRulesSpec,
    inside: Inside | null,
    log: Log,
  ): Promise<PortRules> {
    const { host, splice, loopback, scope, controlPath } = spec;
    const looks = controlPath !== '' || [...host, ...splice].some(({ auto }) => auto);
    const outside = looks ? await client.openSockets() : -1;
    const ends = { loopback, hasIpv6: hasIpv6() };
    const watch = new RuleWatch({
      host: new PortTable({
        ...{ engine: client, name: 'HOST' },
        forwardsOf: (rule, range) => hostForwards(rule, range, ends),
      }),
      splice: new PortTable({ engine: client, name: 'SPLICE', forwardsOf: spliceForwards }),
      scope,
      guestSockets: inside === null ? null : new NetlinkSource(inside.sockets),
      hostSockets: outside < 0 ? null : new NetlinkSource(outside),
      lost: (error) => log.log('warn', 'listeners cannot be followed any more', { reason: String(error) }),
    });
    await watch.start({ host, splice });
    if (watch.missing > 0)
      log.log(
        'info',
        `${watch.missing} ports that were to be taken as far as they can be had are not to be had`,
      );
    if (controlPath !== '') {
      const { serveRules } = await import('../api/rule-commands.ts');
      await serveRules(controlPath, watch, scope, (error) =>
        log.log('error', 'a request at the control socket failed', { reason: String(error) }),
      );
    }
    return new PortRules(watch);
  }

  stop(): Promise<void> {
    return this.#watch.stop();
  }
}
