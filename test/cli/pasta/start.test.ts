/** What the shell of bin/pasta makes of a command line, beside what Node makes of it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { OPTIONS, parseOptions } from '../../../src/cli/pasta/options.ts';
import { programPath } from '../../support/program-path.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const script = readFileSync(programPath('pasta'), 'utf8');
const reading = script.slice(script.indexOf('\nfor='), script.indexOf('\nself='));

/** Of each command line, `FOR WAITS`. */
function guesses(lines: readonly (readonly string[])[]): string[] {
  const calls = lines.map((words) => `guess ${words.map((word) => `'${word}'`).join(' ')}`);
  const guess = `guess() {\n${reading}\ncase $how in *background*) echo "$for yes" ;; *) echo "$for no" ;; esac\n}`;
  const { stdout, stderr } = spawnSync('sh', { input: [guess, ...calls].join('\n'), encoding: 'utf8' });
  assert.equal(stderr, '');
  return stdout.replace(/\n$/, '').split('\n');
}

/** The same by Node; undefined: it is refused, and nothing depends on the guess. */
function meant(words: readonly string[]): string | undefined {
  const parsed = parseOptions(words, 'pasta', '');
  if (parsed.kind === 'refused') return undefined;
  if (parsed.kind === 'text') return ' no';
  const { target, foreground } = parsed.config;
  return target.kind === 'command' ? 'run no' : `attach ${foreground ? 'no' : 'yes'}`;
}

describe('bin/pasta knows what is to be before Node is there', () => {
  test('its list of long options is that of the program', () => {
    const [, list = ''] = /^long='([^']*)'/m.exec(script) ?? [];
    const expected = OPTIONS.map(({ long, hasArgument }) => `${long}${hasArgument ? ':' : ''}`);
    assert.deepEqual(list.split(/\s+/), expected);
  });

  test('its list of short options that take an argument, too', () => {
    const [, letters = ''] = /\n +\[(\w+)\]\*\)\n/.exec(script) ?? [];
    const expected = OPTIONS.filter(({ short, hasArgument }) => short !== '' && hasArgument);
    assert.deepEqual([...letters].sort(), expected.map(({ short }) => short).sort());
  });

  test('command lines at random mean the same to both', () => {
    const rng = seededRng(15);
    const pick = <T>(from: readonly T[]): T => from[rng.u32() % from.length] as T;
    const words = [
      ...[
        '-f',
        '-q',
        '-qf',
        '-m1280',
        '-m',
        '1280',
        '-4',
        '--foreground',
        '--foreg',
        '--netns',
        '--netns=/x',
        '-P',
      ],
      ...[
        '/x',
        '12',
        '--',
        'ls',
        '-h',
        '--help',
        '--version',
        '--pid',
        '-t',
        'auto',
        '--config-net',
        '-tauto',
        '--mt=70',
      ],
      ...['-6f', '--userns', '--netns-only', '-dP', '-fP/x', '-', ''],
    ];
    const lines = Array.from({ length: 3000 }, () =>
      Array.from({ length: rng.u32() % 6 }, () => pick(words)),
    );
    const guessed = guesses(lines);
    let accepted = 0;
    for (const [i, line] of lines.entries()) {
      const want = meant(line);
      if (want === undefined) continue;
      accepted++;
      assert.equal(guessed[i], want, JSON.stringify(line));
    }
    assert.ok(accepted > 500, `${accepted} were accepted`);
  });
});
