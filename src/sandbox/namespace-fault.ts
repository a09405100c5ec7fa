/** Why no namespaces can be made for a command, and which setting would change that: one line. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';

/** A setting of the system (sysctl(8)), or empty where there is no such one. */
export type ReadSetting = (name: string) => string;

function readSetting(name: string): string {
  try {
    return readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'latin1').trim();
  } catch {
    return '';
  }
}

/** Switches of distributions, and the value with which they forbid. */
const SWITCHES = [
  ['kernel.unprivileged_userns_clone', '0', '1'],
  ['kernel.apparmor_restrict_unprivileged_userns', '1', '0'],
] as const;

/**
 * What the broker says (`become_command` in bin/command.pl): the kind of namespace, by its name under /proc/PID/ns, and the
 * errno; `exec`: the command could not be started; `ids`, and why not all that `--map-auto` is for can be had.
 */
export function explainNamespaceFault(fault: string, setting: ReadSetting = readSetting): string {
  const [, kind = '', rest = ''] = /^(\w+) (.*)$/s.exec(fault) ?? [];
  if (kind === '') return 'no namespaces can be made for the command: the process that makes them has ended';
  if (kind === 'ids') return `the ids that --map-auto is for cannot be had: ${rest}`;
  const errno = Number(rest);
  if (kind === 'exec') return `sh cannot be started for the command: ${getSystemErrorName(-errno)}`;
  const names: Record<string, string> = { user: 'user', mnt: 'mount', net: 'network' };
  const what = `no ${names[kind]} namespace can be made for the command`;
  if (errno === constants.errno.ENOSPC) {
    const limit = `user.max_${kind}_namespaces`;
    return `${what}: as many as ${limit} allows (${setting(limit)}) are there; root can raise it (sysctl ${limit}=N)`;
  }
  if (errno === constants.errno.EINVAL || errno === constants.errno.ENOSYS)
    return `${what}: this kernel has none (CONFIG_USER_NS)`;
  for (const [name, forbids, allows] of SWITCHES) {
    if (setting(name) === forbids)
      return `${what}: ${name} is ${forbids}; root can allow them (sysctl ${name}=${allows})`;
  }
  const code = getSystemErrorName(-errno);
  return `${what} (${code}): the system forbids it, as the seccomp profiles of containers do, and a chroot`;
}
