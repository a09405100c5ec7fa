/** Services as tests have them unless they say otherwise. */
import type { Service } from '../../src/expose/service.ts';

/** TCP `ip`:`port`, of nobody in particular. */
export function service(ip: string, port: number, more: Partial<Service> = {}): Service {
  return {
    ...{ proto: 'tcp', guestEnd: { ip, port }, dualStack: false, process: null },
    ...{ hostPort: 0, hostAddress: '', source: '' },
    ...more,
  };
}
