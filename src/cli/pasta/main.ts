/**
 * `pasta`: the command line of that program, its network, files and words, on our engine. Errors are one line on standard
 * error and status 1; once the network is there, its number is in the PID file, and whoever waits for us goes on.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { dismissBroker } from '../../app/dismiss-broker.ts';
import { closeDescriptors, routeFds, waiterFd } from '../../app/found.ts';
import type { Endings, Voice } from '../../app/guest-process.ts';
import { signalReady } from '../../app/lifecycle.ts';
import { ownProcess } from '../../app/own-process.ts';
import type { GuestCommand } from '../../app/run-command.ts';
import { sayError, sayOut } from '../../app/say.ts';
import { errnoTextOf } from '../../control/errno-text.ts';
import { readResolvConf } from '../../control/resolv-conf.ts';
import { RESOLV_CONF } from '../../control/session.ts';
import { Supervisor } from '../../control/supervisor.ts';
import { packageVersion } from '../../package-root.ts';
import { brokerEnd } from '../../sandbox/broker.ts';
import { RouteSocket } from '../../template/route-socket.ts';
import { attachTarget, configuration } from './configuration.ts';
import { showCounters } from './counters.ts';
import { failureText, namespaceFault } from './failures.ts';
import { HostFollower } from './follow.ts';
import { PastaLog } from './log.ts';
import { LogFile } from './log-file.ts';
import { guestNetwork } from './network.ts';
import { parseOptions } from './options.ts';
import type { PastaConfig, PastaTarget } from './pasta-config.ts';
import { become, otherIds } from './run-as.ts';
import { rulesLines, versionLine } from './texts.ts';
import { networkLines, networkWarnings } from './told-network.ts';
import { PastaError } from './values.ts';

const EXIT_FAILURE = 1;
/** uname(2). */
const HOST_NAME_MAX = 64;

function refuse(text: string): void {
  sayError(text);
  process.exitCode = EXIT_FAILURE;
  dismissBroker();
}

/** The descriptor of the file for our number; -1: there is to be none. Throws `PastaError`. */
function openPidFile(path: string): number {
  if (path === '') return -1;
  const { O_CREAT, O_TRUNC, O_WRONLY } = constants;
  try {
    return openSync(path, O_CREAT | O_TRUNC | O_WRONLY, 0o600);
  } catch (error) {
    throw new PastaError(`Couldn't open PID file ${path}: ${errnoTextOf(error)}`);
  }
}

/** Who tells of the host's network. Throws `PastaError`. */
function hostSocket(): RouteSocket {
  const [fd = -1, newsFd = -1] = routeFds;
  if (fd < 0) throw new PastaError('Failed to open netlink socket');
  return new RouteSocket(fd, newsFd);
}

function namespaceName(target: PastaTarget): string {
  return target.kind === 'path' ? basename(target.netnsPath) : 'net';
}

/** What the command's host is called. */
function guestName(given: string): string {
  return given === '' ? `pasta-${hostname()}`.slice(0, HOST_NAME_MAX) : given;
}

async function serve(pasta: PastaConfig, warnings: readonly string[]): Promise<void> {
  closeDescriptors(pasta.fd);
  const { target, logFile, logSize, verbosity } = pasta;
  const header = `${versionLine(packageVersion())}: ${process.execPath} (${process.pid})`;
  const log = new PastaLog({
    verbosity,
    file: logFile === '' ? null : new LogFile(logFile, logSize, header),
  });
  for (const warning of warnings) log.warning(warning);
  namespaceFault(target);
  const pidFile = openPidFile(pasta.pidFile);
  const ids = otherIds(pasta.runAs, (text) => log.warning(text));
  const socket = hostSocket();
  const network = guestNetwork(pasta.network, socket.read());
  const names = readResolvConf(RESOLV_CONF);
  for (const warning of networkWarnings(pasta.network, network, names)) log.warning(warning);
  const config = configuration(pasta, network);

  const voice: Voice = {
    waiting: () => undefined,
    up: (client) => {
      const host = { socket, network };
      new HostFollower(pasta.network, host, client, (line) => log.info(line)).start();
      if (pasta.statsSeconds > 0) showCounters(client, pasta.statsSeconds * 1000);
    },
    ready: () => {
      for (const line of networkLines(pasta.network, network, names)) log.info(line);
      const { portRules } = config.guest;
      if (portRules !== undefined) for (const line of rulesLines(portRules)) log.info(line);
      if (ids !== null) become(ids);
      if (pidFile >= 0) {
        writeSync(pidFile, `${process.pid}\n`);
        closeSync(pidFile);
      }
      signalReady(waiterFd);
    },
    exitRequested: () => undefined,
    namespaceGone: () => log.info(`Namespace ${namespaceName(target)} is gone, exiting`),
    failed: (error) => {
      log.error(failureText(error));
      return EXIT_FAILURE;
    },
  };
  const beside = pasta.fd < 0 ? null : attachTarget(target);
  const endings: Endings = {
    signals: ['SIGTERM', 'SIGQUIT'],
    graceMs: 0,
    namespace: pasta.quitsWithNamespace ? 'name' : 'nothing',
    ...(beside === null ? {} : { beside }),
  };
  const supervisor = new Supervisor({ limits: config.process.limits, debug: false, broker: brokerEnd });
  const { serveGuests, serveRun } = await import('../../app/guest-process.ts');
  if (target.kind !== 'command') {
    await serveGuests(config.process, [config.guest], supervisor, log, voice, endings);
    return;
  }
  const { IsolatedCommand } = await import('../../app/isolated-command.ts');
  const spec = {
    command: target.command,
    user: !target.netnsOnly,
    hostname: guestName(pasta.network.hostname),
  };
  const start = (): GuestCommand => new IsolatedCommand(spec, (fault) => log.error(failureText(fault)));
  await serveRun(config, { start, signals: endings.signals }, supervisor, log, voice);
}

async function main(): Promise<void> {
  // bin/launch.pl leaves the name by which we were called there.
  const parsed = parseOptions(process.argv.slice(2), process.argv0, packageVersion());
  if (parsed.kind === 'text') {
    sayOut(parsed.text);
    dismissBroker();
    return;
  }
  const { warnings } = parsed;
  if (parsed.kind === 'refused') {
    refuse(`${warnings.map((line) => `${line}\n`).join('')}${parsed.text}`);
    return;
  }
  try {
    await serve(parsed.config, warnings);
  } catch (error) {
    if (!(error instanceof PastaError)) throw error;
    refuse(`${error.message}\n`);
  }
}

ownProcess();
void main();
