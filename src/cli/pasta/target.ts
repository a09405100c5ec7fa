/** Whose network it is: what is left of the command line, and the options that name namespaces. */
import type { PastaTarget } from './pasta-config.ts';
import { PastaError } from './values.ts';

/** Where ip-netns(8) has the namespaces that it names. */
const NETNS_DIRECTORY = '/run/netns';

/** Options as they were given; empty = not. */
export interface NamespaceOptions {
  netns: string;
  userns: string;
  netnsOnly: boolean;
}

/** A PID is a word alone that is a decimal number, and no other. */
export function target(
  { netns, userns, netnsOnly }: NamespaceOptions,
  operands: readonly string[],
): PastaTarget {
  const [only = ''] = operands;
  if (netns !== '') {
    if (operands.length > 0) throw new PastaError('Both --netns and PID or command given');
    return {
      kind: 'path',
      netnsPath: netns.includes('/') ? netns : `${NETNS_DIRECTORY}/${netns}`,
      usernsPath: userns,
    };
  }
  if (operands.length === 1 && /^\d+$/.test(only)) {
    const pid = Number(only);
    if (!(pid > 0 && pid < 2 ** 31)) throw new PastaError(`Invalid PID ${only}`);
    return { kind: 'process', pid, usernsPath: netnsOnly ? '' : userns || `/proc/${pid}/ns/user` };
  }
  if (userns !== '') throw new PastaError('Both --userns and command given');
  return { kind: 'command', command: [...operands], netnsOnly };
}
