/**
 * What was verified, as files that nobody else can get at: a child runs from them, so that what runs is what was read, whatever
 * becomes of the installation meanwhile.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Contents } from './verify.ts';

/** What a child needs: the programs in one file each, and what is native. */
const NEEDED = /^(tslirp-manifest\.json$|package\.json$|dist\/bundle\/|node_modules\/@koromix\/)/;

/** The directory; `removeSnapshot` takes it away. */
export function makeSnapshot(contents: Contents): string {
  const directory = mkdtempSync(join(tmpdir(), 'tslirp-'));
  for (const [name, content] of contents) {
    if (!NEEDED.test(name)) continue;
    const path = join(directory, name);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, content, { mode: 0o600, flag: 'wx' });
  }
  return directory;
}

export function removeSnapshot(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}
