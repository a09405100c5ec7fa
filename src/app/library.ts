/**
 * Libraries that are loaded when something has to be said, each a bundle of its own with its compiled code beside it
 * (scripts/bundle.mjs). By then the file system may be closed, or there may be no descriptors left; so a library can be read
 * before it is loaded.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import { packageRoot } from '../package-root.ts';

type Wrapper = (
  exports: object,
  require: (name: string) => object,
  module: { exports: object },
  filename: string,
) => void;

/** Where bundles are. */
export const bundles: URL = new URL('dist/bundle/', packageRoot);

export class Library<Exports> {
  readonly #name: string;
  readonly #directory: URL;
  #files: { source: string; cachedData: Buffer } | undefined;
  #exports: Exports | undefined;

  constructor(name: string, directory: URL = bundles) {
    this.#name = name;
    this.#directory = directory;
  }

  /** Throws when it cannot be read. */
  read(): void {
    this.#files ??= {
      source: readFileSync(this.#file('js'), 'latin1'),
      cachedData: readFileSync(this.#file('cache')),
    };
  }

  load(): Exports {
    if (this.#exports !== undefined) return this.#exports;
    this.read();
    const { source, cachedData } = this.#files as { source: string; cachedData: Buffer };
    const filename = fileURLToPath(this.#file('js'));
    const run = new Script(source, { filename, cachedData }).runInThisContext() as Wrapper;
    const module = { exports: {} };
    // They have no modules but the runtime's.
    run(module.exports, (name) => process.getBuiltinModule(name) as object, module, filename);
    this.#exports = module.exports as Exports;
    this.#files = undefined;
    return this.#exports;
  }

  #file(ending: string): URL {
    return new URL(`${this.#name}.${ending}`, this.#directory);
  }
}
