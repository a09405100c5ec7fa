/**
 * Links that are no interface, beside passt on the same socket: throughput of one TCP connection, and CPU time of the stack per
 * gigabyte. Run as root (`make bench-links`); needs passt and perl.
 *
 * The guest is a program that is as small as can be (guest.ts); server, stack and guest are new for each sample, and the two
 * stacks take turns. passt has no datagram form: there its stream stands beside our datagrams.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createLab, inside, type Lab, SERVER_ADDRESS } from '../e2e/namespaces.ts';
import { cpuMilliseconds } from '../e2e/proc-stats.ts';
import { kill, killAll, type Owned, start, stop, until } from '../e2e/processes.ts';
import { median, rotate } from '../e2e/statistics.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    only: { type: 'string', default: '' },
    stacks: { type: 'string', default: 'tslirp,passt' },
  },
});

const STACKS = ['tslirp', 'passt'] as const;
type StackName = (typeof STACKS)[number];
type Form = 'stream' | 'dgram';
type Way = 'up' | 'down';

const stacks = STACKS.filter((name) => values.stacks.split(',').includes(name));

const PORTS: Record<Way, number> = { up: 5301, down: 5302 };
const GUEST = fileURLToPath(new URL('guest.js', import.meta.url));
const TSLIRP = fileURLToPath(new URL('../../../bin/tslirp', import.meta.url));

/** Takes all that comes, or sends zeros for ever, one client. */
const SERVER = `
use Socket; my ($address, $port, $way) = @ARGV;
socket(my $s, PF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
bind($s, sockaddr_in($port, inet_aton($address))) or die $!; listen($s, 1); $| = 1; print "ready\\n";
accept(my $c, $s); my $bytes = "\\0" x 1048576;
if ($way eq "up") { 1 while sysread $c, $bytes, 1048576 } else { 1 while syswrite $c, $bytes }
`;

interface Figures {
  gbits: number;
  cpu: number;
}

function stackCommand(name: StackName, form: Form, path: string, mtu: number): string[] {
  if (name === 'passt')
    return [
      'passt',
      ...['--foreground', '--quiet', '--runas', '0', '--socket', path, '-m', String(mtu), '-4'],
      ...['-a', '10.0.2.100', '-n', '255.255.255.0', '-g', '10.0.2.2', '-t', 'none', '-u', 'none'],
    ];
  const spec = form === 'stream' ? `qemu:unix:${path}` : `dgram:local=${path},remote=${path}.guest`;
  return [TSLIRP, 'serve', '--enable-routing', '--enable-host', '--mtu', String(mtu), '--link', spec];
}

function line(owned: Owned): Promise<string> {
  return new Promise((resolve, reject) => {
    (owned.child.stdout as Readable).once('data', (chunk: Buffer) => resolve(chunk.toString()));
    void owned.ended.then(() => reject(new Error(owned.complaints())));
  });
}

async function sample(lab: Lab, name: StackName, form: Form, way: Way, mtu: number): Promise<Figures> {
  const directory = mkdtempSync(join(tmpdir(), 'tslirp-links-'));
  const path = join(directory, 's');
  const running: Owned[] = [];
  const run = (argv: readonly string[]): Owned => {
    const owned = start(inside(lab.hostPid, argv), ['ignore', 'pipe', 'pipe']);
    running.push(owned);
    return owned;
  };
  try {
    await line(run(['perl', '-e', SERVER, SERVER_ADDRESS, String(PORTS[way]), way]));
    const stack = run(stackCommand(name, form, path, mtu));
    const streamOrOurs = name === 'passt' ? 'stream' : form;
    await until(() => existsSync(path), name, 10_000);
    const guest = run([process.execPath, GUEST, streamOrOurs, path, way, String(mtu), values.seconds]);
    await line(guest);
    const before = cpuMilliseconds(stack.pid);
    const [bytes = 0, ms = 1] = (await line(guest)).split(' ').map(Number);
    const cpu = cpuMilliseconds(stack.pid) - before;
    return { gbits: (bytes * 8) / ms / 1e6, cpu: (cpu * 1e6) / bytes };
  } finally {
    await Promise.all(running.map((owned) => (owned === running[1] ? stop(owned) : kill(owned))));
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  process.stdout.write(
    '| link | MTU | way | tslirp, Gbit/s | passt | ratio | tslirp, s/GB | passt | ratio |\n|---|---|---|---|---|---|---|---|---|\n',
  );
  for (const form of ['stream', 'dgram'] as const)
    for (const mtu of [1500, 65_520])
      for (const way of ['up', 'down'] as const) {
        if (!`${form}/${mtu}/${way}`.includes(values.only)) continue;
        const figures: Record<StackName, Figures[]> = { tslirp: [], passt: [] };
        for (let round = 0; round < Number(values.rounds); round++) {
          for (const name of rotate(stacks, round)) {
            const lab = await createLab();
            try {
              figures[name].push(await sample(lab, name, form, way, mtu));
            } finally {
              await lab.destroy();
            }
          }
        }
        const of = (name: StackName, figure: keyof Figures): number =>
          median(figures[name].map((each) => each[figure]));
        const row = (['gbits', 'cpu'] as const).flatMap((figure) => {
          const [ours, theirs] = [of('tslirp', figure), of('passt', figure)];
          return [ours.toFixed(2), theirs.toFixed(2), (ours / theirs).toFixed(2)];
        });
        process.stdout.write(`| ${[form, mtu, way, ...row].join(' | ')} |\n`);
      }
}

try {
  await main();
} finally {
  killAll();
}
