/** What is logged of the guest's services and the ports of the host that lead to them. */
import type { Log } from '../control/log.ts';
import type { End, GuestEvent, PortReason } from '../expose/event.ts';
import { formatEndpoint } from '../stack/wire/address.ts';

const reasons: Record<PortReason, (port: number) => string> = {
  same: () => '',
  fixed: () => ' (by a port map)',
  privileged: (port) => ` (${port} needs a privilege)`,
  busy: (port) => ` (${port} is in use)`,
  random: () => ' (no better port is free)',
};

function place(proto: string, { ip, port }: End): string {
  return `${proto} ${formatEndpoint({ address: ip, port })}`;
}

/** The name is the guest's choice. */
function nameOf(process: string | null): string {
  return process === null ? '' : `${process.replace(/[^ -~]/g, '?')} at `;
}

/** To be called with each event. */
export function publishLog(log: Log): (event: GuestEvent) => void {
  return (event) => {
    switch (event.type) {
      case 'forward.added': {
        const { proto, guestEnd, hostEnd, reason, process } = event;
        const why = reasons[reason](guestEnd.port);
        log.log(
          'info',
          `${nameOf(process)}${place(proto, guestEnd)} is reached at ${place(proto, hostEnd)}${why}`,
        );
        return;
      }
      case 'forward.removed':
        log.log('info', `${place(event.proto, event.hostEnd)} leads nowhere any more`);
        return;
      case 'forward.failed':
      case 'forward.warning':
      case 'forward.skipped':
        log.log('warn', `${place(event.proto, event.guestEnd)}: ${event.type}`, { reason: event.reason });
        return;
      default:
    }
  };
}
