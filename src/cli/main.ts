/**
 * The `tslirp` program. What it loads, it loads in the order in which it is needed: the data-plane thread takes longest to
 * start, so it starts before the command line is even read, and everything else is loaded meanwhile.
 */

import { ownProcess } from '../app/own-process.ts';
import { sayError, sayOut } from '../app/say.ts';
import { defaultLimits } from '../config.ts';
import { Supervisor } from '../control/supervisor.ts';
import { packageVersion } from '../package-root.ts';
import type { Invocation } from './options.ts';

/** Exit status of a command line that cannot be used. */
const EXIT_USAGE = 2;

function tell(error: Error): void {
  sayError(`tslirp: ${error.message}\n`);
  process.exitCode = EXIT_USAGE;
}

function refuse(error: unknown): void {
  // What kind of error it is, is told by its code: its class is loaded late.
  if ((error as NodeJS.ErrnoException).code !== 'ERR_USAGE') throw error;
  tell(error as Error);
}

/** Names in rules become addresses. Rejects with one line. */
async function resolveNames({ config, allow, deny, forwards }: Invocation): Promise<void> {
  if (allow.length > 0 || deny.length > 0) {
    const { policy } = config.guest;
    const { resolveAllow, resolveRules } = await import('../control/names/rule-names.ts');
    [policy.allow, policy.deny] = await Promise.all([resolveAllow(allow), resolveRules(deny)]);
  }
  if (forwards.length > 0) {
    const [{ Resolver }, { toForwardSpec }] = await Promise.all([
      import('../control/names/resolver.ts'),
      import('./forward-spec.ts'),
    ]);
    const resolver = new Resolver();
    const specs = forwards.map((rule) =>
      toForwardSpec(rule, (label, port) => resolver.resolve(label, port), { dualStackWildcards: false }),
    );
    config.forwards = await Promise.all(specs);
  }
}

async function serve(invocation: Invocation, supervisor: Supervisor): Promise<void> {
  const { config } = invocation;
  const [{ serveAttach, serveRun }, { Logger }] = await Promise.all([
    import('../app/guest-process.ts'),
    import('../app/logger.ts'),
  ]);
  try {
    await resolveNames(invocation);
  } catch (error) {
    tell(error as Error);
    await supervisor.stop();
    return;
  }
  const logger = new Logger(config.logLevel);
  const { target } = config;
  if (target.kind === 'run') await serveRun(config, target, supervisor, logger);
  else await serveAttach(config, target, supervisor, logger);
}

/** The thread for what looks like a command that needs it. */
function startEngine(args: readonly string[]): Supervisor | undefined {
  const [command = ''] = args;
  if (!['run', 'attach'].includes(command) || args.includes('--help') || args.includes('-h')) return;
  const debug = /\0--log-level[=\0](debug|trace)(\0|$)/.test(args.join('\0'));
  return new Supervisor({ limits: defaultLimits, debug });
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  let supervisor = startEngine(args);
  const { parseArguments } = await import('./options.ts');
  let invocation: ReturnType<typeof parseArguments>;
  try {
    invocation = parseArguments(args, packageVersion());
  } catch (error) {
    refuse(error);
    await supervisor?.stop();
    return;
  }
  if ('text' in invocation) {
    sayOut(invocation.text);
    await supervisor?.stop();
    return;
  }
  // The command of `run` may have had an option like --help.
  supervisor ??= new Supervisor({ limits: invocation.config.limits, debug: false });
  await serve(invocation, supervisor);
}

ownProcess();
void main();
