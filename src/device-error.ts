/**
 * Why there is no link, told so that each front end can print its own line: how far we came, and the errno of the system
 * call that ended it.
 */

/**
 * In order: entering the namespace, opening /dev/net/tun there, looking the interface up, attaching to it (or creating it),
 * configuring it, its IPv4 addresses and routes. `descriptor`: one that is none, or cannot be a link; `link`: anything else about a link that is no interface. `capture`, `captureHeader`: opening the
 * capture file, writing the first bytes of it.
 */
export type DeviceStep =
  | 'namespace'
  | 'tun'
  | 'lookup'
  | 'attach'
  | 'configure'
  | 'address'
  | 'route'
  | 'descriptor'
  | 'link'
  | 'capture'
  | 'captureHeader';

export class DeviceError extends Error {
  readonly step: DeviceStep;
  /** A positive errno; 0 = it was no system call that failed. */
  readonly error: number;

  /** `message` is one line that says it all. */
  constructor(step: DeviceStep, error: number, message: string) {
    super(message);
    this.step = step;
    this.error = error;
  }
}
