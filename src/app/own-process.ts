/** What the runtime would have our process be, and we will not: called `node`, open to a debugger, and deaf to nohup(1). */
import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename } from 'node:path';
import { ignoredSignals } from './found.ts';

/** What may be ignored for a reason: by nohup(1), a shell without job control, or whoever keeps a process from being ended. */
const SIGNALS = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR2',
  'SIGALRM',
  'SIGTSTP',
  'SIGTTIN',
  'SIGTTOU',
] as const;

/** To be called before anything else. */
export function ownProcess(): void {
  // A listener takes the place of the one that opens the inspector, by which whoever reaches it runs code in here.
  process.on('SIGUSR1', () => undefined);
  closeInspector();
  // The runtime has set all of them to their default.
  for (const signal of SIGNALS)
    if (ignoredSignals.includes(constants.signals[signal])) process.on(signal, () => undefined);
  try {
    process.cwd();
  } catch {
    // It was removed. The data-plane thread asks for it too; in this one nobody can make files.
    process.chdir('/proc');
  }
  try {
    // The name in ps(1), top(1) and pgrep(1); bin/ leaves the one that we were called by.
    writeFileSync('/proc/self/comm', basename(process.argv0));
  } catch {
    // Then it stays as it is.
  }
}

/** Whether asked for by an option, or by a signal that came before the listener was there. */
export function closeInspector(): void {
  (process as unknown as { _debugEnd?: () => void })._debugEnd?.();
}
