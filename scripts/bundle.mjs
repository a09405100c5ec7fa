// Puts each program into one file of dist/bundle, and the data-plane thread too: finding, reading and linking a hundred
// modules is most of what the start would take. CommonJS, because Node has that ready earlier. What stays outside is native
// (koffi) or loaded late (the log and metrics libraries).
import { build } from 'esbuild';

const source = new URL('../dist/src/', import.meta.url).pathname;

await build({
  entryPoints: {
    tslirp: `${source}cli/main.js`,
    slirp4netns: `${source}cli/slirp4netns/main.js`,
    slirpnetstack: `${source}cli/slirpnetstack/main.js`,
    worker: `${source}engine/worker.js`,
  },
  outdir: new URL('../dist/bundle/', import.meta.url).pathname,
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  external: ['koffi', 'pino', 'pino-pretty', 'prom-client'],
  define: { 'import.meta.url': 'moduleUrl' },
  banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
  logLevel: 'warning',
});
