import type { ApiExposure } from '../../src/api/commands.ts';
import type { Listener, Published } from '../../src/expose/event.ts';
import { EventHub } from '../../src/expose/event-hub.ts';
import { RuleForwards } from '../../src/expose/rule-forwards.ts';

/** A process with a guest that has nothing yet, and nobody who publishes. */
export function exposure(): ApiExposure & { ruleForwards: RuleForwards } {
  const hub = new EventHub(() => 0);
  const publisher = (): Promise<never> => Promise.reject(new Error('nobody publishes'));
  return { hub, ruleForwards: new RuleForwards(hub.sink('g0')), publisher };
}

/** nginx on port 80 of every IPv4 address. */
export function listener(other: Partial<Listener> = {}): Listener {
  return {
    ...{ proto: 'tcp', family: 4, ip: '0.0.0.0', port: 80, v6only: false },
    ...{ process: 'nginx', pid: 4711, uid: 1000, inode: 12345, firstSeen: 1_795_348_800_000 },
    ...other,
  };
}

/** nginx at port 1080. */
export function published(other: Partial<Published> = {}): Published {
  return {
    proto: 'tcp',
    guestEnd: { ip: '0.0.0.0', port: 80 },
    hostEnd: { ip: '127.0.0.1', port: 1080 },
    ...{ reason: 'privileged', process: 'nginx', source: 'client' },
    ...other,
  };
}
