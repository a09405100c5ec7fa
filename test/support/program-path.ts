/** Where a program of bin is, seen from the source as well as from what was built. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export function programPath(name: string): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'bin', name))) directory = dirname(directory);
  return join(directory, 'bin', name);
}
