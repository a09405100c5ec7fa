/**
 * Automatic forwards: how long from listen(2) in the guest to the first connection that succeeds on the host, and what it costs
 * to look when nothing happens; beside pasta's `-t auto`. Run as root in a network namespace of its own (`make bench-auto`).
 *
 * A guest is a namespace with a Node process that listens as it is told and says when; the host tries every millisecond. Both
 * read the same monotonic clock.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { processTree } from '../e2e/proc-stats.ts';
import { delay, kill, killAll, type Owned, run, start, until } from '../e2e/processes.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '5' },
    listeners: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const many = Number(values.listeners);

const FIRST_PORT = 20_000;
const FIRST_OF_MANY = 30_000;
const PATIENCE_MS = 10_000;

const GUEST = `
const { createServer } = require('node:net');
const listen = (port) => new Promise((done) => {
  const server = createServer((socket) => socket.on('error', () => undefined).end('x'));
  server.listen({ host: '0.0.0.0', port }, done);
});
require('node:readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const [first, count] = line.split(' ').map(Number);
  for (let i = 0; i < count; i++) await listen(first + i);
  console.log(String(process.hrtime.bigint()));
});
`;

class Guest {
  readonly owned: Owned;
  #answered: ((line: string) => void) | undefined;

  constructor(pid: number) {
    const argv = [
      'nsenter',
      '-t',
      String(pid),
      '-U',
      '-n',
      '--preserve-credentials',
      process.execPath,
      '-e',
      GUEST,
    ];
    this.owned = start(argv, ['pipe', 'pipe', 'inherit']);
    createInterface({ input: this.owned.child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.#answered?.(line),
    );
  }

  /** When the last of them listened, ns. */
  listen(first: number, count: number): Promise<bigint> {
    const answer = new Promise<bigint>((resolve) => {
      this.#answered = (line) => resolve(BigInt(line));
    });
    this.owned.child.stdin?.write(`${first} ${count}\n`);
    return answer;
  }
}

const contenders: Record<string, (pid: number) => string[]> = {
  tslirp: (pid) => ['bin/tslirp', 'attach', '-q', '--auto-forward=tcp', String(pid)],
  'pasta -t auto': (pid) => [
    ...['pasta', '-f', '--runas', '0', '--config-net', '-4', '-I', 'tap0', '-a', '10.0.2.100'],
    ...[
      '-n',
      '255.255.255.0',
      '-g',
      '10.0.2.2',
      '-t',
      'auto',
      '-u',
      'none',
      '-T',
      'none',
      '-U',
      'none',
      String(pid),
    ],
  ],
};

/** Whether somebody answers behind the port. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.on('data', () => resolve(true));
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
  });
}

async function latencies(guest: Guest, stack: Owned): Promise<number[]> {
  const found: number[] = [];
  for (let round = 0; round < rounds; round++) {
    // Not in step with whoever looks.
    await delay(300 + ((round * 37) % 200));
    const port = FIRST_PORT + round;
    const begun = await guest.listen(port, 1);
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await answers(port))) {
      if (performance.now() > deadline)
        throw new Error(`port ${port} is not published: ${stack.complaints()}`);
      await delay(1);
    }
    found.push(Number(process.hrtime.bigint() - begun) / 1e6);
  }
  return found.toSorted((a, b) => a - b);
}

/** ns on a processor so far, of all threads. */
function onCpu(pid: number): number {
  let total = 0;
  for (const process of processTree(pid)) {
    try {
      for (const task of readdirSync(`/proc/${process}/task`)) {
        const [ran = ''] = readFileSync(`/proc/${process}/task/${task}/schedstat`, 'latin1').split(' ');
        total += Number(ran);
      }
    } catch {
      // It has ended.
    }
  }
  return total;
}

/** Percent of a core. */
async function idleCost(pid: number): Promise<number> {
  const before = onCpu(pid);
  await delay(seconds * 1000);
  return (onCpu(pid) - before) / (seconds * 1e7);
}

async function measure(name: string, argv: (pid: number) => string[]): Promise<string> {
  const anchor = start(['unshare', '-Urn', 'sleep', 'infinity']);
  await until(
    () => readFileSync(`/proc/${anchor.pid}/comm`, 'latin1') === 'sleep\n',
    'the namespace',
    PATIENCE_MS,
  );
  await run(
    [
      'nsenter',
      '-t',
      String(anchor.pid),
      '-U',
      '-n',
      '--preserve-credentials',
      'ip',
      'link',
      'set',
      'lo',
      'up',
    ],
    PATIENCE_MS,
  );
  const stack = start(argv(anchor.pid));
  const guest = new Guest(anchor.pid);
  await delay(1500);
  const idle = await idleCost(stack.pid);
  const found = await latencies(guest, stack);
  await guest.listen(FIRST_OF_MANY, many);
  await delay(5000);
  const busy = await idleCost(stack.pid);
  for (const owned of [guest.owned, stack, anchor]) await kill(owned);
  const at = (share: number): string => (found[Math.ceil(share * found.length) - 1] ?? 0).toFixed(0);
  const cost = (percent: number): string => percent.toFixed(3);
  return `| ${name} | ${at(0.5)} | ${at(0.99)} | ${cost(idle)} | ${cost(busy)} |`;
}

try {
  await run(['ip', 'link', 'set', 'lo', 'up'], PATIENCE_MS);
  await run(['ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1'], PATIENCE_MS);
  await run(['ip', 'addr', 'add', '198.51.100.1/24', 'dev', 'up0'], PATIENCE_MS);
  for (const end of ['up0', 'up1']) await run(['ip', 'link', 'set', end, 'up'], PATIENCE_MS);
  await run(['ip', 'route', 'add', 'default', 'via', '198.51.100.254'], PATIENCE_MS);
  console.log(
    `| | listen → connect p50, ms | p99 of ${rounds} | idle, % of a core | with ${many} listeners |`,
  );
  console.log('| --- | --- | --- | --- | --- |');
  for (const [name, argv] of Object.entries(contenders))
    if (name.startsWith(values.only)) console.log(await measure(name, argv));
} finally {
  killAll();
}
