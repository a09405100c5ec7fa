// Puts each program into one file of dist/bundle, and the data-plane thread too: finding, reading and linking a hundred
// modules is most of what the start would take. CommonJS, because Node has that ready earlier. What stays outside is native
// or loaded late.
//
// Compiling is the next most: V8's result is kept beside each file (NAME.cache, see compiled-code.mjs), and NAME.cjs is
// what loads both. V8 looks whether it is its own, so with another Node it is compiled again. These files differ from
// build to build.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { codeOfLibrary, codeOfProgram, codeOfWorker } from './compiled-code.mjs';

const source = fileURLToPath(new URL('../dist/src/', import.meta.url));
const target = fileURLToPath(new URL('../dist/bundle/', import.meta.url));
const entryPoints = {
  tslirp: `${source}cli/main.js`,
  slirp4netns: `${source}cli/slirp4netns/main.js`,
  slirpnetstack: `${source}cli/slirpnetstack/main.js`,
  pasta: `${source}cli/pasta/main.js`,
  pesto: `${source}cli/pesto/main.js`,
  worker: `${source}engine/worker.js`,
  again: `${source}app/again.js`,
};
/** What src/app/library.ts loads. */
const libraries = {
  log: 'pino',
  pretty: 'pino-pretty',
  'web-socket': 'ws',
  'request-checks': fileURLToPath(new URL('../dist/request-checks.cjs', import.meta.url)),
};

await build({
  entryPoints: { ...entryPoints, ...libraries },
  outdir: target,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  // What the loader reads as Latin-1, which is faster.
  charset: 'ascii',
  // Less to read. Names stay, and so do lines short enough to find a place by: stack traces are of this text.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 160,
  external: ['@koromix/*', 'prom-client'],
  alias: {
    'node:module': fileURLToPath(new URL('node-module.mjs', import.meta.url)),
    'node:child_process': fileURLToPath(new URL('node-child-process.mjs', import.meta.url)),
  },
  define: {
    // Of native helpers that it can do without.
    'process.env.WS_NO_BUFFER_UTIL': '"1"',
    'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
    'import.meta.url': 'moduleUrl',
  },
  banner: {
    js: "(function (exports, require, module, __filename, __dirname) { const moduleUrl = require('node:url').pathToFileURL(__filename).href;",
  },
  footer: { js: '})' },
  logLevel: 'warning',
});

const loader = `const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');
const filename = __filename.replace(/cjs$/, 'js');
let cachedData;
try {
  cachedData = readFileSync(filename.replace(/js$/, 'cache'));
} catch {
  // Then without.
}
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData });
script.runInThisContext()(exports, require, module, filename, __dirname);
`;

for (const name of Object.keys(entryPoints)) {
  const filename = `${target}${name}.js`;
  const cache = `${target}${name}.cache`;
  const code = name === 'worker' ? await codeOfWorker(filename) : codeOfProgram(name, filename, cache);
  writeFileSync(cache, code);
  writeFileSync(`${target}${name}.cjs`, loader);
}
for (const name of Object.keys(libraries))
  writeFileSync(`${target}${name}.cache`, codeOfLibrary(name, `${target}${name}.js`));
