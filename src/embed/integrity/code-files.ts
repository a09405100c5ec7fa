/**
 * Every file that can be loaded of an installation: of its code folders, and of the packages that are loaded at run time, which
 * may be beside it instead of in it. The order is that of the names.
 */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Of the installation. What is in them and not listed is too much. */
const FOLDERS = ['bin', 'dist/bundle', 'dist/src'];
/** Loaded from outside the bundles. */
const PACKAGES = ['koffi', `@koromix/koffi-${process.platform}-${process.arch}`];
/** Of our folders all but what is for compilers and debuggers; a package may have its sources, too. */
const OURS = /(?<!\.d\.ts|\.map)$/;
const THEIRS = /\.(js|cjs|mjs|json|node)$/;

export interface CodeFile {
  /** In the manifest: from the root, with dependencies in `node_modules`. */
  name: string;
  path: string;
}

/** The folder of a package, seen from `root`, as the runtime looks for it; undefined: it is not there. */
function packageFolder(root: string, name: string): string | undefined {
  for (let directory = root; ; directory = dirname(directory)) {
    const folder = join(directory, 'node_modules', name);
    if (existsSync(folder)) return folder;
    if (directory === dirname(directory)) return undefined;
  }
}

/** Not what only a package's own dependencies have. */
function list(folder: string, name: string, loaded: RegExp, found: CodeFile[]): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const [path, within] = [join(folder, entry.name), `${name}/${entry.name}`];
    if (entry.isDirectory()) {
      if (entry.name !== 'node_modules') list(path, within, loaded, found);
    } else if (loaded.test(entry.name)) found.push({ name: within, path });
  }
}

export function codeFiles(root: string): CodeFile[] {
  const found: CodeFile[] = [{ name: 'package.json', path: join(root, 'package.json') }];
  for (const folder of FOLDERS)
    if (existsSync(join(root, folder))) list(join(root, folder), folder, OURS, found);
  for (const name of PACKAGES) {
    const folder = packageFolder(root, name);
    if (folder !== undefined) list(folder, `node_modules/${name}`, THEIRS, found);
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}
