/** Completions for bash, zsh and fish. They offer commands, options, words of a list, files and interfaces. */
import { type CommandModel, type OptionModel, type ProgramModel, valueKind } from './model.ts';

const HEAD = '# Made by scripts/pages from the tables of options.\n';
const INTERFACES = 'ls /sys/class/net';
const NAMESPACES = 'ls /run/netns 2>/dev/null';

/** In single quotes of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** What may stand behind the words `path` as a command. */
function nextWords({ commands }: ProgramModel, path: readonly string[]): string[] {
  const next = commands
    .filter(({ words }) => words.length > path.length && path.every((word, i) => words[i] === word))
    .map(({ words }) => words[path.length] as string);
  return [...new Set(next)];
}

/** Every place where a command may stand: the program itself, and what groups others. */
function groups(program: ProgramModel): string[][] {
  const prefixes = program.commands.flatMap(({ words }) => words.map((_, i) => words.slice(0, i)));
  return [...new Map(prefixes.map((prefix) => [prefix.join(' '), [...prefix]])).values()];
}

function bashValue(option: OptionModel): string {
  switch (valueKind(option)) {
    case 'choice':
      return `COMPREPLY=($(compgen -W ${quoted(option.choices.join(' '))} -- "$word"))`;
    case 'file':
      return 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$word"))';
    case 'interface':
      return `COMPREPLY=($(compgen -W "$(${INTERFACES})" -- "$word"))`;
    default:
      return 'COMPREPLY=()';
  }
}

function bashOperand({ operand }: CommandModel): string {
  switch (operand) {
    case 'command':
      return 'COMPREPLY=($(compgen -c -- "$word"))';
    case 'namespace':
      return `compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -W "$(${NAMESPACES})" -f -- "$word"))`;
    case 'process':
      return 'COMPREPLY=($(compgen -W "$(cd /proc && echo [0-9]*)" -f -- "$word"))';
    case 'none':
      return 'COMPREPLY=()';
  }
}

function bashCommand(command: CommandModel): string {
  const { words, options } = command;
  const values = options
    .filter(({ value }) => value !== '')
    .map((option) => `        ${option.names.join(' | ')}) ${bashValue(option)}; return ;;\n`);
  const names = options.flatMap((option) => option.names).join(' ');
  return `    ${quoted(words.join(' '))})
      case $before in
${values.join('')}      esac
      case $word in
        -*) COMPREPLY=($(compgen -W ${quoted(names)} -- "$word")) ;;
        *) ${bashOperand(command)} ;;
      esac
      ;;
`;
}

/** Words up to the one that is completed say which command it is; a command of the user's is left to what completes that. */
export function bashCompletion(program: ProgramModel): string {
  const { name, commands } = program;
  const grouped = groups(program);
  const steps = grouped.map(
    (path) =>
      `      ${quoted(path.join(' '))}) case $next in ${nextWords(program, path).join(' | ')}) path="\${path:+$path }$next" ;; *) break ;; esac ;;\n`,
  );
  const offers = grouped.map((path) => {
    const own = commands.find(({ words }) => words.join(' ') === path.join(' '));
    const names = own?.options.flatMap((option) => option.names) ?? [];
    const choice = [...nextWords(program, path), ...names].join(' ');
    return `    ${quoted(path.join(' '))}) COMPREPLY=($(compgen -W ${quoted(choice)} -- "$word")) ;;\n`;
  });
  const rest = commands.filter(({ words }) => !grouped.some((path) => path.join(' ') === words.join(' ')));
  return `${HEAD}_${name}() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} path= next i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next=\${COMP_WORDS[i]}
    case $path in
${steps.join('')}      *) break ;;
    esac
  done
  case $path in
${offers.join('')}${rest.map(bashCommand).join('')}  esac
}
complete -F _${name} ${name}
`;
}

function zshText(text: string): string {
  return text.replace(/[[\]:\\]/g, '\\$&');
}

function zshOption(option: OptionModel): string {
  const { names, value, text, choices } = option;
  const action = {
    choice: `(${choices.join(' ')})`,
    file: '_files',
    interface: `($(${INTERFACES}))`,
    other: ' ',
  }[valueKind(option)];
  const argument = value === '' ? '' : `:${zshText(value)}:${action}`;
  return names.map((name) => `      ${quoted(`*${name}[${zshText(text)}]${argument}`)}`).join(' \\\n');
}

function zshOperand({ operand }: CommandModel): string {
  return {
    command: "'*:: :_normal'",
    namespace: `'1:namespace:($(${NAMESPACES}) \${(f)"$(cd /proc && print -l [0-9]*)"})'`,
    process: "'1:process:_pids' '2:interface: '",
    none: '',
  }[operand];
}

function zshCommand(command: CommandModel): string {
  const operand = zshOperand(command);
  const lines = [...command.options.map(zshOption), ...(operand === '' ? [] : [`      ${operand}`])];
  return `    ${quoted(command.words.join(' '))})
      _arguments ${lines.join(' \\\n').trimStart()}
      ;;
`;
}

export function zshCompletion(program: ProgramModel): string {
  const { name, commands } = program;
  const grouped = groups(program);
  const rest = commands.filter(({ words }) => !grouped.some((path) => path.join(' ') === words.join(' ')));
  const steps = grouped.map(
    (path) =>
      `      ${quoted(path.join(' '))}) case $words[2] in ${nextWords(program, path).join('|')}) line="\${line:+$line }$words[2]"; shift words; (( CURRENT-- )) ;; *) break ;; esac ;;\n`,
  );
  const offers = grouped.map((path) => {
    const own = commands.find(({ words }) => words.join(' ') === path.join(' '));
    const choice = [...nextWords(program, path), ...(own?.options.flatMap((option) => option.names) ?? [])];
    return `    ${quoted(path.join(' '))}) compadd -- ${choice.join(' ')} ;;\n`;
  });
  return `#compdef ${name}
${HEAD}_${name}() {
  local line=
  while (( CURRENT > 2 )); do
    case $line in
${steps.join('')}      *) break ;;
    esac
  done
  case $line in
${offers.join('')}${rest.map(zshCommand).join('')}  esac
}
_${name} "$@"
`;
}

function fishOption(name: string, condition: string, option: OptionModel): string {
  const { names, value, text, choices } = option;
  const flags = names.map((flag) => {
    if (flag.startsWith('--')) return `-l ${flag.slice(2)}`;
    return flag.length === 2 ? `-s ${flag.slice(1)}` : `-o ${flag.slice(1)}`;
  });
  const argument = {
    choice: `-xa ${quoted(choices.join(' '))}`,
    file: '-rF',
    interface: `-xa ${quoted(`(${INTERFACES})`)}`,
    other: '-x',
  }[valueKind(option)];
  return `complete -c ${name}${condition} ${flags.join(' ')}${value === '' ? '' : ` ${argument}`} -d ${quoted(text)}\n`;
}

function fishOperand({ operand }: CommandModel): string {
  return {
    command: " -xa '(__fish_complete_subcommand)'",
    namespace: ` -xa ${quoted(`(${NAMESPACES}; __fish_complete_pids)`)}`,
    process: " -xa '(__fish_complete_pids)'",
    none: '',
  }[operand];
}

/** The words that are no options have to be those of the command. */
function fishCondition(path: readonly string[], next: readonly string[]): string {
  const seen = path.map((word) => `__fish_seen_subcommand_from ${word}`);
  const unseen = next.length === 0 ? [] : [`not __fish_seen_subcommand_from ${next.join(' ')}`];
  const all = [...seen, ...unseen].join('; and ');
  return all === '' ? '' : ` -n ${quoted(all)}`;
}

export function fishCompletion(program: ProgramModel): string {
  const { name, commands } = program;
  const offers = groups(program).flatMap((path) => {
    const next = nextWords(program, path);
    const condition = fishCondition(path, next);
    return next.map((word) => {
      const text = commands.find(({ words }) => words.join(' ') === [...path, word].join(' '))?.text ?? '';
      return `complete -c ${name}${condition} -xa ${word}${text === '' ? '' : ` -d ${quoted(text)}`}\n`;
    });
  });
  const rest = commands.flatMap((command) => {
    const condition = fishCondition(command.words, nextWords(program, command.words));
    const operand = fishOperand(command);
    return [
      ...command.options.map((option) => fishOption(name, condition, option)),
      ...(operand === '' ? [] : [`complete -c ${name}${condition}${operand}\n`]),
    ];
  });
  return `${HEAD}complete -c ${name} -f\n${[...offers, ...rest].join('')}`;
}
