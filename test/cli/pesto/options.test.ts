import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { changesOf } from '../../../src/cli/pesto/changes.ts';
import { parseOptions } from '../../../src/cli/pesto/options.ts';
import type { PortScope } from '../../../src/config.ts';
import { ruleText } from '../../../src/expose/port-rule.ts';

const scope: PortScope = {
  ...{ ipv4: true, ipv6: true, tcp: true, udp: true },
  ephemeral: { first: 32768, last: 65535 },
};

function parse(line: string): ReturnType<typeof parseOptions> {
  return parseOptions(line === '' ? [] : line.split(' '), 'pesto', 'pesto 1');
}

/** What a command line asks for, one word for each change. */
function changes(line: string): string[] {
  const parsed = parse(line);
  assert.ok(parsed.kind === 'request', JSON.stringify(parsed));
  assert.equal(parsed.path, 'SOCK');
  return changesOf(parsed.steps, scope).map((change) => {
    const rules = change.kind === 'clear' ? [] : change.rules.map((rule) => ruleText(rule).trim());
    return [change.kind, change.table, ...rules].join(' | ');
  });
}

describe('pasta §10: the command line of pesto', () => {
  const lines: [line: string, changes: string[]][] = [
    [
      '--add -t 0.0.0.0/8080 -t [::]/8080 SOCK',
      ['add | host | TCP [0.0.0.0]:8080  =>  8080', 'add | host | TCP [::]:8080  =>  8080'],
    ],
    ['--delete -t 127.0.0.1/8080 SOCK', ['delete | host | TCP [127.0.0.1]:8080  =>  8080']],
    [
      '-A -t 0.0.0.0/8080:10.89.0.5/80 -t [::]/8080:fd00::5/80 SOCK',
      ['add | host | TCP [0.0.0.0]:8080  =>  [10.89.0.5]:80', 'add | host | TCP [::]:8080  =>  [fd00::5]:80'],
    ],
    ['-A --tcp-ports=::/8080:80 SOCK', ['add | host | TCP [::]:8080  =>  80']],
    ['-D --udp-ports=127.0.0.1/53:53 SOCK', ['delete | host | UDP [127.0.0.1]:53  =>  53']],
    [
      '-t 80 -u 53 -T 5432 SOCK',
      [
        'clear | host',
        'add | host | TCP [*]:80  =>  80',
        'add | host | UDP [*]:53  =>  53',
        'clear | splice',
        'add | splice | TCP [*]%lo:5432  =>  5432',
      ],
    ],
    ['-t none SOCK', ['clear | host']],
    ['-A -t none SOCK', []],
    [
      '-C SPLICE -D -t 80 -A -U 53 SOCK',
      ['clear | splice', 'delete | host | TCP [*]:80  =>  80', 'add | splice | UDP [*]%lo:53  =>  53'],
    ],
    ['SOCK -s', []],
  ];
  for (const [line, expected] of lines) test(line, () => assert.deepEqual(changes(line), expected));

  test('--version and --help act at once', () => {
    assert.deepEqual(parse('--version'), { kind: 'text', text: 'pesto 1\n' });
    const help = parse('-s --help');
    assert.ok(help.kind === 'text' && /^Usage: pesto \[OPTION\]\.\.\. PATH\n/.test(help.text));
    assert.match(help.text, /\n {2}-t, --tcp-ports SPEC {5}TCP ports of the host/);
  });

  for (const line of ['', 'SOCK', '-s', '-t 80', '-s SOCK more', '--bogus SOCK', '-C GUEST SOCK', '-t'])
    test(`refused: ${line}`, () => {
      const parsed = parse(line);
      assert.ok(parsed.kind === 'refused');
      assert.match(
        parsed.text,
        /^(?:Usage|Invalid table GUEST: HOST or SPLICE\n$|pesto: unrecognized option '--bogus'\nUsage|pesto: option requires an argument -- 't'\nUsage)/,
      );
    });

  test('a specification that is none is told in the words of pasta', () => {
    const parsed = parse('-A -t 80x SOCK');
    assert.ok(parsed.kind === 'request');
    assert.throws(() => changesOf(parsed.steps, scope), { message: "Invalid port specifier '80x'" });
  });
});
