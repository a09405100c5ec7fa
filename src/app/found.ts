/**
 * What the process was started with, as bin/launch.pl has noted it: variables that Node would have obeyed, ignored signals,
 * the limit of open files (which Node raises), descriptors. We leave it as it was; a command that we run is the broker's child, which has it all.
 * Started past bin/, nothing of it is known, and taken to be as usual.
 */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';

const KEPT = 'TSLIRP_KEPT_';

function numbers(text: string | undefined): readonly number[] {
  return text === undefined || text === '' ? [] : text.split(',').map(Number);
}

/** Removes what is only for us from the environment, and returns it. */
function takeNotes(): { notes: Map<string, string>; kept: Record<string, string> } {
  const kept: Record<string, string> = {};
  const { TSLIRP_FOUND: text = '' } = process.env;
  delete process.env['TSLIRP_FOUND'];
  for (const [name, value = ''] of Object.entries(process.env)) {
    if (!name.startsWith(KEPT)) continue;
    kept[name.slice(KEPT.length)] = value;
    delete process.env[name];
  }
  return {
    notes: new Map([...text.matchAll(/(\w+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value])),
    kept,
  };
}

const { notes, kept } = takeNotes();

/** Those of 0 to 2 that were closed; they lead to /dev/null since. */
export const closedStreams: readonly number[] = numbers(notes.get('closed'));
/** Numbers of signals that were ignored. */
export const ignoredSignals: readonly number[] = numbers(notes.get('ignored'));
const descriptors: number[] = [...numbers(notes.get('descriptors'))];
/** Open descriptors beyond the standard streams; those that `closeDescriptors` has closed are no more in it. */
export const openDescriptors: readonly number[] = descriptors;
/** Where whoever waits for us is told that we are ready (`go_to_background` of bin/launch.pl); -1: nobody does. */
export const waiterFd: number = Number(notes.get('ready') ?? -1);
/** A socket to syslogd, a message a write; -1: there is none. */
export const syslogFd: number = Number(notes.get('syslog') ?? -1);
/** Sockets by which the host's network is asked for, and news of it heard; empty: there are none. */
export const routeFds: readonly number[] = numbers(notes.get('routes'));
/** RLIMIT_NOFILE, the soft one, as ulimit(1) takes it; empty = not known. */
const openFilesLimit: string = notes.get('files') ?? '';

/** The environment as it was. */
export function foundEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, ...kept };
}

/** Lines for a shell that make its process what ours was. */
export function restoringLines(): string[] {
  const lines = closedStreams.map((fd) => `exec ${fd}>&-`);
  // SIGKILL and SIGSTOP are never ignored.
  if (ignoredSignals.length > 0) lines.push(`trap '' ${ignoredSignals.join(' ')}`);
  if (openFilesLimit !== '') lines.push(`ulimit -Sn ${openFilesLimit}`);
  return lines;
}

/** Close them, but for `kept`. */
export function closeDescriptors(kept: number): void {
  for (const fd of descriptors.splice(0)) {
    try {
      if (fd === kept) descriptors.push(fd);
      else closeSync(fd);
    } catch {
      // Closed already.
    }
  }
}

/** Listen to a signal, unless it was ignored when we were started: then it is still (own-process). */
export function onSignal(signal: NodeJS.Signals, listener: () => void): void {
  if (!ignoredSignals.includes(constants.signals[signal])) process.on(signal, listener);
}
