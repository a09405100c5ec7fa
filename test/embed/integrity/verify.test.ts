import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { TslirpError } from '../../../src/embed/errors.ts';
import { MANIFEST, makeManifest, SIGNATURE } from '../../../src/embed/integrity/manifest.ts';
import { makeSnapshot, removeSnapshot } from '../../../src/embed/integrity/snapshot.ts';
import { verifyContents, verifyInstallation } from '../../../src/embed/integrity/verify.ts';

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const native = `@koromix/koffi-${process.platform}-${process.arch}`;
const FILES: Record<string, string> = {
  'package.json': '{"version":"1.2.3","engines":{"node":">=20.19"}}',
  'bin/tslirp': '#!/bin/sh\n',
  'dist/bundle/tslirp.cjs': 'one',
  'dist/bundle/worker.js': 'two',
  'dist/src/index.js': 'three',
  'dist/src/index.d.ts': 'not loaded',
  'node_modules/koffi/index.js': 'four',
  [`node_modules/${native}/linux/koffi.node`]: 'five',
};
const LOADED = Object.keys(FILES).filter((name) => !name.endsWith('.d.ts'));

let base: string;
let root: string;

function signed(key: KeyObject = privateKey): void {
  const bytes = Buffer.from(JSON.stringify(makeManifest(root)));
  writeFileSync(join(root, MANIFEST), bytes);
  writeFileSync(join(root, SIGNATURE), sign(null, bytes, key));
}

async function reason(options: object = {}): Promise<unknown> {
  try {
    await verifyInstallation({ root, publicKey, ...options });
  } catch (error) {
    const { code, detail } = error as TslirpError;
    assert.equal(code, 'INTEGRITY', String(error));
    return detail?.['reason'];
  }
  return 'none';
}

describe('verifyInstallation', () => {
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'verify-'));
    root = join(base, 'package');
    for (const [name, content] of Object.entries(FILES)) {
      mkdirSync(dirname(join(root, name)), { recursive: true, mode: 0o755 });
      writeFileSync(join(root, name), content, { mode: 0o644 });
    }
    signed();
  });
  afterEach(() => rmSync(base, { recursive: true }));

  it('M-40: what was signed is taken, with the key in any form', async () => {
    const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
    const pem = publicKey.export({ format: 'pem', type: 'spki' });
    for (const key of [publicKey, raw, pem, Buffer.from(pem)]) {
      const { version, manifest } = await verifyInstallation({
        root,
        publicKey: key,
        expectVersion: '1.2.3',
      });
      assert.equal(version, '1.2.3');
      assert.match(manifest, /^[0-9a-f]{64}$/);
    }
    assert.deepEqual(Object.keys(makeManifest(root).files), [...LOADED].sort());
  });

  it('M-40: one byte more in any file that is loaded', async () => {
    for (const name of LOADED) {
      appendFileSync(join(root, name), ' ');
      assert.equal(await reason(), 'changed', name);
      writeFileSync(join(root, name), FILES[name] ?? '');
    }
    assert.equal(await reason(), 'none');
  });

  it('M-40: a file that is missing, one too many, and one that leads elsewhere', async () => {
    for (const name of LOADED.slice(1)) {
      rmSync(join(root, name));
      assert.equal(await reason(), 'missing', name);
      symlinkSync('/etc/hostname', join(root, name));
      assert.equal(await reason(), 'symlink', name);
      rmSync(join(root, name));
      writeFileSync(join(root, name), FILES[name] ?? '');
    }
    for (const name of [
      'dist/src/more.js',
      'dist/bundle/.hidden',
      'bin/other',
      `node_modules/${native}/x.js`,
    ]) {
      writeFileSync(join(root, name), '');
      assert.equal(await reason(), 'extra', name);
      rmSync(join(root, name));
    }
    symlinkSync('/tmp', join(root, 'dist/src/folder'));
    assert.equal(await reason(), 'symlink');
  });

  it('M-40: what others can write to', async () => {
    for (const name of ['dist/src', 'dist/src/index.js', 'bin', MANIFEST, '.', '..']) {
      const path = join(root, name);
      chmodSync(path, 0o777);
      assert.equal(await reason(), 'writable', name);
      chmodSync(path, 0o775);
      assert.equal(await reason(), 'writable', name);
      chmodSync(path, 0o755);
    }
    chmodSync(base, 0o1777);
    assert.equal(await reason(), 'none', 'sticky, as /tmp is');
  });

  it('M-40: another key, a signature cut short, none, another manifest, no key', async () => {
    const other = generateKeyPairSync('ed25519');
    assert.equal(await reason({ publicKey: other.publicKey }), 'signature');
    signed(other.privateKey);
    assert.equal(await reason(), 'signature');
    signed();
    truncateSync(join(root, SIGNATURE), 63);
    assert.equal(await reason(), 'signature');
    rmSync(join(root, SIGNATURE));
    assert.equal(await reason(), 'manifest');
    signed();
    appendFileSync(join(root, MANIFEST), ' ');
    assert.equal(await reason(), 'signature');
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    for (const key of [rsa.publicKey, 'nonsense', Buffer.alloc(31)])
      assert.equal(await reason({ publicKey: key }), 'key');
  });

  it('M-40: another version, and one for another machine', async () => {
    assert.equal(await reason({ expectVersion: '1.2.4' }), 'version');
    const bytes = Buffer.from(JSON.stringify({ ...makeManifest(root), arch: 'vax' }));
    writeFileSync(join(root, MANIFEST), bytes);
    writeFileSync(join(root, SIGNATURE), sign(null, bytes, privateKey));
    assert.equal(await reason(), 'platform');
  });

  it('M-41: what is exchanged after it was verified is not what runs', () => {
    const { contents } = verifyContents({ root, publicKey });
    for (const name of LOADED) writeFileSync(join(root, name), 'exchanged');
    const snapshot = makeSnapshot(contents);
    try {
      for (const name of ['package.json', 'dist/bundle/worker.js', `node_modules/${native}/linux/koffi.node`])
        assert.equal(readFileSync(join(snapshot, name), 'utf8'), FILES[name] ?? '');
      assert.deepEqual(
        readdirSync(snapshot).sort(),
        ['dist', 'node_modules', 'package.json', MANIFEST].sort(),
      );
    } finally {
      removeSnapshot(snapshot);
    }
    assert.equal(existsSync(snapshot), false);
  });
});
