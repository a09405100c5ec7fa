/** `tslirp/stack` for browsers: the bundle of examples/browser, and a page of it in headless Chromium. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { projectPath } from '../support/program-path.ts';

describe('tslirp/stack in a browser', () => {
  let directory = '';
  let code = '';
  let inputs: string[] = [];

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'tslirp-browser-'));
    const built = await build({
      absWorkingDir: dirname(projectPath('package.json')),
      entryPoints: ['examples/browser/main.js'],
      bundle: true,
      format: 'esm',
      // What only Node has does not resolve there: the build would fail.
      platform: 'browser',
      minify: true,
      write: false,
      metafile: true,
    });
    code = built.outputFiles[0]?.text ?? '';
    inputs = Object.keys(built.metafile.inputs);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test('it is made of what is sans-I/O, and of nothing of Node', () => {
    const own =
      /^(examples\/browser\/main|dist\/src\/(netstack|stack)\/.*|dist\/src\/(loop|timer-heap))\.js$/;
    assert.deepEqual(
      inputs.filter((name) => !own.test(name)),
      [],
    );
    assert.ok(inputs.length > 50);
    for (const word of ['node:', 'require(', 'Buffer.', 'process.']) assert.ok(!code.includes(word), word);
  });

  test('a page fetches 16 MiB from itself through two stacks', async () => {
    const page = join(directory, 'index.html');
    writeFileSync(page, `<!doctype html><pre id="result"></pre><script type="module">${code}</script>`);
    const { stdout } = await promisify(execFile)(
      'chromium',
      [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        `--user-data-dir=${join(directory, 'profile')}`,
        '--dump-dom',
        `file://${page}`,
      ],
      { env: { ...process.env, HOME: directory }, maxBuffer: 16 << 20, timeout: 120_000 },
    );
    const shown = /<pre id="result">([^<]*)/.exec(stdout)?.[1] ?? '';
    assert.match(
      shown,
      /^HTTP\/1\.1 200 OK\nServer: 192\.0\.2\.7:80\nContent-Length: 16777216\n\n16777216 bytes, \d+ Mbit\/s$/,
    );
  });
});
