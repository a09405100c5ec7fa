/**
 * resolv.conf(5) and hosts(5) as a command under `tslirp run` sees them: the host's own name servers and loopback names
 * would mean something else inside. Written to a private directory, which is removed once the command has taken its copies.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressPlan } from '../config.ts';
import { errnoTextOf } from '../control/errno-text.ts';

export interface GuestFiles {
  /** Holds `resolv.conf` (unless the host's is to be left alone), `hosts`, and an empty directory `fs` to mount on. */
  directory: string;
  remove: () => void;
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return otherwise;
  }
}

/** Our DNS addresses, with the host's `search` and `options` lines, or with `search` for those of its domains. */
export function guestResolvConf(
  plan: AddressPlan,
  hostText: string,
  search: readonly string[] | null = null,
): string {
  const kept = hostText
    .split('\n')
    .filter((line) => (search === null ? /^\s*(search|domain|options)\s/ : /^\s*options\s/).test(line));
  if (search !== null && search.length > 0) kept.push(`search ${search.join(' ')}`);
  const servers = [plan.dns4, ...(plan.ipv6 ? [plan.dns6] : [])].map((address) => `nameserver ${address}`);
  return `${[...servers, ...kept].join('\n')}\n`;
}

/** The host's names in its own table, of which the first is the one with the domain (`hostname -f`). */
function ownNames(hostText: string, name: string): string {
  for (const line of hostText.split('\n')) {
    const [, ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (names.includes(name))
      return names.filter((word) => !/^(localhost|ip6-)/.test(word)).join(' ') || name;
  }
  return name;
}

/** The host's table without its loopback lines; the guest has a loopback, and the host's names mean its own address. */
export function guestHosts(plan: AddressPlan, hostText: string, name: string): string {
  const kept = hostText.split('\n').filter((line) => {
    const address = /^\s*([0-9a-fA-F.:]+)\s/.exec(line)?.[1];
    return address !== undefined && !address.startsWith('127.') && address !== '::1';
  });
  const names = ownNames(hostText, name);
  const lines = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    `${plan.guest4} ${names}`,
  ];
  if (plan.ipv6) lines.push(`${plan.guest6} ${names}`);
  return `${[...lines, ...kept].join('\n')}\n`;
}

function makeDirectory(where: string): string {
  try {
    return mkdtempSync(join(where, 'tslirp-'));
  } catch (error) {
    throw new Error(
      `no directory can be made in ${where}: ${errnoTextOf(error)}; TMPDIR chooses another place`,
    );
  }
}

export function writeGuestFiles(
  plan: AddressPlan,
  dns: boolean,
  search: readonly string[] | null,
): GuestFiles {
  const directory = makeDirectory(tmpdir());
  const write = (name: string, text: string): void => {
    const path = join(directory, name);
    // Readable by all, whatever the umask: the command may change its user.
    writeFileSync(path, text);
    chmodSync(path, 0o644);
  };
  if (dns) write('resolv.conf', guestResolvConf(plan, readOr('/etc/resolv.conf', ''), search));
  write('hosts', guestHosts(plan, readOr('/etc/hosts', ''), hostname()));
  mkdirSync(join(directory, 'fs'));
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
