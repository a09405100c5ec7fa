/**
 * Starting again in the same process, as a shell starts the programs in bin/: for `node bin/NAME` (bin/start.cjs), and where
 * it turns out that the first start was not the one that is wanted; and ending where nothing will be served. A bundle of its
 * own, because hardly anybody needs it; what it has to know it is therefore given.
 */
import { closeSync, readdirSync } from 'node:fs';
import { becomeProgram, waitForChild } from '../sys/process.ts';
import { isInherited } from './inherited.ts';

export interface Start {
  /** One of bin/. */
  program: string;
  args: readonly string[];
  /** In it, what it is not to guess (bin/start.sh). */
  environment: Readonly<Record<string, string | undefined>>;
  /** Lines of a shell that make the process what it was. */
  restoring: readonly string[];
  broker: { fd: number; pid: number } | null;
  /** Descriptors beyond the standard streams that it had. */
  inherited: readonly number[];
}

/** Those, as long as nothing of ours has opened any. */
export function inheritedDescriptors(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => fd > 2 && isInherited(fd));
}

/** What it does at our end is done when this returns, and it is collected. */
export function endBroker({ fd, pid }: { fd: number; pid: number }): void {
  closeSync(fd);
  waitForChild(pid);
}

/** Returns only when it cannot be done. */
export function startAgain({ program, args, environment, restoring, broker, inherited }: Start): void {
  if (broker !== null) endBroker(broker);
  const script = [...restoring, 'exec sh "$@"'].join('\n');
  const variables = { ...environment, TSLIRP_NODE: process.execPath };
  becomeProgram('/bin/sh', ['sh', '-c', script, 'sh', program, ...args], [0, 1, 2, ...inherited], variables);
}
