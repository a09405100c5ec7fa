/** Writes the manual pages and completions to dist/share, where `make install` and npm take them from. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot, packageVersion } from '../../src/package-root.ts';
import { bashCompletion, fishCompletion, zshCompletion } from './completion.ts';
import { manualPage } from './manual.ts';
import { programs } from './model.ts';

function write(path: string, text: string): void {
  const file = fileURLToPath(new URL(`dist/share/${path}`, packageRoot));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

const version = packageVersion();
for (const program of programs) {
  const { name } = program;
  const others = programs.map((other) => other.name).filter((other) => other !== name);
  write(`man/man1/${name}.1`, manualPage(program, others, version));
  write(`bash-completion/completions/${name}`, bashCompletion(program));
  write(`zsh/site-functions/_${name}`, zshCompletion(program));
  write(`fish/vendor_completions.d/${name}.fish`, fishCompletion(program));
}
