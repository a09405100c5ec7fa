/** What tslirp does, from a finished configuration to the end of the process: serve guests that are there, or make one. */
import type { AttachTarget, Config, GuestConfig, ProcessConfig } from '../config.ts';
import type { EngineClient } from '../control/engine-client.ts';
import { logOf } from '../control/log.ts';
import type { Supervisor } from '../control/supervisor.ts';
import { DeviceError } from '../device-error.ts';
import { EventHub } from '../expose/event-hub.ts';
import { type WatchedFor, watchNamespace } from '../sandbox/broker.ts';
import { type NamespaceRef, namespaceOfPath, namespaceOfProcess } from '../sandbox/namespace.ts';
import { keepFiles, tellEvents } from './event-outputs.ts';
import { FlowWatch, flowLogOutput } from './flow-watch.ts';
import { forwardLog } from './forward-log.ts';
import { onSignal } from './found.ts';
import { Ending, signalReady } from './lifecycle.ts';
import type { LineOutput } from './line-output.ts';
import type { ProcessLog } from './logger.ts';
import { CommandError, type GuestCommand } from './run-command.ts';
import { sayError } from './say.ts';
import type { ServedGuest } from './served-guest.ts';
import { Serving } from './serving.ts';

/** Time for connections to published services after a signal. */
const GRACE_MS = 2000;

/** How a front end speaks of what happens; each has its own words. */
export interface Voice {
  /** The socket at `path` waits for the guest's peer to connect. */
  waiting: (path: string) => void;
  /** Packets of the first guest flow, and others'. */
  up: (client: EngineClient) => void;
  /** Whoever started us has been told that we are ready. */
  ready: (end: () => void) => void;
  exitRequested: () => void;
  namespaceGone: () => void;
  /** Why there is no network, or none any more; not silenced by the log level. The exit status. */
  failed: (error: unknown) => number;
}

/** What ends a process that serves guests, besides what they do. */
export interface Endings {
  /** Each is a clean end; other signals have their usual effect. */
  signals: readonly NodeJS.Signals[];
  /** Time for connections to published services after a signal. */
  graceMs: number;
  /** The end of a guest's namespace, as that is told: `WatchedFor`. */
  namespace: WatchedFor | 'nothing';
  /** A namespace besides those that guests are found by. */
  beside?: AttachTarget;
}

const usualEndings: Endings = {
  signals: ['SIGINT', 'SIGTERM', 'SIGHUP'],
  graceMs: GRACE_MS,
  namespace: 'inhabitants',
};

/** Of links for which none was given. */
const DEFAULT_MTU = 1500;
/** A descriptor was named that is none, or of no use. */
const EXIT_USAGE = 2;

/** `tslirp` itself says what goes wrong in one line. */
export const plainVoice: Voice = {
  waiting: () => undefined,
  up: () => undefined,
  ready: () => undefined,
  exitRequested: () => undefined,
  namespaceGone: () => undefined,
  failed: (error) => {
    sayError(`tslirp: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof DeviceError && error.step === 'descriptor' ? EXIT_USAGE : 1;
  },
};

/** `tslirp attach` and `serve`: serve guests until they are gone or we are told to end; both are a clean end. */
export async function serveGuests(
  config: ProcessConfig,
  guests: readonly GuestConfig[],
  supervisor: Supervisor,
  logger: ProcessLog,
  voice: Voice = plainVoice,
  endings: Endings = usualEndings,
): Promise<void> {
  const ending = new Ending(supervisor);
  let serving: Serving | undefined;
  let isLeaving = false;
  const end = (why: string, reason = 'stop', graceMs = 0): void => {
    if (!ending.started) logger.log('info', why);
    const finish = (): void => {
      serving?.gone(reason);
      ending.finish(0);
    };
    // Who says it twice does not want to wait.
    if (serving === undefined || isLeaving) finish();
    else void serving.unpublish(graceMs).then(finish);
    isLeaving = true;
  };
  for (const signal of endings.signals)
    onSignal(signal, () => end(`${signal}: ending`, 'stop', endings.graceMs));
  const fail = (error: unknown): void => {
    const status = ending.started ? 1 : voice.failed(error);
    serving?.gone('failed');
    ending.finish(status);
  };
  const exitRequested = (): void => {
    if (!ending.started) voice.exitRequested();
    end('exit descriptor closed: ending');
  };
  const outputs = await openOutputs(config, logger, fail);
  if (outputs === undefined) return;
  const { events, output } = outputs;
  serving = new Serving(config, supervisor, logger, events, {
    exitRequested,
    failed: (message) => fail(new Error(message)),
  });
  const all = serving;
  const serve = (guest: GuestConfig): ServedGuest => {
    const log = logOf(logger, guest.name);
    const watch = new FlowWatch(guest, logger, output);
    const served = all.add(guest, {
      flows: (event) => watch.receive(event),
      waiting: (path) => voice.waiting(path),
      linkGone: (text) => {
        void all.remove(served).then((left) => {
          if (left === 0 && doors.length === 0) end(`the link is gone (${text}): ending`, 'link');
          else log.log('warn', `the link is gone (${text}): the guest ends`);
        });
      },
      forwardOpen: forwardLog(log, guest.forwards),
    });
    return served;
  };
  const doors = guests.filter(({ target }) => target.kind === 'webSocket');
  try {
    const served = guests.filter((guest) => !doors.includes(guest)).map(serve);
    const links = await Promise.all(
      served.map((guest) => {
        const { target } = guest.config;
        if (target.kind === 'run' || target.kind === 'webSocket')
          throw new Error('a command cannot be served beside others');
        return guest.bringUp(target.kind === 'attach' ? namespaceOf(target) : target);
      }),
    );
    const targets = [
      ...guests.map(({ target }) => target),
      ...(endings.beside === undefined ? [] : [endings.beside]),
    ];
    for (const target of targets) {
      if (target.kind !== 'attach' || endings.namespace === 'nothing') continue;
      watchNamespace(
        namespaceOf(target),
        () => {
          voice.namespaceGone();
          end('the network namespace is gone: ending', 'namespace');
        },
        endings.namespace,
      );
    }
    const [first] = served;
    const [link] = links;
    if (first !== undefined) voice.up(first.client);
    if (first !== undefined && link !== undefined) await first.openApi(link);
    const opened = await openDoors(doors, all, serve, logger);
    await all.confine(doors);
    all.ready();
    for (const door of opened) door.admit();
    signalReady(config.readyFd);
    voice.ready(exitRequested);
    logger.activate();
  } catch (error) {
    fail(error);
  }
}

/** WebSockets, each of whose clients is a guest like the one that it is the target of. Rejects with one line. */
async function openDoors(
  doors: readonly GuestConfig[],
  all: Serving,
  serve: (guest: GuestConfig) => ServedGuest,
  logger: ProcessLog,
): Promise<{ admit: () => void }[]> {
  if (doors.length === 0) return [];
  // There may be no guest that was waited for.
  await all.loaded();
  const { WebSocketDoor } = await import('./web-socket-door.ts');
  return Promise.all(
    doors.map(async (config) => {
      const { target, name } = config;
      if (target.kind !== 'webSocket') throw new Error('no WebSocket');
      let clients = 0;
      const door = new WebSocketDoor({
        ...{ target, mtu: config.interface.mtu || DEFAULT_MTU, log: logOf(logger, name) },
        guest: async () => {
          const number = clients++;
          const guest = serve({ ...config, name: `${name}-${number}`, target: { kind: 'handed' } });
          const { otherEnd = -1 } = await all.bringUpLate(guest, { kind: 'handed' });
          return { fd: otherEnd };
        },
      });
      await door.listen();
      return door;
    }),
  );
}

/** Where flows are told, and who hears of what appears; undefined: not all of it can be opened. */
async function openOutputs(
  config: ProcessConfig,
  logger: ProcessLog,
  fail: (error: unknown) => void,
): Promise<{ output: LineOutput | null; events: EventHub } | undefined> {
  try {
    const output = flowLogOutput(config.flowLog);
    const events = new EventHub();
    await tellEvents(events, config.events);
    keepFiles(events, config.outDirectory, logger);
    return { output, events };
  } catch (error) {
    fail(error);
    return undefined;
  }
}

function namespaceOf({ pid, netnsPath, usernsPath }: AttachTarget): NamespaceRef {
  return pid === 0 ? namespaceOfPath(netnsPath, usernsPath) : namespaceOfProcess(pid, usernsPath);
}

/** How a command comes to be in namespaces of its own, and what ends us before it. */
export interface CommandStart {
  start: () => GuestCommand;
  /** A clean end of ours, which leaves the command to itself. */
  signals: readonly NodeJS.Signals[];
}

/** `tslirp run`: serve a new namespace as long as the command in it runs, and end with its exit status. */
export async function serveRun(
  config: Config,
  { start, signals }: CommandStart,
  supervisor: Supervisor,
  logger: ProcessLog,
  voice: Voice = plainVoice,
): Promise<void> {
  const ending = new Ending(supervisor);
  const outputs = await openOutputs(config.process, logger, (error) => ending.finish(voice.failed(error)));
  if (outputs === undefined) return;
  const watch = new FlowWatch(config.guest, logger, outputs.output);
  let command: GuestCommand;
  try {
    command = start();
  } catch (error) {
    const status = voice.failed(error);
    ending.finish(error instanceof CommandError ? error.status : status);
    return;
  }
  let failed = 0;
  const fail = (error: unknown): void => {
    if (failed !== 0 || ending.started) return;
    failed = voice.failed(error);
    // Where the data plane is gone nobody hears any more that the command has ended, and we end by ourselves.
    process.exitCode = failed;
    // A command without its network must not go on as if nothing had happened.
    command.terminate();
  };
  const leave = async (reason: string, status: number): Promise<void> => {
    await serving.unpublish(0);
    serving.gone(reason);
    ending.finish(status);
  };
  void command.ended.then((status) => leave(failed === 0 ? 'ended' : 'failed', failed || status));
  for (const signal of signals) onSignal(signal, () => void leave('stop', 0));
  const serving = new Serving(config.process, supervisor, logger, outputs.events, {
    exitRequested: () => command.terminate(),
    failed: (message) => fail(new Error(message)),
  });
  const guest = serving.add(config.guest, {
    flows: (event) => watch.receive(event),
    linkGone: (text) => logger.log('error', `the interface is gone (${text}): the command has no network`),
    forwardOpen: forwardLog(logOf(logger, config.guest.name), config.guest.forwards),
  });
  try {
    const namespace = namespaceOfProcess(await command.present);
    const { target } = config.guest;
    const link = await guest.bringUp(target.kind === 'descriptor' ? target : namespace);
    voice.up(guest.client);
    await guest.openApi(link);
    // Meanwhile the command prepares: the log library is loaded now, and what it has to say comes before the command.
    logger.activate();
    await command.prepared;
    await serving.confine();
    serving.ready();
    signalReady(config.process.readyFd);
    voice.ready(() => undefined);
    command.go();
  } catch (error) {
    fail(error);
  }
}
