import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { bundles, Library } from '../../src/app/library.ts';

/** A copy of the library `name`, which body is free to remove. */
function withCopy(name: string, body: (url: URL, remove: () => void) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'tslirp test-'));
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  try {
    for (const ending of ['js', 'cache'])
      copyFileSync(new URL(`${name}.${ending}`, bundles), join(directory, `${name}.${ending}`));
    body(pathToFileURL(`${directory}/`), remove);
  } finally {
    remove();
  }
}

describe('Library', () => {
  test('what was read is loaded without files', () => {
    withCopy('log', (directory, remove) => {
      const library = new Library<typeof import('pino')>('log', directory);
      library.read();
      remove();
      const lines: string[] = [];
      const options = { base: null, timestamp: false };
      library
        .load()
        .pino(options, { write: (line) => lines.push(line) })
        .info({ a: 1 }, 'text');
      assert.deepEqual(lines, ['{"level":30,"a":1,"msg":"text"}\n']);
      assert.equal(library.load(), library.load());
    });
  });

  test('what was not read needs them, and may be tried again', () => {
    withCopy('pretty', (directory, remove) => {
      const library = new Library<typeof import('pino-pretty')>('pretty', directory);
      const missing = new Library('pretty', new URL('none/', directory));
      assert.throws(() => missing.read(), { code: 'ENOENT' });
      assert.throws(() => missing.load(), { code: 'ENOENT' });
      assert.match(
        library.load().prettyFactory({ colorize: false })('{"level":30,"msg":"text"}'),
        /INFO.*text/,
      );
      remove();
      assert.doesNotThrow(() => library.load());
    });
  });
});
