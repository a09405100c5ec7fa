/** How many descriptors this process may have: its soft RLIMIT_NOFILE, which Node raises to the hard one at start. */
import { readFileSync } from 'node:fs';

const FALLBACK = 1024;

export function descriptorLimit(): number {
  const line = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  const text = line?.[1];
  if (text === undefined) return FALLBACK;
  return text === 'unlimited' ? 1_048_576 : Number(text);
}
