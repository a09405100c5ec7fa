/** The process of `tslirp daemon`: tunnels for one embedder, at the other end of descriptors that it has left us. */

import { openTunnel } from '../../embed/open-tunnel.ts';
import type { LogLevel } from '../../embed/types.ts';
import { setParentDeathSignal } from '../../sys/process.ts';
import { ControlServer, type ServingEnd } from '../control-server.ts';
import { installation } from '../serve-control.ts';
import { pairOf, socketOf } from './streams.ts';

export interface DaemonOptions {
  /** A unix stream socket; or the other two. */
  controlFd?: number;
  controlReadFd?: number;
  controlWriteFd?: number;
  /** Where log lines go, instead of to the embedder. */
  logFd?: number;
  logLevel: LogLevel;
  exitWithParent?: boolean;
}

const EXIT_FAILED = 1;
const EXIT_PROTOCOL = 3;
const SIGTERM = 15;

/** What a signal adds to its number in an exit status. */
const SIGNALLED = 128;
const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM } as const;

/** Ends the process. */
export async function serveDaemon(
  {
    controlFd,
    controlReadFd = -1,
    controlWriteFd = -1,
    logFd,
    logLevel,
    exitWithParent = false,
  }: DaemonOptions,
  say: (line: string) => void,
): Promise<never> {
  const parent = process.ppid;
  if (exitWithParent) {
    setParentDeathSignal(SIGTERM);
    // It may have gone before that.
    if (process.ppid !== parent) process.exit(0);
  }
  const { passing, isDeaf, ...streams } =
    controlFd === undefined ? pairOf(controlReadFd, controlWriteFd) : socketOf(controlFd);
  const server = new ControlServer(streams, {
    open: openTunnel,
    installation: installation(),
    logLevel,
    isDeaf,
    own: [controlFd, controlReadFd, controlWriteFd, logFd].filter(
      (fd) => fd !== undefined && fd >= 0,
    ) as number[],
    ...(logFd === undefined ? {} : { log: { level: logLevel, sink: { fd: logFd } } }),
    ...(passing === undefined ? {} : { passing }),
  });
  let code: number | undefined;
  for (const [signal, number] of Object.entries(signals))
    process.on(signal, () => {
      // Of a parent that is gone it was said above that it would come.
      code ??= exitWithParent && process.ppid !== parent ? 0 : SIGNALLED + number;
      void server.end({ kind: 'stopped' });
    });
  process.on('uncaughtException', (error) => {
    say(`tslirp daemon: ${error.stack ?? String(error)}`);
    code ??= EXIT_FAILED;
    void server.end({ kind: 'stopped' });
  });
  const end = await server.ended;
  if (end.kind === 'fault') say(`tslirp daemon: ${end.fault.message}`);
  process.exit(code ?? exitCode(end));
}

function exitCode({ kind }: ServingEnd): number {
  return kind === 'fault' ? EXIT_PROTOCOL : 0;
}
