/** The real installation, copied and signed: what is started of it, and what is not. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { projectPath } from '../../support/program-path.ts';

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
let root: string;
let key: string;
let canary: string;

/** A script of the copy's. */
function run(script: string): { status: number | null; stdout: string; stderr: string } {
  const text = `import { openTunnel, verifyInstallation } from '${root}/dist/src/index.js';
    import { readFileSync } from 'node:fs';
    const publicKey = readFileSync('${key}');
    ${script}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', text], {
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: dirname(root), CANARY: canary },
  });
}

describe('an installation that was signed', () => {
  before(() => {
    const base = mkdtempSync(join(tmpdir(), 'installed-'));
    root = join(base, 'tslirp');
    canary = join(base, 'canary');
    const source = dirname(projectPath('biome.json'));
    for (const name of ['bin', 'dist/bundle', 'dist/src', 'package.json', 'scripts/manifest.mjs'])
      cpSync(join(source, name), join(root, name), { recursive: true });
    for (const name of ['koffi', '@koromix', 'commander'])
      cpSync(join(source, 'node_modules', name), join(root, 'node_modules', name), { recursive: true });
    mkdirSync(join(base, 'keys'));
    key = join(base, 'keys/public.pem');
    const secret = join(base, 'keys/private.pem');
    writeFileSync(key, publicKey.export({ format: 'pem', type: 'spki' }));
    writeFileSync(secret, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
    const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts/manifest.mjs')], {
      encoding: 'utf8',
      env: { ...process.env, TSLIRP_SIGNING_KEY: secret },
    });
    assert.equal(status, 0, stderr);
  });
  after(() => rmSync(dirname(root), { recursive: true, force: true }));

  const OPEN = `const tunnel = await openTunnel({ link: { spec: 'bess:${'$'}{process.env.CANARY}.sock' } },
    { integrity: { publicKey } });
    console.log((await tunnel.status()).state);
    await tunnel.stop();`;

  test('M-40: a child of it runs from what was verified, and nothing of that is left', () => {
    const { status, stdout, stderr } = run(OPEN);
    assert.deepEqual([status, stdout, stderr], [0, 'running\n', '']);
    assert.deepEqual(
      readdirSync(dirname(root)).filter((name) => name.startsWith('tslirp-')),
      [],
    );
  });

  test('M-40: it says what it is, and starts nothing', () => {
    const { status, stdout } = spawnSync(join(root, 'bin/tslirp'), ['version', '--output=json'], {
      encoding: 'utf8',
    });
    const { version, node, protocol, manifest } = JSON.parse(stdout) as Record<string, string>;
    assert.deepEqual([status, version, node, protocol], [0, '0.1.0', process.versions.node, '1.0']);
    const verified = run(`console.log((await verifyInstallation({ root: "${root}", publicKey })).manifest)`);
    assert.equal(verified.stdout.trim(), manifest);
  });

  test('M-40: what was changed is not run, by the library or by the daemon: status 4', () => {
    const daemon = (): { status: number | null; stderr: string } =>
      spawnSync(join(root, 'bin/tslirp'), ['daemon', '--control-fd', '0', '--public-key', key], {
        encoding: 'utf8',
        stdio: ['pipe', 'ignore', 'pipe'],
      });
    assert.deepEqual([daemon().status, daemon().stderr], [0, '']);
    const worker = join(root, 'dist/bundle/worker.js');
    appendFileSync(worker, `;require('node:fs').writeFileSync(${JSON.stringify(canary)}, '');`);
    const refused = run(OPEN);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /INTEGRITY/);
    const { status, stderr } = daemon();
    assert.equal(status, 4);
    assert.match(
      stderr,
      /^tslirp daemon: INTEGRITY reason=changed: dist\/bundle\/worker\.js is not what it was\n$/,
    );
    assert.equal(existsSync(canary), false);
  });
});
