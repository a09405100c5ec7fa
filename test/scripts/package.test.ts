/**
 * What npm would publish, as somebody else has it: packed, put beside his own code, compiled against in strict TypeScript, with
 * the declarations of the library checked as well, and run with this Node.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Where package.json is, from the source or from what was built. */
function findRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

const root = findRoot();
const consumer = `
import { openTunnel, TslirpError, version, type Tunnel, type TunnelConfig, type TunnelEvent } from 'tslirp';

const config: TunnelConfig = { link: { fd: 9999 }, policy: { routing: true }, forwards: ['tcp:8080:10.0.2.100:80'] };

export async function use(tunnel: Tunnel): Promise<void> {
  const reason = await tunnel.stop({ graceMs: 10 });
  if (reason.code === 'CRASHED') console.log(reason.exitCode);
  for await (const event of tunnel.events({ types: ['forward.added', 'state'] })) show(event);
  (await tunnel.dial({ host: '10.0.2.100', port: 80 })).end('x');
}

function show(event: TunnelEvent): void {
  if (event.type === 'forward.added') console.log(event.hostEnd.port);
}

try {
  await openTunnel(config, { mode: 'worker' });
} catch (error) {
  if (!(error instanceof TslirpError)) throw error;
  console.log(version, error.code, error.detail?.['path']);
}
`;

/** What README shows, which only wants a function of the reader's. */
function readmeExample(): string {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const [, example = ''] = /```ts\n(import \{ openTunnel \}.*?)```/s.exec(readme) ?? [];
  assert.notEqual(example, '', 'README has no example');
  const own =
    "import type { NetworkSettings } from 'tslirp';\ndeclare function configureOs(diff: NetworkSettings): Promise<void>;\n";
  return own + example;
}

describe('the package', () => {
  let home = '';
  const run = (program: string, args: string[], cwd: string = home): string =>
    execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

  before(() => {
    home = mkdtempSync(join(tmpdir(), 'tslirp-package-'));
    const modules = join(home, 'node_modules');
    mkdirSync(join(modules, 'tslirp'), { recursive: true });
    const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', home];
    const tarball = run('npm', pack, root).trim().split('\n').at(-1) ?? '';
    run('tar', ['-xzf', join(home, tarball), '-C', join(modules, 'tslirp'), '--strip-components=1']);
    // What it depends on is as it was installed here.
    for (const name of readdirSync(join(root, 'node_modules'))) {
      if (!name.startsWith('.') && name !== 'tslirp')
        symlinkSync(join(root, 'node_modules', name), join(modules, name));
    }
    writeFileSync(join(home, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(home, 'consumer.ts'), consumer);
    writeFileSync(join(home, 'readme.ts'), readmeExample());
  });
  after(() => rmSync(home, { recursive: true, force: true }));

  test('is compiled against in strict TypeScript, its declarations checked too', () => {
    const strict = [
      '--strict',
      '--exactOptionalPropertyTypes',
      '--noUncheckedIndexedAccess',
      '--skipLibCheck',
      'false',
    ];
    const target = ['--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,esnext.disposable'];
    const tsc = join(root, 'node_modules', '.bin', 'tsc');
    try {
      run(process.execPath, [tsc, ...strict, ...target, '--types', 'node', 'consumer.ts', 'readme.ts']);
    } catch (error) {
      assert.fail((error as { stdout: string }).stdout);
    }
  });

  test('is run from where it was put, and reads no file of ours', () => {
    assert.match(run(process.execPath, ['consumer.js']), /^\d+\.\d+\.\d+\S* FD_INVALID link\.fd\n$/);
  });

  test('has the program too', () => {
    assert.match(run(join(home, 'node_modules', 'tslirp', 'bin', 'tslirp'), ['--version']), /\d+\.\d+\.\d+/);
  });
});
