/** What an error of a host socket means to the guest: the errno a real network would have given it. */
import { Unreachable } from '../../stack/icmp/icmp.ts';
import {
  EACCES,
  ECONNREFUSED,
  ECONNRESET,
  EHOSTUNREACH,
  ENETDOWN,
  ENETUNREACH,
  EPERM,
  ETIMEDOUT,
} from '../../sys/errno.ts';

/** No ICMP: the connection is refused with RST. */
export const REFUSE = -1;

/** The ICMP reason for `-errno`, or `REFUSE` when the connection is to be refused with RST. */
export function unreachableFor(error: number): Unreachable | typeof REFUSE {
  switch (-error) {
    case ENETUNREACH:
    case ENETDOWN:
      return Unreachable.Net;
    case EHOSTUNREACH:
    case ETIMEDOUT:
      return Unreachable.Host;
    case EACCES:
    case EPERM:
      return Unreachable.Prohibited;
    default:
      return REFUSE;
  }
}

/** Whether it is somebody out there, and not the host itself, that a connect failed with `errno` (positive) for. */
export function isOutsideFault(errno: number): boolean {
  return errno === ECONNREFUSED || errno === ECONNRESET || errno === EHOSTUNREACH || errno === ETIMEDOUT;
}
