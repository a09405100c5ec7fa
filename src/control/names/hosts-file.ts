/**
 * What the hosts file says of a name (hosts(5)): all addresses of the lines that list it, in their order.
 *
 * Read anew for every question, so that a change counts at once; the file is small. A line may have comments; names
 * compare without case; addresses with a zone are passed over.
 */
import { readFileSync } from 'node:fs';
import { parseIpAddress } from '../../stack/wire/address.ts';

export const HOSTS_FILE = '/etc/hosts';

/** Bytes that are looked at. */
const MAX_FILE = 4 * 1024 * 1024;

/** Addresses as canonical text; empty when the name is not there or there is no file. */
export function hostsAddresses(name: string, file: string = HOSTS_FILE): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').slice(0, MAX_FILE);
  } catch {
    return [];
  }
  const wanted = withoutFinalDot(name).toLowerCase();
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const [address = '', ...names] = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    if (!names.some((entry) => withoutFinalDot(entry).toLowerCase() === wanted)) continue;
    try {
      found.push(parseIpAddress(address).toString());
    } catch {
      // A line that nobody can use.
    }
  }
  return found;
}

function withoutFinalDot(name: string): string {
  return name.endsWith('.') ? name.slice(0, -1) : name;
}
