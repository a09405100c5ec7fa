/**
 * The `tslirp` program. What it loads, it loads in the order in which it is needed: the data-plane thread takes longest to
 * start, so it starts before the command line is even read, and everything else is loaded meanwhile.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { foundEnvironment, openDescriptors, restoringLines } from '../app/found.ts';
import { loadAgain } from '../app/load-again.ts';
import { ownProcess } from '../app/own-process.ts';
import type { GuestCommand } from '../app/run-command.ts';
import { sayError, sayOut } from '../app/say.ts';
import { type Config, processLimits } from '../config.ts';
import { Supervisor } from '../control/supervisor.ts';
import type { TslirpError } from '../embed/errors.ts';
import { packageRoot, packageVersion } from '../package-root.ts';
import { brokerEnd, isBadGuess } from '../sandbox/broker.ts';
import type { ClientInvocation, DaemonInvocation, Invocation, parseArguments } from './options.ts';

/** Exit status of a command line that cannot be used. */
const EXIT_USAGE = 2;
/** Of an installation that is not what was signed. */
const EXIT_INTEGRITY = 4;

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
async function resolveNames({ config, allow, deny, forwards, source, more }: Invocation): Promise<void> {
  if (allow.length > 0 || deny.length > 0) {
    const { resolveAllow, resolveRules } = await import('../control/names/rule-names.ts');
    const [allowed, denied] = await Promise.all([resolveAllow(allow), resolveRules(deny)]);
    for (const { guest } of [config, ...more])
      guest.policy = { ...guest.policy, allow: allowed, deny: denied };
  }
  const guests = [{ guest: config.guest, forwards }, ...more].filter((each) => each.forwards.length > 0);
  if (guests.length === 0) return;
  const [{ Resolver }, { toForwardSpec }] = await Promise.all([
    import('../control/names/resolver.ts'),
    import('./forward-spec.ts'),
  ]);
  const resolver = new Resolver();
  for (const each of guests) {
    const specs = each.forwards.map((rule) =>
      toForwardSpec(rule, (label, port) => resolver.resolve(label, port), {
        dualStackWildcards: false,
        splicesLoopback: true,
        source,
      }),
    );
    each.guest.forwards = await Promise.all(specs);
  }
}

/** What can only be told by trying. Rejects with one line. */
async function settle(invocation: Invocation): Promise<void> {
  const { source4, source6 } = invocation.config.guest;
  if (source4 !== '' || source6 !== '') {
    const { checkSource } = await import('./source-check.ts');
    if (source4 !== '') await checkSource('--source-ipv4', source4);
    if (source6 !== '') await checkSource('--source-ipv6', source6);
  }
  const targets = [invocation.config, ...invocation.more].map(({ guest }) => guest.target);
  const remote = invocation.config.guest.tunnel?.remote ?? null;
  if (remote !== null) await (await import('./wireguard-endpoints.ts')).resolveEndpoint(remote, 'the tunnel');
  if (targets.some(({ kind }) => kind === 'listen' || kind === 'dial')) {
    const { settlePlaces } = await import('./link-places.ts');
    // One after the other: each has a place of its own.
    for (const target of targets) await settlePlaces(target);
  }
  const peers = targets.filter((target) => target.kind === 'wireguard');
  if (peers.length > 0) await (await import('./wireguard-endpoints.ts')).resolveEndpoints(peers);
  await resolveNames(invocation);
}

/** The command of `run` may have words that bin/tslirp took for options: start again as it should have been. */
function startAgain({ process: { sandbox }, guest: { target } }: Config): void {
  loadAgain().startAgain({
    program: process.argv0,
    args: process.argv.slice(2),
    environment: {
      ...foundEnvironment(),
      TSLIRP_FOR: target.kind === 'run' ? 'run' : 'attach',
      TSLIRP_HOW: sandbox.mountTree ? 'confined filtered' : 'plain',
    },
    restoring: restoringLines(),
    inherited: openDescriptors,
    broker: brokerEnd,
  });
}

async function serve({ config, more }: Invocation, supervisor: Supervisor): Promise<void> {
  if (isBadGuess(config.process.sandbox.mountTree)) startAgain(config);
  const [{ serveGuests, serveRun }, { RunCommand }, { Logger }] = await Promise.all([
    import('../app/guest-process.ts'),
    import('../app/run-command.ts'),
    import('../app/logger.ts'),
  ]);
  const logger = new Logger(config.process.logLevel);
  const { target } = config.guest;
  if (target.kind === 'run') {
    const start = (): GuestCommand => new RunCommand(config, target);
    await serveRun(config, { start, signals: [] }, supervisor, logger);
  } else {
    const guests = [config.guest, ...more.map(({ guest }) => guest)];
    await serveGuests(config.process, guests, supervisor, logger);
  }
}

/** The thread for what looks like a command that needs it. */
function startEngine(args: readonly string[]): Supervisor | undefined {
  const [command = ''] = args;
  if (!['run', 'attach', 'serve', 'tunnel'].includes(command)) return;
  if (['--help', '-h', '--print-config'].some((option) => args.includes(option))) return;
  const debug = /\0--log-level[=\0](debug|trace)(\0|$)/.test(args.join('\0'));
  const wireguard = args.some((word) => /^(--link=)?wireguard:/.test(word));
  const tunnel = command === 'tunnel' || args.some((word) => /^(--link=)?tunnel:/.test(word));
  return new Supervisor({ limits: processLimits, debug, wireguard, tunnel, broker: brokerEnd });
}

/** Undefined: it cannot be used, and that was said. */
async function read(args: readonly string[]): Promise<ReturnType<typeof parseArguments> | undefined> {
  const { parseArguments: parse } = await import('./options.ts');
  let invocation: ReturnType<typeof parseArguments>;
  try {
    invocation = parse(args, packageVersion());
  } catch (error) {
    refuse(error);
    return undefined;
  }
  try {
    if ('config' in invocation) await settle(invocation);
  } catch (error) {
    tell(error as Error);
    return undefined;
  }
  return invocation;
}

async function request({ question, options }: ClientInvocation): Promise<void> {
  const { ask } = await import('./client.ts');
  try {
    process.exitCode = await ask(question, options);
  } catch (error) {
    refuse(error);
  }
}

/** Before anything of the stack is loaded. Ends the process when it is not what was signed. */
async function verifyOwn({ publicKey }: DaemonInvocation['daemon']): Promise<void> {
  if (publicKey === undefined) return;
  const { verifyInstallation } = await import('../embed/integrity/verify.ts');
  try {
    await verifyInstallation({ root: fileURLToPath(packageRoot), publicKey: readFileSync(publicKey) });
  } catch (error) {
    const { message, detail } = error as TslirpError;
    sayError(`tslirp daemon: INTEGRITY reason=${detail?.['reason']}: ${message}\n`);
    process.exit(EXIT_INTEGRITY);
  }
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const started = startEngine(args);
  const invocation = await read(args);
  if (invocation !== undefined && 'config' in invocation && !invocation.printsConfig) {
    // The command of `run` may have had an option like --help.
    const { limits } = invocation.config.process;
    await serve(invocation, started ?? new Supervisor({ limits, debug: false, broker: brokerEnd }));
    return;
  }
  if (invocation !== undefined) {
    if ('text' in invocation) sayOut(invocation.text);
    else if ('config' in invocation) {
      const { printConfig } = await import('./print-config.ts');
      printConfig(
        invocation.config,
        invocation.more.map(({ guest }) => guest),
      );
    } else if ('versionOf' in invocation) {
      const { describeInstallation } = await import('../daemon/serve-control.ts');
      sayOut(`${JSON.stringify(describeInstallation())}\n`);
    } else if ('daemon' in invocation) {
      await verifyOwn(invocation.daemon);
      const { serveDaemon } = await import('../daemon/process/daemon.ts');
      await serveDaemon(invocation.daemon, (line) => sayError(`${line}\n`));
    } else await request(invocation);
  }
  await started?.stop();
}

ownProcess();
void main();
