/** What is logged of the forwards of the command line as they open: each, unless they are many. */
import type { ForwardSpec, HostTarget } from '../config.ts';
import type { OpenForward } from '../control/engine-client.ts';
import type { Log } from '../control/log.ts';
import { formatEndpoint } from '../stack/wire/address.ts';

/** More than these are counted only. */
const LINES_MAX = 32;

/** An end on the host, as people read it. */
export function endText(end: HostTarget): string {
  if (end.kind === 'unix') return `unix:${end.path}`;
  return formatEndpoint(end.kind === 'name' ? { address: end.label, port: end.port } : end);
}

/** To be called for each, in order. */
export function forwardLog(logger: Log, forwards: readonly ForwardSpec[]): (open: OpenForward) => void {
  let opened = 0;
  return ({ spec, listen }) => {
    opened++;
    if (forwards.length <= LINES_MAX) {
      const fields =
        spec.direction === 'local'
          ? { listen: endText(listen), guestEnd: formatEndpoint(spec.target) }
          : { guestEnd: formatEndpoint(spec.bind), hostEnd: endText(spec.target) };
      logger.log('info', `${spec.direction} forward open`, { protocol: spec.protocol, ...fields });
    } else if (opened === forwards.length) {
      logger.log('info', 'forwards open', { forwards: opened });
    }
  };
}
