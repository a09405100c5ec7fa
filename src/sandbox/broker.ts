/**
 * Orders to the broker, the process that bin/launch.pl has put beside us (bin/broker.pl), and what it answers. There is none
 * when we were started past bin/, and where perl is missing.
 *
 * Orders are written here; answers are read by the data plane, as it also gets descriptors with them, and come as its
 * events. What is asked before that thread is there is answered when it is.
 */
import { closeSync, lstatSync, type Stats, statSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { DeviceError } from '../device-error.ts';
import { type NamespaceRef, processNetwork } from './namespace.ts';

function takeVariable(name: string): string {
  const { [name]: text = '' } = process.env;
  // For the programs that we start, the environment is as it was.
  delete process.env[name];
  return text;
}

const told = takeVariable('TSLIRP_BROKER');
const [fdText = '', pidText, how] = /^\d/.test(told) ? told.split(' ') : [];

/** Our end of the socket to it, and its number. */
export const brokerEnd: { fd: number; pid: number } | null =
  fdText === '' ? null : { fd: Number(fdText), pid: Number(pidText) };
/** We have next to no capabilities, and the broker can close the file system around us. */
export const isConfined: boolean = how === 'confined';

/** Whether bin/ has started us otherwise than it would if it knew the options. */
export function isBadGuess(confined: boolean): boolean {
  return told === 'unused' || (confined && how === 'plain');
}

function absence(what: string): string {
  return told === 'none'
    ? `${what} needs perl, which is not in PATH (package perl-base)`
    : `${what} is only for the programs in bin/`;
}

/** Throws with one line when there is no broker. */
function order(what: string, ...fields: readonly (string | number)[]): void {
  if (brokerEnd === null) throw new Error(absence(what));
  writeSync(brokerEnd.fd, fields.join('\0'));
}

/** By the first word of what the broker says. */
const listeners = new Map<string, (text: string) => void>();

/**
 * What the broker says: a word, and behind a NUL what belongs to it. Nothing: it has ended, which is told to who waits for
 * an answer; what it watched for us may still be there.
 */
export function hear(message: string): void {
  const [word = ''] = message.split('\0', 1);
  const text = message.slice(word.length + 1);
  if (word !== '') listeners.get(word)?.(text);
  else for (const end of ['tree', 'ended', 'inside', 'sockets', 'owners']) listeners.get(end)?.('');
}

let lastOrder = 0;

/** A path as it is for another process: the descriptors are ours. */
function outside(path: string): string {
  return path === '' ? '' : resolve(path.replace(/^(\/proc\/self|\/dev)(?=\/fd\/)/, `/proc/${process.pid}`));
}

/** Have a device opened in a network namespace: the number by which the data plane gets it. Throws a DeviceError. */
export function orderDevice({ netPath, userPath, pid, startTime }: NamespaceRef): number {
  lastOrder += 1;
  try {
    order(
      'entering a network namespace',
      ...['open', lastOrder, outside(netPath), outside(userPath), pid, startTime],
    );
  } catch (error) {
    throw new DeviceError('namespace', 0, (error as Error).message);
  }
  return lastOrder;
}

/** Somebody of ours in a network namespace. */
export interface Inside {
  /** Names him to `orderOwners`. */
  id: number;
  /** Leads there, for whoever wants sockets made; he goes when it is closed. */
  channel: number;
  /** A NETLINK_SOCK_DIAG socket of that namespace. */
  sockets: number;
}

/** What the broker says next under that word: its fields. */
function answer(word: string): Promise<string[]> {
  return new Promise((resolve) => listeners.set(word, (text) => resolve(text.split('\0'))));
}

/** Asks only when the last one has been answered: what is said does not tell whom. */
function inTurn<Asked extends unknown[], Answer>(
  ask: (...asked: Asked) => Promise<Answer>,
): (...asked: Asked) => Promise<Answer> {
  let last: Promise<unknown> = Promise.resolve();
  return (...asked) => {
    const next = last.then(() => ask(...asked));
    last = next.catch(() => undefined);
    return next;
  };
}

/** Rejects with one line; the descriptors are the caller's. `changesRoutes`: he changes addresses and routes as well. */
export const orderInside: (namespace: NamespaceRef, changesRoutes: boolean) => Promise<Inside> = inTurn(
  async ({ netPath, userPath, pid, startTime }: NamespaceRef, changesRoutes: boolean) => {
    lastOrder += 1;
    const id = lastOrder;
    const [entered, told] = [answer('inside'), answer('sockets')];
    order(
      'entering a network namespace',
      ...['inside', id, outside(netPath), outside(userPath), pid, startTime, changesRoutes ? 'routes' : ''],
    );
    const [, channel] = await entered;
    const [, first, reason] = await told;
    if (channel !== undefined && first !== undefined && reason === undefined)
      return { id, channel: Number(channel), sockets: Number(first) };
    if (channel !== undefined) closeSync(Number(channel));
    const errno = getSystemErrorName(-Number(first ?? 0) || -1);
    throw new Error(reason?.replace(/%m$/, () => errno) ?? 'the broker has ended');
  },
);

/**
 * Whose sockets those with these inodes are, among the processes of a namespace, as far as that can be found out: `INODE PID
 * NAME` of each.
 */
export const orderOwners: (inside: Inside, inodes: readonly number[]) => Promise<string[]> = inTurn(
  (inside: Inside, inodes: readonly number[]) => {
    const told = answer('owners');
    order('looking for processes', 'owners', inside.id, ...inodes);
    return told;
  },
);

/** A command in namespaces of its own; what its first words are told and tell is for whoever has written them. */
export interface CommandOrder {
  /** Descriptors for the word to go on, and for what it reports. */
  goFd: number;
  reportFd: number;
  /** Those that it is not to have. */
  close: readonly number[];
  /** Its user namespace has all ids of our user's in /etc/subuid and /etc/subgid. */
  mapsAll: boolean;
  /** What is started; as many of the last words that we were started with follow. */
  words: readonly string[];
  ownWords: number;
}

export interface CommandListeners {
  report: (text: string) => void;
  /** As wait(2) has it. */
  ended: (status: number) => void;
}

const SIGKILL = 9;

function listen({ report, ended }: CommandListeners): void {
  listeners.set('report', report);
  // With the broker the command ends too, or nobody hears of its end.
  listeners.set('ended', (status) => ended(status === '' ? SIGKILL : Number(status)));
}

/** Throws with one line. */
export function orderCommand(command: CommandOrder, listening: CommandListeners): void {
  listen(listening);
  const { goFd, reportFd, close, mapsAll, ownWords, words } = command;
  const map = mapsAll ? 'all' : 'own';
  order('running a command', 'command', goFd, reportFd, close.join(','), map, ownWords, ...words);
}

/** A command as the first process of namespaces of all kinds, which goes on when we end. */
export interface IsolatedOrder {
  /** Descriptors that our caller had closed. */
  close: readonly number[];
  /** In a user namespace, too. */
  user: boolean;
  hostname: string;
  /** A program's path, or its name. */
  path: string;
  /** Its argument vector: these, and as many of the last words that we were started with. */
  words: readonly string[];
  ownWords: number;
}

/** Throws with one line. */
export function orderIsolated(command: IsolatedOrder, listening: CommandListeners): void {
  listen(listening);
  const { close, user, hostname, ownWords, path, words } = command;
  const ids = user ? 'user' : 'ours';
  order('running a command', 'isolated', close.join(','), ids, hostname, ownWords, path, ...words);
}

/** Have the files in `directory` removed should we end before the command begins. */
export function removeUnlessBegun(directory: string): void {
  order('removing files', 'scratch', directory);
}

export function letCommandGo(): void {
  order('', 'go');
}

export function signalCommand(signal: number): void {
  order('', 'signal', signal);
}

/** Device and inode of a file. */
function identity({ dev, ino }: Stats): string {
  return `${dev}:${ino}`;
}

/**
 * When a namespace counts as gone: with what names it (a process, a file) and the last process in it; or, as pasta has it, with
 * its name alone, the process or the file's directory entry.
 */
export type WatchedFor = 'inhabitants' | 'name';

/** Calls back once, as soon as the namespace is gone. */
export function watchNamespace(
  { pid, startTime, netPath }: NamespaceRef,
  gone: () => void,
  watchedFor: WatchedFor = 'inhabitants',
): void {
  const file = pid === 0 ? netPath : processNetwork(pid);
  const found = statSync(file, { throwIfNoEntry: false });
  if (found === undefined) {
    gone();
    return;
  }
  listeners.set('gone', () => {
    listeners.delete('gone');
    gone();
  });
  const named =
    pid === 0 ? ['file', identity(found), outside(netPath)] : ['process', identity(found), pid, startTime];
  order('watching a namespace', 'watch', watchedFor, ...named);
}

/** Hear of a file's text now, whenever it changes, and why it cannot be read. */
export function followFile(
  path: string,
  text: (text: string) => void,
  unreadable: (reason: string) => void,
): void {
  listeners.set('text', text);
  listeners.set('unreadable', unreadable);
  order('following a file', 'follow', path);
}

/** Have the socket at `path` removed when we have ended, in whatever way. */
export function unlinkAtEnd(path: string): void {
  order('removing a file', 'unlink', identity(lstatSync(path)), path);
}

/** Close the file system: lines as bin/broker.pl has them. Rejects with one line. */
export async function closeTree(lines: readonly string[]): Promise<void> {
  // The working directory would stay where it is, in the old tree.
  process.chdir('/');
  const closed = answer('tree');
  order('closing the file system', 'tree', ...lines);
  const [reason = ''] = await closed;
  if (reason !== 'closed') throw new Error(reason.trim() || 'the broker has ended');
}

/** From now on it does nothing for us but what the end of a command takes, and tells whose sockets are whose. */
export function sealBroker(): void {
  order('', 'seal');
}
