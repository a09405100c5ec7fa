/**
 * The processes that bin/launcher.pl has put beside us, as the descriptors of the sockets that lead to them. None of them
 * is there when we were started without the launcher, or when it could not have a mount namespace.
 *
 * A socket keeps messages apart; a process that has ended is an empty one.
 */
import { closeSync, lstatSync, read, readSync, type Stats, statSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { DeviceError } from '../device-error.ts';
import { type NamespaceRef, processNetwork } from './namespace.ts';

const MESSAGE_MAX = 65536;
const readAsync = promisify(read);

function takeEnds(): Map<string, number> {
  const { TSLIRP_LAUNCHER: text = '' } = process.env;
  // For the programs that we start, the environment is as it was.
  delete process.env['TSLIRP_LAUNCHER'];
  const pairs = [...text.matchAll(/(\w+)=(\d+)/g)];
  return new Map(pairs.map(([, name = '', number]) => [name, Number(number)]));
}

const ends = takeEnds();

/** Whether `fd` is the end of a socket to one of them. */
export function isLauncherEnd(fd: number): boolean {
  return [...ends.values()].includes(fd);
}

/** Node itself keeps programs that it starts from having the descriptors below. */
const FIRST_INHERITED = 16;
/** Those of ours that programs started by us would have. */
export const launcherDescriptors: readonly number[] = [...ends.values()].filter(
  (fd) => fd >= FIRST_INHERITED,
);
/** We have next to no capabilities, and there is a process that can close the file system around us. */
export const isConfined: boolean = ends.has('builder');

function text(buffer: Buffer, length: number): string {
  return buffer.toString('utf8', 0, length);
}

async function ask(socket: number, question: string): Promise<string> {
  writeSync(socket, question);
  const { bytesRead, buffer } = await readAsync(
    socket,
    Buffer.allocUnsafe(MESSAGE_MAX),
    0,
    MESSAGE_MAX,
    null,
  );
  return text(buffer, bytesRead);
}

/** Close the file system: an order as bin/launcher.pl has it. Rejects with one line. */
export async function closeTree(order: readonly string[]): Promise<void> {
  const socket = ends.get('builder') ?? -1;
  // The working directory would stay where it is, in the old tree.
  process.chdir('/');
  const result = await ask(socket, order.join('\n'));
  closeSync(socket);
  if (result !== 'closed') throw new Error(result.trim() || 'the builder has ended');
}

/** The process in the namespaces that were made for the command, or 0; they are there until the device is open. */
export function holderPid(): number {
  const socket = ends.get('holder');
  if (socket === undefined) return 0;
  const buffer = Buffer.allocUnsafe(16);
  return Number(text(buffer, readSync(socket, buffer)));
}

/**
 * Have the device opened in there, which the holder does as well as the opener; the socket through which it comes to the
 * data plane. Throws a DeviceError.
 */
export function openElsewhere({ netPath, userPath, pid, startTime }: NamespaceRef): number {
  const socket = ends.get('opener') ?? ends.get('holder');
  if (socket === undefined) {
    throw new DeviceError('namespace', 0, 'only the programs in bin/ can enter a network namespace');
  }
  // It has descriptors of its own.
  const ours = (path: string): string =>
    path.replace(/^(\/proc\/self|\/dev)(?=\/fd\/)/, `/proc/${process.pid}`);
  writeSync(socket, [ours(netPath), ours(userPath), pid, startTime].join('\0'));
  return socket;
}

/** There is no device to be opened. */
export function releaseOpener(): void {
  const socket = ends.get('opener');
  if (socket !== undefined) closeSync(socket);
  ends.delete('opener');
}

/** What somebody has to look after who still sees all files and processes. */
export interface Outside {
  /** Sockets to be removed when we have ended, in whatever way. */
  sockets: readonly string[];
  /** The guest's namespace, whose end is to be told; undefined = it is not. */
  namespace: NamespaceRef | undefined;
  /** A file whose text is to be told, now and whenever it changes; empty = none. */
  text: string;
}

/** What the one who looks after that says. */
export type OutsideNews =
  | { type: 'gone' }
  | { type: 'text'; text: string }
  /** The file cannot be read. */
  | { type: 'unreadable'; reason: string }
  /** Nothing more. */
  | { type: 'end' };

/** Device and inode of a file. */
export function identity({ dev, ino }: Stats): string {
  return `${dev}:${ino}`;
}

function watchLine({ pid, startTime, netPath }: NamespaceRef): string {
  if (pid === 0) return `file ${identity(statSync(netPath))} ${process.pid} ${resolve(netPath)}`;
  return `process ${identity(statSync(processNetwork(pid)))} ${pid} ${startTime} ${process.pid}`;
}

/** Until the other end has ended, for which a word from us is the sign. */
function awaitEnd(socket: number): void {
  try {
    writeSync(socket, 'end');
    // A word about the namespace may come first.
    while (readSync(socket, Buffer.allocUnsafe(16)) > 0);
  } catch {
    // It has ended.
  }
}

/** The descriptor that becomes readable when there are news; -1 = nobody looks. */
export function leaveOutside({ sockets, namespace, text: followed }: Outside): number {
  const socket = ends.get('janitor');
  if (socket === undefined) return -1;
  const lines = sockets.map((path) => `socket ${identity(lstatSync(path))} ${path}`);
  if (namespace !== undefined) lines.push(watchLine(namespace));
  if (followed !== '') lines.push(`text - ${followed}`);
  if (lines.length === 0) closeSync(socket);
  else writeSync(socket, lines.join('\n'));
  // When we end by ourselves, the sockets are gone before we are.
  if (sockets.length > 0) process.on('exit', () => awaitEnd(socket));
  return namespace === undefined && followed === '' ? -1 : socket;
}

/** One message of those that make the descriptor readable. */
export function readOutside(socket: number): OutsideNews {
  const buffer = Buffer.allocUnsafe(MESSAGE_MAX);
  const message = buffer.toString('latin1', 0, readSync(socket, buffer));
  const [word] = message.split(' ', 1);
  const rest = message.slice((word ?? '').length + 1);
  if (word === 'text') return { type: 'text', text: rest };
  if (word === 'unreadable') return { type: 'unreadable', reason: rest };
  return { type: word === 'gone' ? 'gone' : 'end' };
}
