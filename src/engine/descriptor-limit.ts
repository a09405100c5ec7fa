/**
 * How many descriptors this process may have. Node raises its soft limit to the hard one at start; the hard one is raised
 * here as far as we are allowed to, which is for root only, and if the process is ours to change.
 */
import { readFileSync } from 'node:fs';
import { setOpenFilesLimit } from '../sys/process.ts';

const WANTED = 1_048_576;
const FALLBACK = 1024;

export function descriptorLimit(mayRaise: boolean): number {
  const now = softLimit();
  if (!mayRaise) return now;
  for (let files = WANTED; files > now; files /= 2) if (setOpenFilesLimit(files) === 0) return files;
  return now;
}

function softLimit(): number {
  const line = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  const text = line?.[1];
  if (text === undefined) return FALLBACK;
  return text === 'unlimited' ? WANTED : Number(text);
}
