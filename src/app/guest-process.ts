/** The two things tslirp does, from a finished configuration to the end of the process. */
import type { AttachTarget, BessTarget, Config, DescriptorTarget, RunTarget } from '../config.ts';
import { logOf } from '../control/log.ts';
import type { Supervisor } from '../control/supervisor.ts';
import type { FlowReport } from '../engine/messages.ts';
import { EventHub } from '../expose/event-hub.ts';
import { watchNamespace } from '../sandbox/broker.ts';
import { type NamespaceRef, namespaceOfPath, namespaceOfProcess } from '../sandbox/namespace.ts';
import { tellEvents } from './event-outputs.ts';
import { FlowWatch } from './flow-watch.ts';
import { forwardLog } from './forward-log.ts';
import { onSignal } from './found.ts';
import { Ending, signalReady } from './lifecycle.ts';
import type { Logger } from './logger.ts';
import { OneGuest } from './one-guest.ts';
import { CommandError, RunCommand } from './run-command.ts';
import { sayError } from './say.ts';

/** How a front end speaks of what happens; each has its own words. */
export interface Voice {
  /** The socket at `path` waits for the guest's peer to connect. */
  waiting: (path: string) => void;
  /** Packets flow. */
  up: () => void;
  /** Whoever started us has been told that we are ready. */
  ready: (end: () => void) => void;
  exitRequested: () => void;
  /** Why there is no network, or none any more; not silenced by the log level. */
  failed: (error: unknown) => void;
}

/** `tslirp` itself says what goes wrong in one line. */
export const plainVoice: Voice = {
  waiting: () => undefined,
  up: () => undefined,
  ready: () => undefined,
  exitRequested: () => undefined,
  failed: (error) => sayError(`tslirp: ${error instanceof Error ? error.message : String(error)}\n`),
};

/** `tslirp attach`: serve a namespace or a link until it is gone or we are told to end; both are a clean end. */
export async function serveAttach(
  config: Config,
  target: AttachTarget | DescriptorTarget | BessTarget,
  supervisor: Supervisor,
  logger: Logger,
  voice: Voice = plainVoice,
): Promise<void> {
  const ending = new Ending(supervisor);
  let guest: OneGuest | undefined;
  const end = (why: string, reason = 'stop'): void => {
    if (!ending.started) logger.log('info', why);
    guest?.gone(reason);
    ending.finish(0);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    onSignal(signal, () => end(`${signal}: ending`));
  const fail = (error: unknown): void => {
    if (!ending.started) voice.failed(error);
    guest?.gone('failed');
    ending.finish(1);
  };
  const exitRequested = (): void => {
    if (!ending.started) voice.exitRequested();
    end('exit descriptor closed: ending');
  };
  const outputs = await openOutputs(config, logger, fail);
  if (outputs === undefined) return;
  guest = new OneGuest(config, supervisor, logger, outputs.events, {
    flows: outputs.flows,
    waiting: (path) => voice.waiting(path),
    exitRequested,
    linkGone: (reason) => end(`the link is gone (${reason}): ending`, 'link'),
    failed: (message) => fail(new Error(message)),
    forwardOpen: forwardLog(logOf(logger, config.guest.name), config.guest.forwards),
  });
  try {
    const from = target.kind === 'attach' ? namespaceOf(target) : target;
    const link = await guest.bringUp(from);
    if (!('kind' in from))
      watchNamespace(from, () => end('the network namespace is gone: ending', 'namespace'));
    voice.up();
    await guest.openApi(link);
    await guest.confine();
    guest.ready();
    signalReady(config.process.readyFd);
    voice.ready(exitRequested);
    logger.activate();
  } catch (error) {
    fail(error);
  }
}

/** Who hears of flows, and of what appears; undefined: not all of it can be opened. */
async function openOutputs(
  config: Config,
  logger: Logger,
  fail: (error: unknown) => void,
): Promise<{ flows: (event: FlowReport) => void; events: EventHub } | undefined> {
  try {
    const watch = new FlowWatch(config, logger);
    const events = new EventHub();
    await tellEvents(events, config.process.events);
    return { flows: (event) => watch.receive(event), events };
  } catch (error) {
    fail(error);
    return undefined;
  }
}

function namespaceOf({ pid, netnsPath, usernsPath }: AttachTarget): NamespaceRef {
  return pid === 0 ? namespaceOfPath(netnsPath, usernsPath) : namespaceOfProcess(pid, usernsPath);
}

/** `tslirp run`: serve a new namespace as long as the command in it runs, and end with its exit status. */
export async function serveRun(
  config: Config,
  target: RunTarget,
  supervisor: Supervisor,
  logger: Logger,
): Promise<void> {
  const ending = new Ending(supervisor);
  const outputs = await openOutputs(config, logger, (error) => {
    plainVoice.failed(error);
    ending.finish(1);
  });
  if (outputs === undefined) return;
  let command: RunCommand;
  try {
    command = new RunCommand(config, target);
  } catch (error) {
    plainVoice.failed(error);
    ending.finish(error instanceof CommandError ? error.status : 1);
    return;
  }
  let failed = false;
  const fail = (error: unknown): void => {
    if (failed || ending.started) return;
    failed = true;
    plainVoice.failed(error);
    // Where the data plane is gone nobody hears any more that the command has ended, and we end by ourselves.
    process.exitCode = 1;
    // A command without its network must not go on as if nothing had happened.
    command.terminate();
  };
  void command.ended.then((status) => {
    guest.gone(failed ? 'failed' : 'ended');
    ending.finish(failed ? 1 : status);
  });
  const guest = new OneGuest(config, supervisor, logger, outputs.events, {
    flows: outputs.flows,
    exitRequested: () => command.terminate(),
    linkGone: (reason) =>
      logger.log('error', `the interface is gone (${reason}): the command has no network`),
    failed: (message) => fail(new Error(message)),
    forwardOpen: forwardLog(logOf(logger, config.guest.name), config.guest.forwards),
  });
  try {
    const link = await guest.bringUp(namespaceOfProcess(await command.present));
    await guest.openApi(link);
    // Meanwhile the command prepares: the log library is loaded now, and what it has to say comes before the command.
    logger.activate();
    await command.prepared;
    await guest.confine();
    guest.ready();
    signalReady(config.process.readyFd);
    command.go();
  } catch (error) {
    fail(error);
  }
}
