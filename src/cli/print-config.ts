import { sayOut } from '../app/say.ts';
import type { Config } from '../config.ts';
import { shownPolicy } from '../firewall/verdict.ts';

/** What `--print-config` is for: the configuration as JSON on standard output. */
export function printConfig({ process, guest }: Config): void {
  const shown = { process, guest: { ...guest, policy: shownPolicy(guest.policy) } };
  sayOut(`${JSON.stringify(shown, null, 2)}\n`);
}
