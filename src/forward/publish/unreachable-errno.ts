/** What the guest's "unreachable" comes to for a client of the host. */
import {
  ICMP4_HOST_UNREACHABLE,
  ICMP4_NET_UNREACHABLE,
  ICMP4_PORT_UNREACHABLE,
  ICMP4_PROTOCOL_UNREACHABLE,
  ICMP6_ADDRESS_UNREACHABLE,
  ICMP6_NO_ROUTE,
  ICMP6_PORT_UNREACHABLE,
} from '../../stack/wire/icmp.ts';
import { EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH } from '../../sys/errno.ts';

/** The errno that a connect(2) would end with at an "unreachable" of this code. */
export function unreachableErrno(isV4: boolean, code: number): number {
  switch (code) {
    case isV4 ? ICMP4_PORT_UNREACHABLE : ICMP6_PORT_UNREACHABLE:
    case isV4 ? ICMP4_PROTOCOL_UNREACHABLE : -1:
      return ECONNREFUSED;
    case isV4 ? ICMP4_NET_UNREACHABLE : ICMP6_NO_ROUTE:
      return ENETUNREACH;
    case isV4 ? ICMP4_HOST_UNREACHABLE : ICMP6_ADDRESS_UNREACHABLE:
      return EHOSTUNREACH;
    default:
      return EACCES;
  }
}
