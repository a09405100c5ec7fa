/** Everything that ends slirpnetstack before it has started: its exit status, and what it says. */
import { DeviceError } from '../../device-error.ts';
import { MTU_MAX, MTU_MIN } from '../values.ts';
import { goErrorOf, goErrorText } from './go-errors.ts';
import type { Options } from './options.ts';

export const ExitStatus = {
  Usage: 2,
  ResolveBind: 246,
  Listen: 247,
  CreateNic: 248,
  CaptureHeader: 249,
  Capture: 250,
  Link: 251,
  FdAndNetns: 252,
  Device: 253,
  Metrics: 254,
} as const;
export type ExitStatus = (typeof ExitStatus)[keyof typeof ExitStatus];

export class StartError extends Error {
  readonly status: ExitStatus;
  /** For stderr. */
  readonly lines: readonly string[];

  constructor(status: ExitStatus, ...lines: string[]) {
    super(lines.at(-1));
    this.status = status;
    this.lines = lines;
  }
}

/** The namespace cannot be joined; `cause` as Go would put it. */
export function namespaceError(path: string, cause: string): StartError {
  const what = `joining net namespace "${path}": ${cause}`;
  return new StartError(
    ExitStatus.Device,
    `[!] Can't join netns ${path}: ${what}`,
    `Failed to open TUN/TAP: ${what}`,
  );
}

/** Why there is no link, from what the device room says. */
export function linkError(error: unknown, options: Options): StartError {
  if (!(error instanceof DeviceError)) {
    return new StartError(ExitStatus.CreateNic, `[!] Failed to createNIC: ${goErrorOf(error)}`);
  }
  const { interface: name, fd, pcap } = options;
  const cause = error.error === 0 ? error.message : goErrorText(error.error);
  switch (error.step) {
    case 'namespace':
      // What nsenter(1) says ends with the system's words.
      return namespaceError(options.netns, error.error === 0 ? lastPart(error.message) : cause);
    case 'lookup':
      return new StartError(
        ExitStatus.Device,
        `[!] GetMTU(${name}) = ${cause}`,
        `Failed to open TUN/TAP: ${cause}`,
      );
    case 'tun':
    case 'attach':
    case 'configure':
    case 'address':
    case 'route':
      return new StartError(
        ExitStatus.Device,
        `[!] open(${name}) = ${cause}`,
        `Failed to open TUN/TAP: ${cause}`,
      );
    case 'descriptor':
    case 'link':
      return new StartError(
        ExitStatus.Link,
        `[!] Failed to create linkEP: syscall.SetNonblock(${fd}) failed: ${cause}`,
      );
    case 'capture':
      return new StartError(ExitStatus.Capture, `[!] Failed to open PCAP file: open ${pcap}: ${cause}`);
    case 'captureHeader':
      return new StartError(ExitStatus.CaptureHeader, `[!]Failed to sniff linkEP: write ${pcap}: ${cause}`);
  }
}

function lastPart(message: string): string {
  const part = message.slice(message.lastIndexOf(': ') + 1).trim();
  return part.charAt(0).toLowerCase() + part.slice(1);
}

/** The MTU given for a descriptor; 0 = not given. */
export function checkMtu(mtu: number): void {
  if (mtu === 0 || (mtu >= MTU_MIN && mtu <= MTU_MAX)) return;
  const range = `accepted: ${MTU_MIN} to ${MTU_MAX}`;
  throw new StartError(ExitStatus.Link, `[!] Failed to create linkEP: MTU ${mtu} is out of range; ${range}`);
}
