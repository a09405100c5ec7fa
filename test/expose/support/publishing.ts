/** A publisher on a host that has nothing but ports. */
import { defaultAddresses, defaultPublish, type PublishSpec } from '../../../src/config.ts';
import type { GuestEvent } from '../../../src/expose/event.ts';
import { Publisher } from '../../../src/expose/publisher.ts';
import { PortEngine } from '../../support/port-engine.ts';

export interface Publishing {
  engine: PortEngine;
  publisher: Publisher;
  events: GuestEvent[];
  /** What was said since it was asked last, in short. */
  said: () => Promise<string[]>;
}

export function publishing(
  more: Partial<PublishSpec> = {},
  minPort: number = 1024,
  engine: PortEngine = new PortEngine(),
): Publishing {
  const events: GuestEvent[] = [];
  const spec = { ...defaultPublish, bind: ['127.0.0.1'], ...more };
  const publisher = new Publisher({
    ...{ engine, spec, minPort, plan: defaultAddresses, hasIpv6: true },
    events: { emit: (event) => events.push(event) },
  });
  const said = async (): Promise<string[]> => {
    await publisher.settled();
    return events.splice(0).map((event) => {
      if (event.type === 'forward.added') {
        const { proto, guestEnd, hostEnd, reason } = event;
        return `+ ${proto} ${guestEnd.ip}:${guestEnd.port} ${hostEnd.ip}:${hostEnd.port} ${reason}`;
      }
      if (event.type === 'forward.removed') return `- ${event.proto} ${event.hostEnd.port} ${event.cause}`;
      if (event.type === 'forward.failed') return `! ${event.guestEnd.port} ${event.reason}`;
      return event.type;
    });
  };
  return { engine, publisher, events, said };
}
