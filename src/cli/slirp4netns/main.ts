/**
 * `slirp4netns`: the command line of that program, its network and its words, on our engine. What callers read from it is
 * here: the summary on standard output, reasons on standard error, exit status 1 for whatever goes wrong.
 */
import { closeSync, openSync } from 'node:fs';
import { basename } from 'node:path';
import { SocketFileError } from '../../api/socket-file.ts';
import { dismissBroker } from '../../app/dismiss-broker.ts';
import type { Voice } from '../../app/guest-process.ts';
import { isInherited } from '../../app/inherited.ts';
import { ownProcess } from '../../app/own-process.ts';
import { sayError, sayOut } from '../../app/say.ts';
import type { Config, GuestConfig } from '../../config.ts';
import { errnoTextOf } from '../../control/errno-text.ts';
import { Supervisor } from '../../control/supervisor.ts';
import { packageVersion } from '../../package-root.ts';
import { brokerEnd, isConfined } from '../../sandbox/broker.ts';
import { configuration } from './configuration.ts';
import { parseOptions } from './options.ts';
import { summary } from './texts.ts';
import { ValueError } from './values.ts';

const EXIT_FAILURE = 1;

function refuse(stderr: string): void {
  sayError(stderr);
  process.exitCode = EXIT_FAILURE;
  dismissBroker();
}

/** Opening the namespace is what the original's child begins with. Returns what it says when it fails. */
function namespaceFault(target: GuestConfig['target']): string {
  if (target.kind !== 'attach') return '';
  const path = target.pid === 0 ? target.netnsPath : `/proc/${target.pid}/ns/net`;
  try {
    closeSync(openSync(path, 'r'));
    return '';
  } catch (error) {
    // In the sandbox another process opens it, with rights that we have no more.
    if (isConfined && (error as NodeJS.ErrnoException).code === 'EACCES') return '';
    return `${path}: ${errnoTextOf(error)}\nchild failed(1)\n`;
  }
}

function failure(error: unknown): string {
  if (error instanceof SocketFileError) {
    const cause =
      error.reason === ''
        ? 'the specified API socket path is too long (>= 108)'
        : `api_bindlisten: bind: ${error.reason}`;
    return `${cause}\ndo_slirp is exiting\ndo_slirp failed\nparent failed\n`;
  }
  return `${error instanceof Error ? error.message : String(error)}\nchild failed(1)\n`;
}

async function main(): Promise<void> {
  // bin/launch.pl leaves the name by which we were called there.
  const program = basename(process.argv0);
  const parsed = parseOptions(process.argv.slice(2), program, packageVersion());
  // What is printed as JSON is to be read as that.
  if (parsed.options?.printConfig === true) sayError(parsed.stdout);
  else sayOut(parsed.stdout);
  sayError(parsed.stderr);
  process.exitCode = parsed.status;
  if (parsed.options === undefined) {
    dismissBroker();
    return;
  }

  let config: Config;
  try {
    config = configuration(parsed.options);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    refuse(error.message);
    return;
  }
  if (parsed.options.printConfig) {
    (await import('../print-config.ts')).printConfig(config);
    dismissBroker();
    return;
  }
  const fault = namespaceFault(config.guest.target);
  if (fault !== '') {
    refuse(fault);
    return;
  }
  // Nobody waits behind a number that is not open; an exit descriptor like that counts as one that has closed.
  const own = config.process;
  const exitAtOnce = own.exitFd >= 0 && !isInherited(own.exitFd);
  if (exitAtOnce) own.exitFd = -1;
  if (own.readyFd >= 0 && !isInherited(own.readyFd)) own.readyFd = -1;

  const voice: Voice = {
    waiting: (path) => sayError(`Waiting for connection to ${path}\n`),
    up: () => sayOut(summary(config)),
    ready: (end) => {
      if (exitAtOnce) end();
    },
    exitRequested: () => sayError('exitfd event\ndo_slirp is exiting\n'),
    namespaceGone: () => undefined,
    failed: (error) => {
      sayError(failure(error));
      return 1;
    },
  };
  const supervisor = new Supervisor({ limits: own.limits, debug: false, broker: brokerEnd });
  const [{ serveGuests }, { Logger }] = await Promise.all([
    import('../../app/guest-process.ts'),
    import('../../app/logger.ts'),
  ]);
  await serveGuests(own, [config.guest], supervisor, new Logger(own.logLevel), voice);
}

ownProcess();
void main();
