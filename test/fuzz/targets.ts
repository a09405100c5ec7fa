/** All fuzz targets, and running one: on its corpus, on random inputs, for a number of runs or a time. */
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { controlTarget } from './control-target.ts';
import { dnsTarget, ingressTarget } from './packet-targets.ts';
import type { Target } from './target.ts';
import { tcpTarget } from './tcp-target.ts';
import { apiTarget, argumentTarget, proxyTarget, ruleTarget } from './text-targets.ts';
import { wireguardTarget } from './wireguard-target.ts';

// Packets are for a fake kernel, which must be there before `sys` is loaded (lab.ts): what takes the real one comes later.
const { greetingTarget, streamTarget } = await import('./link-target.ts');
const { tunnelTarget } = await import('./tunnel-target.ts');

export const targets: readonly Target[] = [
  ingressTarget,
  tcpTarget,
  dnsTarget,
  wireguardTarget,
  tunnelTarget,
  streamTarget,
  greetingTarget,
  proxyTarget,
  apiTarget,
  controlTarget,
  ruleTarget,
  argumentTarget,
] as unknown as readonly Target[];

// Compiled code runs from dist; the corpus stays where it is.
const corpusUrl = new URL(
  import.meta.url.includes('/dist/') ? '../../../test/fuzz/corpus/' : './corpus/',
  import.meta.url,
);

/** The kept inputs of a target. */
export function corpus(target: Target): unknown[] {
  return readdirSync(corpusUrl)
    .filter((name) => name.startsWith(`${target.name}.`) && name.endsWith('.json'))
    .sort()
    .map((name) => JSON.parse(readFileSync(new URL(name, corpusUrl), 'utf8')) as unknown);
}

/** Run `target` on random inputs; how many. Throws fast-check's report of the smallest failing input. */
export async function runRandom(
  target: Target,
  seed: number,
  limit: { runs: number; ms: number },
): Promise<number> {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(target.arbitrary, async (input) => {
      runs++;
      await target.run(input);
    }),
    { seed, numRuns: limit.runs, interruptAfterTimeLimit: limit.ms, markInterruptAsFailure: false },
  );
  return runs;
}
