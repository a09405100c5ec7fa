/** What an installation is made of: `tslirp-manifest.json`, and its signature beside it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeFiles } from './code-files.ts';

export const MANIFEST = 'tslirp-manifest.json';
/** Ed25519, of the exact bytes of the manifest. */
export const SIGNATURE = 'tslirp-manifest.sig';

export interface Manifest {
  version: string;
  node: string;
  platform: string;
  arch: string;
  /** SHA-512 in base64. */
  files: Record<string, string>;
}

export function hashOf(content: Uint8Array): string {
  return createHash('sha512').update(content).digest('base64');
}

/** Of what is at `root` now. */
export function makeManifest(root: string): Manifest {
  const { version, engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    version: string;
    engines: { node: string };
  };
  const { platform, arch } = process;
  const files = codeFiles(root).map(({ name, path }) => [name, hashOf(readFileSync(path))] as const);
  return { version, node: engines.node, platform, arch, files: Object.fromEntries(files) };
}

/** By which both ends of a control connection tell whether they have the same; null: there is none. */
export function manifestDigest(root: string): string | null {
  try {
    return createHash('sha256')
      .update(readFileSync(join(root, MANIFEST)))
      .digest('hex');
  } catch {
    return null;
  }
}
