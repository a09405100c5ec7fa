/**
 * What `slirpnetstack -version` says: the release and when it was built, `YYYY-MM-DD-HH:MMUTC`. The build leaves the time
 * beside the compiled code (scripts/build-stamp.mjs).
 */
import { readFileSync } from 'node:fs';

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as T;
}

export function versionText(): string {
  const { version } = readJson<{ version: string }>('../../../../package.json');
  const { builtAt } = readJson<{ builtAt: string }>('../../build-stamp.json');
  const [date = '', time = ''] = new Date(builtAt).toISOString().split('T');
  return `slirpnetstack version ${version}\nbuild time ${date}-${time.slice(0, 5)}UTC\n`;
}
