/** Manual pages, man(7): the options out of the tables, around them what a page is expected to say. */
import type { CommandModel, OptionModel, ProgramModel } from './model.ts';

/** What is not in a table. Text, with `*bold*` and `_italic_`; paragraphs are apart by an empty line. */
interface Words {
  summary: string;
  description: string;
  /** Sections behind the options. */
  sections: readonly (readonly [title: string, text: string])[];
}

const words: Record<string, Words> = {
  tslirp: {
    summary: 'the network of its host for a network namespace, without root',
    description: `*tslirp* gives a network namespace the network of its host. It reads the packets of the namespace from a TAP device, ends the connections itself, and speaks for the guest through ordinary sockets of the host. No rights on the host are needed, nothing is configured there, and what the guest may reach is closed until it is opened.

*tslirp run* makes a namespace for a command and exits as that does. *tslirp attach* serves a namespace that exists, *tslirp serve* virtual machines and whatever else sends packets. *tslirp tunnel* is the other end of a tunnel that one of these serves. *tslirp daemon* does what a program at the other end of its descriptors asks for. The other commands ask a running tslirp over its API socket.`,
    sections: [
      [
        'EXIT STATUS',
        'That of the command under *run*, 128 and the number of the signal where one has ended it; 0 when *attach* or *serve* was told to end, or when its namespace or last link is gone; 1 when there is no network, or none any more, or a request was refused; 2 when the command line cannot be used; 3 when nobody answers at the API socket, or the program that *daemon* serves does not keep to the protocol; 126 and 127 when the command cannot be executed or is not there.',
      ],
      [
        'ENVIRONMENT',
        '*SHELL* is what *run* without a command runs; *TMPDIR* where it keeps files for a moment; *TSLIRP_API_SOCKET* whom *events*, *listeners*, *info*, *stats*, *flow* and *forward* ask.',
      ],
      [
        'EXAMPLES',
        `*tslirp run --enable-routing -- curl https://example.org/*

*tslirp run -L 8080:80 -- ./server* publishes port 80 of the server as port 8080 of 127.0.0.1

*tslirp attach --allow tcp://192.0.2.1:5432 blue* serves the namespace that *ip netns* calls blue

*tslirp flow ls --api-socket /run/user/1000/blue.sock*`,
      ],
    ],
  },
  slirp4netns: {
    summary: 'the network of its host for a network namespace, as slirp4netns has it',
    description:
      'This *slirp4netns* is *tslirp* with the command line, the network and the words of the program of that name: what has been started by Podman, RootlessKit and scripts with that one is started with this one.',
    sections: [['EXIT STATUS', '0, and 1 for whatever goes wrong.']],
  },
  pasta: {
    summary: 'the network of its host for a network namespace, as pasta has it',
    description:
      'This *pasta* is *tslirp* with the command line, the network and the words of the program of that name, which is part of passt: what has been started by Podman, RootlessKit and scripts with that one is started with this one. Without PID or *--netns* it runs a command, or a shell, in namespaces of its own.',
    sections: [
      [
        'EXIT STATUS',
        '0, and 1 for whatever goes wrong; that of the command, 128 and the number of the signal where one has ended it.',
      ],
    ],
  },
  pesto: {
    summary: 'changes the ports of a running pasta',
    description:
      'Ports of the *pasta* that has its control socket (*-c*) at PATH are added, deleted, replaced or shown. They are written as for *pasta*. What does not change is left alone, with its connections; when *pesto* has ended well, what it has added is bound. Where something cannot be had, nothing is changed.',
    sections: [['EXIT STATUS', '0, and 1 for whatever goes wrong, which is told.']],
  },
  slirpnetstack: {
    summary: 'the network of its host for a network namespace, as slirpnetstack has it',
    description:
      'This *slirpnetstack* is *tslirp* with the flags, the network and the words of the program of that name.',
    sections: [
      ['EXIT STATUS', '0; 2 for a flag that cannot be used; 246 to 254 for what could not be opened.'],
    ],
  },
};

/** Of a line of text: nothing in it is a request, a quote or a minus of the formatter's own making. */
function plain(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('…', '...')
    .replace(/^\./, '\\&.');
}

function marked(text: string): string {
  return plain(text)
    .replace(/\*([^*]+)\*/g, '\\fB$1\\fR')
    .replace(/\b_([^_]+)_\b/g, '\\fI$1\\fR');
}

function paragraphs(text: string): string {
  return text
    .split('\n\n')
    .map((part) => `.PP\n${marked(part)}\n`)
    .join('');
}

function option({ names, value, choices, text }: OptionModel): string {
  const shown = value === '' ? '' : ` \\fI${plain(value)}\\fR`;
  const head = names.map((name) => `\\fB${plain(name)}\\fR`).join(', ');
  const choice = choices.length === 0 || text.includes(choices.join('|')) ? '' : `: ${choices.join(', ')}`;
  return `.TP\n${head}${shown}\n${plain(`${text}${choice}`)}\n`;
}

function optionsOfOne(command: CommandModel, other: CommandModel): OptionModel[] {
  const shared = sameOptions(command, other);
  return command.options.filter((one) => !shared.includes(one));
}

function sameOptions(a: CommandModel, b: CommandModel): readonly OptionModel[] {
  return a.options.filter((one) => b.options.some((other) => other.names.join() === one.names.join()));
}

function optionSection(title: string, options: readonly OptionModel[]): string {
  return options.length === 0 ? '' : `.SH ${title}\n${options.map(option).join('')}`;
}

/** Options of `run`, `attach` and `serve` are told once, with those that not all of them have behind. */
function options({ name, commands }: ProgramModel): string {
  const [program, ...rest] = commands;
  const run = rest.find(({ operand }) => operand === 'command');
  const attach = rest.find(({ operand }) => operand === 'namespace');
  const serve = rest.find(({ words: path }) => path[0] === 'serve');
  const tunnel = rest.find(({ words: path }) => path[0] === 'tunnel');
  if (!program || !run || !attach || !serve || !tunnel)
    return optionSection('OPTIONS', program?.options ?? []);
  const shared = sameOptions(run, serve);
  const list = rest
    .map((command) => `.TP\n\\fB${plain(`${name} ${command.words.join(' ')}`)}\\fR\n${plain(command.text)}\n`)
    .join('');
  const daemon = rest.find(({ words: path }) => path[0] === 'daemon');
  const version = rest.find(({ words: path }) => path[0] === 'version');
  const client = rest.find((command) => ![run, attach, serve, tunnel, daemon, version].includes(command));
  return [
    `.SH COMMANDS\n${list}`,
    optionSection('OPTIONS OF RUN, ATTACH AND SERVE', shared),
    optionSection(
      'OPTIONS OF RUN AND ATTACH',
      optionsOfOne(run, serve).filter((one) => sameOptions(run, attach).includes(one)),
    ),
    optionSection('OPTIONS OF RUN', optionsOfOne(run, attach)),
    optionSection('OPTIONS OF ATTACH', optionsOfOne(attach, run)),
    optionSection('OPTIONS OF SERVE', optionsOfOne(serve, run)),
    optionSection('OPTIONS OF TUNNEL', optionsOfOne(tunnel, run)),
    optionSection('OPTIONS OF DAEMON', daemon?.options ?? []),
    optionSection('OPTIONS OF VERSION', version?.options ?? []),
    optionSection('OPTIONS OF THE OTHER COMMANDS', client?.options ?? []),
    optionSection('OPTIONS BEFORE A COMMAND', program.options),
  ].join('');
}

export function manualPage(program: ProgramModel, others: readonly string[], version: string): string {
  const { name, commands } = program;
  const { summary, description, sections } = words[name] as Words;
  const synopsis = commands
    .filter(({ words: path }) => path.length > 0 || commands.length === 1)
    .map(({ usage }) => `\\fB${plain(usage).replace(' ', '\\fR ')}\n.br\n`)
    .join('');
  const see = others.map((other) => `.BR ${other} (1)`).join(',\n');
  return `.\\" Made by scripts/pages from the tables of options.
.TH ${name.toUpperCase()} 1 "" "tslirp ${version}"
.SH NAME
${name} \\- ${plain(summary)}
.SH SYNOPSIS
${synopsis}.SH DESCRIPTION
${paragraphs(description)}${options(program)}${sections
  .map(([title, text]) => `.SH ${title}\n${paragraphs(text)}`)
  .join('')}.SH SEE ALSO
${see}
`;
}
