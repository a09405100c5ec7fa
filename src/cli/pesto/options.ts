/**
 * The command line of `pesto`: what is to be done with the ports of a running pasta, in order. `--version` and `--help` act
 * at once. What help, the manual page and completions say is in the same table.
 */

import type { TableName } from '../../expose/port-table.ts';
import { Getopt, GetoptError, type OptionRule } from '../getopt.ts';
import type { PortOption } from '../pasta/port-spec.ts';

export interface PestoOption extends OptionRule {
  /** Name of its value in help; empty = it has none. */
  readonly value: string;
  readonly help: string;
}

/** What is to be done with a specification. Replaced: nothing else is left in its table. */
export type Manner = 'add' | 'delete' | 'replace';

export type Step =
  | { kind: 'ports'; manner: Manner; option: PortOption; spec: string }
  | { kind: 'clear'; table: TableName };

export type Parsed =
  | { kind: 'request'; steps: Step[]; shows: boolean; path: string }
  /** For standard output. */
  | { kind: 'text'; text: string }
  /** For standard error; the exit status is 1. */
  | { kind: 'refused'; text: string };

const option = (long: string, short: string, value: string, help: string): PestoOption => ({
  ...{ long, short, value, help },
  hasArgument: value !== '',
});

const SPEC = 'SPEC';
export const OPTIONS: readonly PestoOption[] = [
  option('add', 'A', '', 'Add the ports that follow'),
  option('delete', 'D', '', 'Delete the ports that follow, which are named as they were added'),
  option('clear', 'C', 'TABLE', 'Delete all ports of HOST or of SPLICE'),
  option('tcp-ports', 't', SPEC, 'TCP ports of the host that lead to the guest, as with pasta'),
  option('udp-ports', 'u', SPEC, 'UDP ports of the host that lead to the guest'),
  option('tcp-ns', 'T', SPEC, "TCP ports of the guest's loopback that lead to the host's"),
  option('udp-ns', 'U', SPEC, "UDP ports of the guest's loopback that lead to the host's"),
  option('show', 's', '', 'Show the ports, after what is done with them'),
  option('help', 'h', '', 'Show this and exit'),
  option('version', '', '', 'Show the version and exit'),
];

const TABLES: readonly TableName[] = ['HOST', 'SPLICE'];

function lines({ long, short, value, help }: PestoOption): string {
  const name = `--${long}${value === '' ? '' : ` ${value}`}`;
  return `  ${short === '' ? '    ' : `-${short}, `}${name.padEnd(20)} ${help}\n`;
}

function usage(program: string): string {
  return `Usage: ${program} [OPTION]... PATH

Change or show the ports of the pasta that has its control socket (-c) at PATH.
Without --add and --delete, ports replace those that there are.

${OPTIONS.map(lines).join('')}`;
}

/** @param program what we were called by; `version`: the line that tells it */
export function parseOptions(args: readonly string[], program: string, version: string): Parsed {
  const getopt = new Getopt(program, OPTIONS, args);
  const steps: Step[] = [];
  let manner: Manner = 'replace';
  let shows = false;
  try {
    for (let found = getopt.next(); found !== undefined; found = getopt.next()) {
      const { rule, argument } = found;
      switch (rule.long) {
        case 'version':
          return { kind: 'text', text: `${version}\n` };
        case 'help':
          return { kind: 'text', text: usage(program) };
        case 'show':
          shows = true;
          break;
        case 'add':
        case 'delete':
          manner = rule.long;
          break;
        case 'clear': {
          const table = TABLES.find((name) => name === argument);
          if (table === undefined)
            return { kind: 'refused', text: `Invalid table ${argument}: HOST or SPLICE\n` };
          steps.push({ kind: 'clear', table });
          break;
        }
        default:
          steps.push({ kind: 'ports', manner, option: rule.short as PortOption, spec: argument });
      }
    }
  } catch (error) {
    if (!(error instanceof GetoptError)) throw error;
    return { kind: 'refused', text: `${error.message}\n${usage(program)}` };
  }
  const [path, ...more] = getopt.operands;
  if (path === undefined || more.length > 0 || (steps.length === 0 && !shows))
    return { kind: 'refused', text: usage(program) };
  return { kind: 'request', steps, shows, path };
}
