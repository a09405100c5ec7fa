/**
 * The `tslirp` program. What it loads, it loads in the order in which it is needed: the data-plane thread starts as soon as
 * the command line is known to be good, and everything else is loaded while that thread starts.
 */
import { readFileSync } from 'node:fs';
import { Supervisor } from '../control/supervisor.ts';
import { type Invocation, parseArguments } from './options.ts';
import { UsageError } from './values.ts';

/** Exit status of a command line that cannot be used. */
const EXIT_USAGE = 2;

function version(): string {
  const manifest = new URL('../../../package.json', import.meta.url);
  const { version: text } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
  return text;
}

function refuse(error: unknown): void {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`tslirp: ${error.message}\n`);
  process.exitCode = EXIT_USAGE;
}

/** Names in rules become addresses. Rejects with one line. */
async function resolveNames({ config, allow, deny, forwards }: Invocation): Promise<void> {
  if (allow.length > 0 || deny.length > 0) {
    const { policy } = config.guest;
    const { resolveAllow, resolveRules } = await import('../control/names.ts');
    [policy.allow, policy.deny] = await Promise.all([resolveAllow(allow), resolveRules(deny)]);
  }
  if (forwards.length > 0) {
    const [{ Resolver }, { toForwardSpec }] = await Promise.all([
      import('../control/resolver.ts'),
      import('./forward-spec.ts'),
    ]);
    const resolver = new Resolver();
    const specs = forwards.map((rule) =>
      toForwardSpec(rule, (label, port) => resolver.resolve(label, port), { dualStackWildcards: false }),
    );
    config.forwards = await Promise.all(specs);
  }
}

async function serve(invocation: Invocation): Promise<void> {
  const { config } = invocation;
  const debug = config.logLevel === 'trace' || config.logLevel === 'debug';
  const supervisor = new Supervisor({ limits: config.limits, debug });
  const [{ serveAttach, serveRun }, { Logger }] = await Promise.all([
    import('../control/serve.ts'),
    import('../control/logger.ts'),
  ]);
  try {
    await resolveNames(invocation);
  } catch (error) {
    refuse(new UsageError((error as Error).message));
    await supervisor.stop();
    return;
  }
  const logger = new Logger(config.logLevel);
  const { target } = config;
  if (target.kind === 'run') await serveRun(config, target, supervisor, logger);
  else await serveAttach(config, target, supervisor, logger);
}

async function main(): Promise<void> {
  let invocation: ReturnType<typeof parseArguments>;
  try {
    invocation = parseArguments(process.argv.slice(2), version());
  } catch (error) {
    refuse(error);
    return;
  }
  if ('text' in invocation) process.stdout.write(invocation.text);
  else await serve(invocation);
}

await main();
