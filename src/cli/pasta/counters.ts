/** `--stats`: what was counted since the last time, on standard error. */
import { sayError } from '../../app/say.ts';
import type { EngineClient } from '../../control/engine-client.ts';

/** Those that have changed, a line each; empty: none has. */
export function changes(
  counters: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): string {
  const changed = Object.entries(counters).filter(([name, count]) => count !== (before[name] ?? 0));
  return changed.map(([name, count]) => `${name.padEnd(32)} ${count}\n`).join('');
}

export function showCounters(client: EngineClient, everyMs: number): void {
  let before: Record<string, number> = {};
  const show = async (): Promise<void> => {
    const { counters } = await client.snapshot();
    sayError(changes(counters, before));
    before = counters;
  };
  setInterval(() => void show().catch(() => undefined), everyMs).unref();
}
