/** Manual pages and completions hold what help holds, and completions complete. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { bashCompletion, fishCompletion, zshCompletion } from '../../scripts/pages/completion.ts';
import { manualPage } from '../../scripts/pages/manual.ts';
import { type ProgramModel, programs } from '../../scripts/pages/model.ts';
import { programPath } from '../support/program-path.ts';

/** Long options, and flags of Go, in the help of a program or a command. */
function helpOptions({ name }: ProgramModel, words: readonly string[]): string[] {
  const { stdout, stderr } = spawnSync(programPath(name), [...words, '--help'], { encoding: 'utf8' });
  const pattern = name === 'slirpnetstack' ? /^ {2}(-[\w-]+)/gm : /^ *(?:-\w, )?(--[\w-]+)/gm;
  return [...`${stdout}${stderr}`.matchAll(pattern)].map(([, option = '']) => option);
}

const [tslirp = assert.fail()] = programs;

for (const program of programs) {
  describe(program.name, () => {
    test('every option of its help is in the page and in each completion', () => {
      const page = manualPage(program, [], '1.2.3').replaceAll('\\-', '-');
      const shells = [bashCompletion(program), zshCompletion(program)];
      const fish = fishCompletion(program);
      for (const { words } of program.commands) {
        const options = helpOptions(program, words);
        assert.ok(options.length > 0, words.join(' '));
        for (const option of options) {
          assert.match(page, new RegExp(`\\\\fB${option}\\\\fR`), `${option} in the page`);
          for (const text of shells) assert.ok(text.includes(option), option);
          assert.match(fish, new RegExp(` -(l|o|s) ${option.replace(/^-+/, '')} `), `${option} for fish`);
        }
      }
    });

    test('no line of the page is a request by accident, and nothing in it is a plain minus', () => {
      const page = manualPage(program, ['other'], '1.2.3');
      const requests = /^\.(\\"|TH|SH|TP|PP|BR|br)/;
      for (const line of page.split('\n')) {
        assert.ok(!/^[.']/.test(line) || requests.test(line), line);
        if (!requests.test(line)) assert.doesNotMatch(line, /(?<!\\)-/, line);
      }
    });
  });
}

describe('bash completes', () => {
  function complete(program: ProgramModel, ...words: string[]): string[] {
    const script = `${bashCompletion(program)}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _$1; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const args = ['-c', script, 'bash', program.name, ...words];
    const { stdout, stderr } = spawnSync('bash', args, { encoding: 'utf8' });
    assert.equal(stderr, '');
    return stdout.split('\n').filter((word) => word !== '');
  }

  const table: [string[], string[]][] = [
    [['a'], ['attach']],
    [
      ['flow', ''],
      ['ls', 'kill'],
    ],
    [['run', '--log-'], ['--log-level']],
    [['run', '--mtu', '1500', '--log-level', 'd'], ['debug']],
    [['attach', '--outbound-interface', 'l'], ['lo']],
    [['forward', 'add', '--j'], ['--json']],
    [['run', 'unsha'], ['unshare']],
    [['attach', '--pcap', '/etc/passw'], ['/etc/passwd']],
    [['run', '--mtu', ''], []],
  ];
  for (const [words, expected] of table) {
    test(['tslirp', ...words].join(' '), () => {
      const found = complete(tslirp, ...words).filter((word) => word !== '/etc/passwd-');
      assert.deepEqual([...new Set(found)], expected);
    });
  }

  test('the programs without commands', () => {
    const [, slirp4netns = assert.fail(), slirpnetstack = assert.fail()] = programs;
    assert.deepEqual(complete(slirp4netns, '--netns-type', 'ta'), ['tapfd']);
    assert.deepEqual(complete(slirpnetstack, '-enable-h'), ['-enable-host']);
  });
});
