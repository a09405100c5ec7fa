/** A program that embeds a tunnel, for what only a process of its own can show. Its argument says what it does. */
import { writeSync } from 'node:fs';
import { openTunnel } from '../../../src/embed/open-tunnel.ts';
import { until } from '../../support/wait.ts';
import { BackToBack, GUEST, held, more, socketPair } from './back-to-back.ts';

const MB = 1024 * 1024;
/** Pieces that libc keeps: how many depends on what else the machine does. Twenty that stay are 300. */
const GROWN_MAX_MB = 100;
const [what = ''] = process.argv.slice(2);

function say(text: string): void {
  writeSync(1, `${text}\n`);
}

/** What whoever embeds us could notice. */
function self(): string {
  const events = process.eventNames().map(String).sort();
  return JSON.stringify({
    directory: process.cwd(),
    umask: process.umask(),
    events,
    exitCode: process.exitCode,
  });
}

const warned: string[] = [];
process.on('warning', ({ message }) => warned.push(message));
const before = self();

/** Twenty tunnels at once, a mebibyte through every second one and back, and then none. */
async function twenty(): Promise<void> {
  const pairs = await Promise.all(Array.from({ length: 10 }, () => BackToBack.open({ mode: 'worker' })));
  await Promise.all(
    pairs.map(async ({ near, far }) => {
      const service = await far.listen({ port: 7 });
      void (async () => {
        for await (const socket of service) socket.pipe(socket);
      })();
      const stream = await near.dial({ host: GUEST, port: 7 });
      stream.end(Buffer.alloc(MB));
      await stream.toArray();
    }),
  );
  await Promise.all(pairs.map((pair) => pair.close()));
}

function residentMb(): number {
  globalThis.gc?.();
  return process.memoryUsage.rss() / MB;
}

if (what === 'twenty') {
  await twenty();
  const kept = held();
  const before = residentMb();
  await twenty();
  const isBack = (): boolean => residentMb() - before < GROWN_MAX_MB;
  await until(isBack, 'the memory back').catch(() => undefined);
  say(JSON.stringify({ grownMb: residentMb() - before, left: more(kept), warned }));
  process.exit(0);
}

const [fd] = socketPair();
const tunnel = await openTunnel({ link: { fd } }, { mode: 'worker', unref: what === 'unref' });
say('running');
switch (what) {
  case 'stays':
    // Somebody has to end it.
    process.stdin.resume().on('data', async () => {
      await tunnel.stop();
      process.stdin.destroy();
      say('stopped');
    });
    break;
  case 'throws':
    setImmediate(() => {
      throw new Error('the embedder’s own');
    });
    break;
  case 'exits':
    process.exit(7);
    break;
  case 'touches': {
    await tunnel.stop();
    say(JSON.stringify({ before, now: self(), warned }));
    break;
  }
  default:
}
