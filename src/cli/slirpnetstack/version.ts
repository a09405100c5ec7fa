/**
 * What `slirpnetstack -version` says: the release and when it was built, `YYYY-MM-DD-HH:MMUTC`. The build leaves the time
 * beside the compiled code (scripts/build-stamp.mjs).
 */
import { readFileSync } from 'node:fs';
import { packageRoot, packageVersion } from '../../package-root.ts';

export function versionText(): string {
  const stamp = readFileSync(new URL('dist/src/build-stamp.json', packageRoot), 'utf8');
  const { builtAt } = JSON.parse(stamp) as { builtAt: string };
  const [date = '', time = ''] = new Date(builtAt).toISOString().split('T');
  return `slirpnetstack version ${packageVersion()}\nbuild time ${date}-${time.slice(0, 5)}UTC\n`;
}
