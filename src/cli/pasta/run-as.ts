/**
 * Who we are once everything is open: whom `--runas` names, or nobody when root of the system has started us. Root of a user
 * namespace stays what he is, who is an ordinary user outside.
 */
import { readFileSync } from 'node:fs';
import { PastaError, wholeNumber } from './values.ts';

export interface Ids {
  uid: number;
  gid: number;
}

/** Where there is nobody of that name: as the kernel has it for ids that it cannot show. */
const NOBODY = 65534;
const ID_MAX = 2 ** 32 - 2;

/** Lines of passwd(5) or group(5) by their first field. */
function entry(file: string, name: string): string[] | undefined {
  let text = '';
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    // Then only numbers are known.
  }
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .find(([first]) => first === name);
}

function id(text: string): number {
  const number = wholeNumber(text);
  return number <= ID_MAX ? number : Number.NaN;
}

/** Whom the value of `--runas` means. Throws `PastaError`. `directory`: where passwd and group are. */
export function namedIds(value: string, directory = '/etc'): Ids {
  const [user = '', group] = value.split(':');
  const login = entry(`${directory}/passwd`, user);
  const uid = login === undefined ? id(user) : id(login[2] ?? '');
  const own = login === undefined ? uid : id(login[3] ?? '');
  const gid = group === undefined ? own : id(entry(`${directory}/group`, group)?.[2] ?? group);
  // By its number alone: who writes a name wants to be rid of rights.
  const isRoot = login !== undefined && uid === 0;
  if (Number.isNaN(uid) || Number.isNaN(gid) || isRoot)
    throw new PastaError(`Invalid --runas option: ${value}`);
  return { uid, gid };
}

function isSystemRoot(): boolean {
  const map = readFileSync('/proc/self/uid_map', 'latin1').trim().split(/\s+/).map(Number);
  return process.getuid?.() === 0 && map[1] === 0 && map[2] === 2 ** 32 - 1;
}

/** Whom to become; null: nobody else. Throws `PastaError`. */
export function otherIds(runAs: string, warn: (text: string) => void): Ids | null {
  const wanted = runAs === '' ? null : namedIds(runAs);
  if (!isSystemRoot()) {
    const isOther =
      wanted !== null && (wanted.uid !== process.getuid?.() || wanted.gid !== process.getgid?.());
    if (isOther) throw new PastaError(`Can't change user to ${runAs}: Operation not permitted`);
    return null;
  }
  if (wanted !== null) return wanted;
  warn('Started as root, will change to nobody.');
  const nobody = entry('/etc/passwd', 'nobody');
  return nobody === undefined ? { uid: NOBODY, gid: NOBODY } : namedIds('nobody');
}

/** For all threads. */
export function become({ uid, gid }: Ids): void {
  process.setgroups?.([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}
