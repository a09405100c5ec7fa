/** Where a file of the project is, seen from the source as well as from what was built. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export function projectPath(name: string): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, name))) directory = dirname(directory);
  return join(directory, name);
}

export function programPath(name: string): string {
  return projectPath(join('bin', name));
}
