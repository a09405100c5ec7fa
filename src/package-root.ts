/**
 * The directory of the package, for the few files that are read at run time. Our modules may be where the compiler puts
 * them or in a bundle: this file is two directories below the root either way (dist/src, dist/bundle). A test may run from
 * the source.
 */
import { readFileSync } from 'node:fs';

export const packageRoot: URL = new URL(import.meta.url.endsWith('.ts') ? '../' : '../../', import.meta.url);

let version: string | undefined;

/** Version of the release, from package.json: read once, since the file may not be in sight later. */
export function packageVersion(): string {
  version ??= (JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8')) as { version: string })
    .version;
  return version;
}
