import { sayOut } from '../app/say.ts';
import type { GuestConfig, ProcessConfig } from '../config.ts';
import { shownPolicy } from '../firewall/verdict.ts';

/** What `--print-config` is for: the configuration as JSON on standard output. `more`: guests besides the first. */
export function printConfig(
  { process, guest }: { process: ProcessConfig; guest: GuestConfig },
  more: readonly GuestConfig[] = [],
): void {
  const shown = (one: GuestConfig): object => ({ ...one, policy: shownPolicy(one.policy) });
  const guests = more.length === 0 ? { guest: shown(guest) } : { guests: [guest, ...more].map(shown) };
  // Keys are bytes, and nothing else is.
  const secret = (_: string, value: unknown): unknown => (value instanceof Uint8Array ? '(a key)' : value);
  sayOut(`${JSON.stringify({ process, ...guests }, secret, 2)}\n`);
}
