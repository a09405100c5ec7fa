/**
 * Beginning and end of service for one namespace: the ready descriptor, the target going away, and the one place that
 * ends the process.
 *
 * Polling, because the kernel offers no notice that covers it: a namespace outlives the process or file it was named by
 * when others are in it, and our own open TAP keeps it alive even when nobody is.
 */
import { closeSync, readdirSync, statSync, writeSync } from 'node:fs';
import type { Supervisor } from '../control/supervisor.ts';
import { isConfined } from '../sandbox/launcher.ts';
import type { NamespaceRef } from '../sandbox/namespace.ts';
import { processNetwork, processStartTime } from '../sandbox/namespace.ts';

/** The target is noticed to be gone within this and one scan of /proc. */
const POLL_MS = 200;
/** The data plane leaves within one turn; a process that does not end is worse than one that ends badly. */
const STOP_TIMEOUT_MS = 5000;

interface FileId {
  dev: number;
  ino: number;
}

function fileId(path: string): FileId | undefined {
  try {
    const { dev, ino } = statSync(path);
    return { dev, ino };
  } catch {
    return undefined;
  }
}

/** Answers whether a network namespace is still there to be served. */
export class TargetWatch {
  private readonly namespace: NamespaceRef;
  private readonly identity: FileId | undefined;
  /** A process in the namespace, after the one we were given has ended, or the file is gone. */
  private member = 0;

  /** Taken while the target exists. */
  constructor(namespace: NamespaceRef) {
    this.namespace = namespace;
    this.identity = fileId(namespace.pid === 0 ? namespace.netPath : processNetwork(namespace.pid));
  }

  isGone(): boolean {
    const { pid, startTime, netPath } = this.namespace;
    if (this.identity === undefined) return true;
    if (pid === 0 ? this.isTarget(netPath) : processStartTime(pid) === startTime) return false;
    if (this.member !== 0 && this.isTarget(this.networkOf(this.member))) return false;
    this.member = this.findMember();
    return this.member === 0;
  }

  /** What is compared: of the same kind as that by which the namespace was named. */
  private networkOf(pid: number): string {
    return this.namespace.pid === 0 ? `/proc/${pid}/ns/net` : processNetwork(pid);
  }

  private isTarget(path: string): boolean {
    const id = fileId(path);
    return id !== undefined && id.dev === this.identity?.dev && id.ino === this.identity.ino;
  }

  private findMember(): number {
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      // Our own namespace may be the target; we do not count as a guest.
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      if (this.isTarget(this.networkOf(pid)) && processStartTime(pid) !== '') return pid;
    }
    return 0;
  }
}

/** Calls back once, as soon as the target is gone. Returns what ends the watch. */
export function watchTarget(namespace: NamespaceRef, gone: () => void): () => void {
  // We are not going to see it; control/confinement has somebody else look.
  if (isConfined) return () => undefined;
  const target = new TargetWatch(namespace);
  const timer = setInterval(() => {
    if (!target.isGone()) return;
    clearInterval(timer);
    gone();
  }, POLL_MS);
  return () => clearInterval(timer);
}

/**
 * Tell whoever started us that packets flow: the byte `1`, and then the end of the stream. Does nothing for −1. The
 * standard streams stay open: what is opened next would take their place, and get what is meant for them.
 */
export function signalReady(fd: number): void {
  if (fd < 0) return;
  try {
    writeSync(fd, '1');
  } catch {
    // The reader has gone; that is its own business.
  }
  if (fd <= 2) return;
  try {
    closeSync(fd);
  } catch {
    // Closed by somebody else already.
  }
}

/** End the process with `code` after the data plane has ended. Further calls change nothing. */
export class Ending {
  private readonly supervisor: Supervisor;
  private begun = false;

  constructor(supervisor: Supervisor) {
    this.supervisor = supervisor;
  }

  get started(): boolean {
    return this.begun;
  }

  finish(code: number): void {
    if (this.begun) return;
    this.begun = true;
    process.exitCode = code;
    // A data plane that does not leave would also hold up process.exit for ever.
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), STOP_TIMEOUT_MS).unref();
    void this.supervisor.stop().then(() => process.exit(code));
  }
}
