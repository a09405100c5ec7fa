/** What `pasta` prints on its own: help and version, by which callers ask what there is. */
import type { PortRule } from '../../config.ts';
import { ruleText } from '../../expose/port-rule.ts';

/** The pasta whose interface this is. */
const INTERFACE_VERSION = '2026_07_16';

/** What help tells of an option. */
export interface ToldOption {
  readonly long: string;
  readonly short: string;
  readonly value: string;
  readonly help: readonly string[];
}

function lines({ long, short, value, help }: ToldOption): string {
  if (help.length === 0) return '';
  const [first = '', ...more] = help;
  const names = `${short === '' ? '    ' : `-${short}, `}--${long}${value === '' ? '' : ` ${value}`}`;
  return [`  ${names}\t${first}\n`, ...more.map((line) => `    ${line}\n`)].join('');
}

export function usage(program: string, options: readonly ToldOption[]): string {
  return `Usage: ${program} [OPTION]... [COMMAND] [ARGS]...
       ${program} [OPTION]... PID
       ${program} [OPTION]... --netns [PATH|NAME]

Without PID or --netns, run the given command or a default shell in a new network
and user namespace, and connect it via pasta.

${options.map(lines).join('')}`;
}

/** @param release our own version */
export function versionLine(release: string): string {
  return `pasta ${INTERFACE_VERSION}.tslirp-${release}`;
}

export function versionText(release: string): string {
  return `${versionLine(release)}
The pasta of tslirp, with the command line of passt's.
`;
}

/** Both tables as they are shown, those without rules left out. */
export function rulesLines({
  host,
  splice,
}: Readonly<Record<'host' | 'splice', readonly PortRule[]>>): string[] {
  const tables = [
    ['Inbound forwarding rules (HOST):', host],
    ['Outbound forwarding rules (SPLICE):', splice],
  ] as const;
  return tables
    .filter(([, rules]) => rules.length > 0)
    .flatMap(([title, rules]) => [title, ...rules.map((rule) => `    ${ruleText(rule)}`)]);
}
