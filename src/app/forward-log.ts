/** What is logged of the forwards of the command line as they open: each, unless they are many. */
import type { Endpoint, ForwardSpec, HostTarget } from '../config.ts';
import type { OpenForward } from '../control/engine-client.ts';
import type { Log } from '../control/log.ts';

/** More than these are counted only. */
const LINES_MAX = 32;

function endpointText({ address, port }: Endpoint): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function endText(end: HostTarget): string {
  if (end.kind === 'unix') return `unix:${end.path}`;
  return endpointText(end.kind === 'name' ? { address: end.label, port: end.port } : end);
}

/** To be called for each, in order. */
export function forwardLog(logger: Log, forwards: readonly ForwardSpec[]): (open: OpenForward) => void {
  let opened = 0;
  return ({ spec, listen }) => {
    opened++;
    if (forwards.length <= LINES_MAX) {
      const fields =
        spec.direction === 'local'
          ? { listen: endText(listen), guest: endpointText(spec.target) }
          : { guest: endpointText(spec.bind), host: endText(spec.target) };
      logger.log('info', `${spec.direction} forward open`, { protocol: spec.protocol, ...fields });
    } else if (opened === forwards.length) {
      logger.log('info', 'forwards open', { forwards: opened });
    }
  };
}
