/** Where bin/launcher.pl is, seen from the source and from what was built. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function find(): string {
  let place = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(place, 'bin', 'launcher.pl'))) place = dirname(place);
  return join(place, 'bin', 'launcher.pl');
}

export const launcherPath: string = find();
