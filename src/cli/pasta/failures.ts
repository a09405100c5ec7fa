/** Why there is no network, in pasta's words: some are shown to users by its callers, and looked for by them. */
import { closeSync, openSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { CommandFault } from '../../app/isolated-command.ts';
import { errnoTextOf } from '../../control/errno-text.ts';
import { DeviceError, type DeviceStep } from '../../device-error.ts';
import { isConfined } from '../../sandbox/broker.ts';
import type { PastaTarget } from './pasta-config.ts';
import { PastaError } from './values.ts';

function tryToOpen(what: string, path: string): void {
  try {
    closeSync(openSync(path, 'r'));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // In the sandbox another process opens it, with rights that we have no more.
    if (isConfined && (code === 'EACCES' || code === 'EPERM')) return;
    throw new PastaError(`Couldn't open ${what} ${path}: ${errnoTextOf(error)}`);
  }
}

/** Throws `PastaError` when there are no such namespaces. */
export function namespaceFault(target: PastaTarget): void {
  if (target.kind === 'command') return;
  if (target.usernsPath !== '') tryToOpen('user namespace', target.usernsPath);
  const path = target.kind === 'process' ? `/proc/${target.pid}/ns/net` : target.netnsPath;
  tryToOpen('network namespace', path);
}

/** What stands in front of the errno's text. */
const STEPS: Partial<Record<DeviceStep, string>> = {
  namespace: "Couldn't switch to pasta namespaces",
  tun: 'Failed to open() /dev/net/tun',
  attach: 'TUNSETIFF ioctl on /dev/net/tun failed',
  address: "Couldn't set IPv4 address(es) in namespace",
  route: "Couldn't set IPv4 route(s) in guest",
};

/** Of a command. */
const COMMAND_STEPS: Record<string, string> = {
  clone: 'Failed to clone process with detached namespaces',
  user: "Couldn't configure user mappings",
  mnt: "Couldn't detach the mount namespace",
  exec: 'Failed to start command or shell',
};

export function failureText(error: unknown): string {
  if ((error instanceof DeviceError || error instanceof CommandFault) && error.error > 0) {
    const step = error instanceof DeviceError ? STEPS[error.step] : COMMAND_STEPS[error.step];
    const [code = ''] = getSystemErrorMap().get(-error.error) ?? [];
    if (step !== undefined) return `${step}: ${errnoTextOf({ code })}`;
  }
  return error instanceof Error ? error.message : String(error);
}
