import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { PastaLog } from '../../../src/cli/pasta/log.ts';
import { LogFile } from '../../../src/cli/pasta/log-file.ts';
import { PastaError } from '../../../src/cli/pasta/values.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));
let files = 0;

function file(size: number): { path: string; log: LogFile; lines: () => string[] } {
  const path = join(directory, `log-${++files}`);
  const log = new LogFile(path, size, 'pasta 1: /exe (7)');
  return { path, log, lines: () => readFileSync(path, 'utf8').trimEnd().split('\n') };
}

describe('pasta §3.1: the file of --log-file', () => {
  test('begins with whose it is, and has a line for each message', () => {
    const { path, log, lines } = file(40960);
    log.write('one\n');
    log.write('two\n');
    assert.deepEqual(lines(), ['pasta 1: /exe (7)', 'one', 'two']);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test('never grows beyond its size: the oldest lines go, those that stay are whole', () => {
    const size = 1000;
    const { path, log, lines } = file(size);
    for (let i = 0; i < 500; i++) {
      log.write(`line ${i} of many ä\n`);
      assert.ok(statSync(path).size <= size, `${statSync(path).size} bytes after line ${i}`);
    }
    const [head = '', ...kept] = lines();
    assert.match(head, /^pasta 1: \/exe \(7\) - log truncated at \d{4}-/);
    const first = 500 - kept.length;
    assert.ok(kept.length > 20, `${kept.length} lines are left`);
    assert.deepEqual(
      kept,
      kept.map((_, i) => `line ${first + i} of many ä`),
    );
  });

  test('one that cannot be opened', () => {
    assert.throws(
      () => new LogFile('/no/such', 40960, ''),
      (error) =>
        error instanceof PastaError &&
        error.message === "Couldn't open log file /no/such: No such file or directory",
    );
  });
});

describe('pasta §3.1: what is told at which verbosity', () => {
  for (const [verbosity, expected] of [
    ['quiet', ['ERROR:   own', 'WARNING: own', 'ERROR:   engine']],
    ['normal', ['ERROR:   own', 'WARNING: own', 'info:    own', 'ERROR:   engine', 'info:    engine a=1']],
    [
      'debug',
      [
        ...['ERROR:   own', 'WARNING: own', 'info:    own', 'ERROR:   engine', 'info:    engine a=1'],
        '         engine b=x',
      ],
    ],
  ] as const) {
    test(verbosity, () => {
      const { log: to, lines } = file(40960);
      const log = new PastaLog({ verbosity, file: to });
      log.error('own');
      log.warning('own');
      log.info('own');
      log.log('error', 'engine', { guest: 'g0' });
      log.log('warn', 'engine', { a: 1 });
      log.log('info', 'engine', { b: 'x' });
      const [, ...told] = lines();
      assert.deepEqual(
        told.map((line) => line.replace(/^\d+\.\d{4}: /, '')),
        expected,
      );
    });
  }
});
