/**
 * Which ports of the host a service of the guest may get, in the order in which they are tried: its own number first, then
 * the numbers that people guess next. The same order as Penguin's, so that services are found where they were with that.
 */
import { readFileSync } from 'node:fs';

const PORT_MAX = 65535;
/** From a busy port one goes up in thousands, then begins one port later. */
const STEP = 1000;
const SHIFTS = 66;

/** Ports to try for `port` where none below `minPort` may be bound. When there are no more, any other will do. */
export function* candidates(port: number, minPort: number): Generator<number, void, undefined> {
  for (let base = port; base < port + SHIFTS && base <= PORT_MAX; base++) {
    for (let candidate = base; candidate <= PORT_MAX; candidate += STEP) {
      if (candidate >= minPort) yield candidate;
    }
  }
}

const CAP_NET_BIND_SERVICE = 10n;
const USUAL_MIN_PORT = 1024;

/**
 * The lowest port that this process may bind. In a user namespace this is no more than a guess, because the network may
 * belong to another: whoever binds sees.
 */
export function lowestPort(): number {
  try {
    const [, rights = '0'] =
      /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
    if (((BigInt(`0x${rights}`) >> CAP_NET_BIND_SERVICE) & 1n) === 1n) return 1;
    return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'latin1'));
  } catch {
    return USUAL_MIN_PORT;
  }
}
