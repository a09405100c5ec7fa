/** The command lines of the programs in one form, out of the tables that their help is made from. */
import type { Command, Option } from 'commander';
import { OPTIONS as PASTA_OPTIONS } from '../../src/cli/pasta/options.ts';
import { OPTIONS as PESTO_OPTIONS } from '../../src/cli/pesto/options.ts';
import { buildProgram } from '../../src/cli/program.ts';
import { OPTIONS } from '../../src/cli/slirp4netns/texts.ts';
import { FLAGS } from '../../src/cli/slirpnetstack/usage.ts';

export interface OptionModel {
  /** With their dashes, the short one first. */
  names: readonly string[];
  /** Name of its value; empty = it has none. */
  value: string;
  choices: readonly string[];
  text: string;
}

/** What stands where no option does. */
export type Operand = 'command' | 'namespace' | 'process' | 'none';

export interface CommandModel {
  /** Behind the program's name; none for the program itself. */
  words: readonly string[];
  usage: string;
  text: string;
  options: readonly OptionModel[];
  operand: Operand;
}

export interface ProgramModel {
  name: string;
  /** The program itself first, then commands that do something. */
  commands: readonly CommandModel[];
}

function unused(): never {
  throw new Error('nothing is read here');
}

function optionOf(option: Option): OptionModel {
  const { short, long, flags, description, argChoices = [], defaultValue } = option;
  const value = /[<[]([^>\]]+)[>\]]/.exec(flags)?.[1] ?? '';
  const isTold = typeof defaultValue === 'string';
  return {
    names: [short, long].filter((name) => name !== undefined),
    value,
    choices: argChoices,
    text: `${description}${isTold ? ` (default: ${defaultValue})` : ''}`,
  };
}

const operands: Record<string, Operand> = { run: 'command', attach: 'namespace', tunnel: 'command' };

function commandsOf(command: Command, words: readonly string[]): CommandModel[] {
  const { options, commands } = command;
  const help = command.createHelp();
  const own: CommandModel = {
    words,
    usage: help.commandUsage(command),
    text: command.description(),
    options: help.visibleOptions(command).map(optionOf),
    operand: operands[words.join(' ')] ?? 'none',
  };
  const rest = commands.flatMap((sub) => commandsOf(sub, [...words, sub.name()]));
  return words.length > 0 && options.length === 0 && rest.length > 0 ? rest : [own, ...rest];
}

function tslirp(): ProgramModel {
  const program = buildProgram(
    '',
    {},
    {
      run: unused,
      attach: unused,
      serve: unused,
      daemon: unused,
      version: unused,
      tunnel: unused,
      ask: unused,
    },
  );
  return { name: 'tslirp', commands: commandsOf(program, []) };
}

function slirp4netns(): ProgramModel {
  const options = OPTIONS.map(([short, long, value, text]) => {
    const [, choices = ''] = /\(\[(\w+(?:\|\w+)+)\]/.exec(text) ?? [];
    return {
      names: [short, long].filter((name) => name !== ''),
      value,
      choices: choices.split('|').filter(Boolean),
      text,
    };
  });
  const usage = 'slirp4netns [OPTION]... PID|PATH|FD [TAPNAME]';
  const text = 'User-mode networking for unprivileged network namespaces';
  return { name: 'slirp4netns', commands: [{ words: [], usage, text, options, operand: 'process' }] };
}

function slirpnetstack(): ProgramModel {
  const options = FLAGS.map(([name, value, text]) => ({ names: [`-${name}`], value, choices: [], text }));
  const text = 'The network of its host for a network namespace, by a user-space stack';
  return {
    name: 'slirpnetstack',
    commands: [{ words: [], usage: 'slirpnetstack [flag]...', text, options, operand: 'none' }],
  };
}

function pasta(): ProgramModel {
  const options = PASTA_OPTIONS.filter(({ help }) => help.length > 0).map(({ long, short, value, help }) => ({
    names: short === '' ? [`--${long}`] : [`-${short}`, `--${long}`],
    value,
    choices: [],
    text: help.join('; '),
  }));
  const usage = 'pasta [OPTION]... [COMMAND [ARG]...] | PID | --netns PATH|NAME';
  const text = 'The network of its host, as it is, for a network namespace';
  return { name: 'pasta', commands: [{ words: [], usage, text, options, operand: 'command' }] };
}

function pesto(): ProgramModel {
  const options = PESTO_OPTIONS.map(({ long, short, value, help }) => ({
    names: short === '' ? [`--${long}`] : [`-${short}`, `--${long}`],
    value,
    choices: long === 'clear' ? ['HOST', 'SPLICE'] : [],
    text: help,
  }));
  const usage = 'pesto [OPTION]... PATH';
  const text = 'Change the ports of a running pasta';
  return { name: 'pesto', commands: [{ words: [], usage, text, options, operand: 'none' }] };
}

export const programs: readonly ProgramModel[] = [
  ...[tslirp(), slirp4netns(), slirpnetstack(), pasta(), pesto()],
];

/** What can be offered for a value: a word of a list, a file, an interface of the host, or nothing that is known. */
export function valueKind({ names, value, choices }: OptionModel): 'choice' | 'file' | 'interface' | 'other' {
  if (choices.length > 0) return 'choice';
  if (names.includes('--outbound-interface')) return 'interface';
  const isFile =
    /^(file|path|PATH|FILE)$/.test(value) || ['-pcap', '-netns'].some((name) => names.includes(name));
  return isFile ? 'file' : 'other';
}
