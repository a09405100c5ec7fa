// V8 compiles a function when it is called first. What it has compiled of a program by then can be kept, so the programs
// are run once in the build, as far as they come without a namespace, and the data plane has its rehearsal.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { Script } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { processLimits } from '../dist/src/config.js';

/** No process has it: above the largest number there can be. */
const NO_PROCESS = '4194305';

const commandLines = {
  tslirp: ['attach', '--configure', '--mtu', '1500', '--enable-routing', '--enable-host', NO_PROCESS],
  slirp4netns: ['-c', '-m', '1500', '-r', '1', NO_PROCESS, 'tap0'],
  // What is no namespace is found out late.
  pasta: '--config-net --dns-forward 169.254.1.1 -t none -u none --quiet --netns /dev/null'.split(' '),
  pesto: ['--add', '-t', '0.0.0.0/8080', '/dev/null/nowhere'],
  again: [],
  slirpnetstack: ['--interface', 'tap0', '--enable-routing', '--netns', `/proc/${NO_PROCESS}/ns/net`],
};

/** Text of a program that runs the script `filename` and leaves it in `script`. */
function running(filename) {
  return `
    const { readFileSync, writeFileSync } = require('node:fs');
    const { createRequire } = require('node:module');
    const { Script } = require('node:vm');
    const filename = ${JSON.stringify(filename)};
    const script = new Script(readFileSync(filename, 'latin1'), { filename });
    const run = () => script.runInThisContext()({}, createRequire(filename), {}, filename, ${JSON.stringify(dirname(filename))});`;
}

/** Code of the program `name` in `filename`, by way of the file `target`. */
export function codeOfProgram(name, filename, target) {
  const text = `${running(filename)}
    process.argv.splice(1, 0, filename);
    const keep = () => writeFileSync(${JSON.stringify(target)}, script.createCachedData());
    process.on('exit', keep);
    // What a program does to itself that does not get to its end in time, on a busy machine.
    const { kill } = process;
    process.kill = (...to) => {
      keep();
      return kill.apply(process, to);
    };
    run();`;
  rmSync(target, { force: true });
  // How it ends is known: there is no such process.
  spawnSync(process.execPath, ['-e', text, '--', ...commandLines[name]], {
    stdio: 'ignore',
    timeout: 60_000,
  });
  return readFileSync(target);
}

/** What src/app/logger.ts and src/daemon/requests.ts do with them. */
const uses = {
  log: ({ pino }) =>
    pino({ level: 'info', base: null, timestamp: false }, { write: () => true }).info({ time: 0 }, 'line'),
  pretty: ({ prettyFactory }) =>
    prettyFactory({ colorize: true, singleLine: true, translateTime: 'SYS:HH:MM:ss.l', ignore: 'guest' })(
      '{"level":30,"time":0,"guest":"g0","reason":"none","msg":"line"}\n',
    ),
  'web-socket': ({ WebSocketServer }) => new WebSocketServer({ noServer: true }).close(),
  'request-checks': ({ start }) => start({ config: { link: { fd: 3 } } }),
};

/** Code of the library `name` in `filename`. */
export function codeOfLibrary(name, filename) {
  const script = new Script(readFileSync(filename, 'latin1'), { filename });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, createRequire(filename), module, filename);
  uses[name](module.exports);
  return script.createCachedData();
}

/** Code of the data plane in `filename`. */
export async function codeOfWorker(filename) {
  const text = `${running(filename)}
    run();
    require('node:worker_threads').parentPort.postMessage({ code: script.createCachedData() });`;
  const stop = new SharedArrayBuffer(8);
  const workerData = { limits: processLimits, debug: true, stop, rehearseOnly: true, broker: null };
  const worker = new Worker(text, { eval: true, workerData });
  let code;
  worker.on('message', (event) => {
    if (event.code === undefined) process.stderr.write(`${JSON.stringify(event)}\n`);
    else code = event.code;
  });
  await once(worker, 'exit');
  if (code === undefined) throw new Error('the data plane cannot be loaded');
  return code;
}
