/**
 * Goodput over a bad link: a Linux guest and our stack, beside Linux and Linux over the same link with the same seeds,
 * CUBIC everywhere. Run as root in a network namespace of its own (`make bench-badlink`); needs iperf3.
 *
 * One sample: fresh namespaces, link and stack; one iperf3 stream; what the receiver got. Every link is tried twice: its
 * delay as a round trip, and as the delay of each direction. Where losses keep the rate low the samples of a line run
 * side by side, which costs little processor and disturbs nobody; where they do not, one of each stack.
 */
import { parseArgs } from 'node:util';
import type { BadLinkOptions } from '../../test/support/bad-link/direction.ts';
import { openTap, packetSockets, startBadLink } from '../../test/support/bad-link/ends.ts';
import { must, type Running, start } from '../../test/support/processes.ts';
import { until } from '../../test/support/wait.ts';

const HOST = '198.51.100.1';
const PEER = '10.0.2.2';
const GUEST = '10.0.2.100';
const FIRST_PORT = 5201;
const MTU = 1500;
const ANCHOR = [
  'unshare',
  '--net',
  '--',
  'setpriv',
  '--pdeathsig',
  'KILL',
  '--',
  'sh',
  '-c',
  'echo $$; exec cat',
];

interface Condition {
  name: string;
  loss: number;
  delayMs: number;
  seconds: number;
}

type Stack = 'linux' | 'tslirp';
type Way = 'up' | 'down';
type Reading = 'round' | 'each';

const conditions: readonly Condition[] = [
  { name: '1 % loss, 20 ms', loss: 0.01, delayMs: 20, seconds: 15 },
  { name: '0.1 % loss, 100 ms', loss: 0.001, delayMs: 100, seconds: 30 },
  { name: 'no loss, 200 ms', loss: 0, delayMs: 200, seconds: 15 },
];
const readings: Record<Reading, string> = { round: 'round trip', each: 'each way' };

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '5' },
    'first-seed': { type: 'string', default: '1' },
    rate: { type: 'string', default: '200' },
    queue: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
    delay: { type: 'string', default: 'round,each' },
    seconds: { type: 'string', default: '0' },
    together: { type: 'string', default: '2' },
    launcher: { type: 'string', default: 'bin/tslirp' },
    pcap: { type: 'string', default: '' },
    way: { type: 'string', default: 'up,down' },
    stack: { type: 'string', default: 'linux,tslirp' },
  },
});
const rateMbit = Number(values.rate);

interface Sample {
  stack: Stack;
  way: Way;
  reading: Reading;
  condition: Condition;
  seed: number;
  /** Its server's, which may share a namespace with others. */
  port: number;
}

function linkOptions({ condition, reading, seed }: Sample): BadLinkOptions {
  return {
    seed,
    loss: condition.loss,
    duplication: 0,
    reorder: 0,
    delayMs: reading === 'round' ? condition.delayMs / 2 : condition.delayMs,
    jitterMs: 0,
    rateMbit,
    queueBytes: Number(values.queue) * 1024,
  };
}

async function namespace(): Promise<{ anchor: Running; pid: number }> {
  const anchor = start(ANCHOR);
  return { anchor, pid: Number(await anchor.firstLine()) };
}

function inside(pid: number, argv: readonly string[]): string[] {
  return ['nsenter', '--target', String(pid), '--net', '--', ...argv];
}

async function configure(pid: number, address: string): Promise<void> {
  await must(inside(pid, ['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1']));
  const lines = [
    'link set lo up',
    `link set tap0 mtu ${MTU} up`,
    `address add ${address}/24 dev tap0`,
    ...(address === GUEST ? [`route add default via ${PEER}`] : []),
  ];
  await must(inside(pid, ['ip', '-batch', '-']), { input: `${lines.join('\n')}\n` });
}

/** Goodput in Mbit/s. */
async function measure(sample: Sample): Promise<number> {
  const { stack, way, condition } = sample;
  const port = String(sample.port);
  const running: Running[] = [];
  try {
    const guest = await namespace();
    running.push(guest.anchor);
    const tap = openTap(guest.pid, 'tap0');
    let server: Running;
    const listen = ['iperf3', '-s', '-1', '-p', port, '--forceflush'];
    if (stack === 'linux') {
      const peer = await namespace();
      running.push(peer.anchor);
      running.push(await startBadLink(tap, openTap(peer.pid, 'tap0'), linkOptions(sample), { first: true }));
      await configure(peer.pid, PEER);
      server = start(inside(peer.pid, listen));
    } else {
      const [ours, links] = packetSockets();
      running.push(await startBadLink(tap, links, linkOptions(sample), { first: true }));
      const options = ['--enable-host', '--mtu', String(MTU), '--no-ipv6'];
      if (values.pcap !== '') options.push('--pcap', values.pcap);
      const tslirp = start([values.launcher, 'attach', ...options, '--ready-fd', '4', '--fd', '3'], {
        stdio: ['ignore', 'pipe', 'pipe', ours, 'pipe'],
      });
      running.push(tslirp);
      let ready = false;
      (tslirp.child.stdio[4] as NodeJS.ReadableStream).on('data', () => {
        ready = true;
      });
      await until(() => ready || !tslirp.running, 'tslirp ready', 30_000);
      if (!ready) throw new Error(tslirp.stderr);
      server = start(listen);
    }
    running.push(server);
    await configure(guest.pid, GUEST);
    await until(() => server.stdout.includes('listening'), 'the server', 5000);
    const address = stack === 'linux' ? PEER : HOST;
    const seconds = Number(values.seconds) || condition.seconds;
    const client = ['iperf3', '-c', address, '-p', port, '-t', String(seconds), '-J', '-C', 'cubic'];
    if (way === 'down') client.push('-R');
    const out = await must(inside(guest.pid, client), { limitMs: (seconds + 30) * 1000 });
    const report = JSON.parse(out) as { end: { sum_received: { bits_per_second: number } } };
    return report.end.sum_received.bits_per_second / 1e6;
  } finally {
    for (const one of running.reverse()) await one.stop('SIGKILL', 30_000);
  }
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Goodput of each sample, some of them at a time. */
async function measureAll(samples: readonly Sample[], together: number): Promise<number[]> {
  const results: number[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < samples.length) {
      const mine = next++;
      const sample = samples[mine] as Sample;
      try {
        results[mine] = await measure(sample);
      } catch (error) {
        // A transfer that does not end counts as nothing; the others go on.
        process.stderr.write(`${sample.stack}, seed ${sample.seed}: ${(error as Error).message}\n`);
        results[mine] = 0;
      }
    }
  };
  await Promise.all(Array.from({ length: together }, work));
  return results;
}

/** The samples of one line of the table: which stack comes first changes from seed to seed. */
function samplesOf(condition: Condition, way: Way, reading: Reading): Sample[] {
  const samples: Sample[] = [];
  const first = Number(values['first-seed']);
  for (let seed = first; seed < first + Number(values.seeds); seed++) {
    const turns: readonly Stack[] = seed % 2 === 0 ? ['linux', 'tslirp'] : ['tslirp', 'linux'];
    for (const stack of turns.filter((name) => values.stack.includes(name))) {
      samples.push({ stack, way, reading, condition, seed, port: FIRST_PORT + samples.length });
    }
  }
  return samples;
}

await must(['ip', '-batch', '-'], { input: `link set lo up\naddress add ${HOST}/32 dev lo\n` });
process.stdout.write(
  '| link | delay is | way | Linux, Mbit/s | tslirp, Mbit/s | ratio of medians |\n|---|---|---|--:|--:|--:|\n',
);
for (const reading of ['round', 'each'] as const) {
  if (!values.delay.includes(reading)) continue;
  for (const condition of conditions) {
    if (!condition.name.startsWith(values.only)) continue;
    for (const way of ['up', 'down'] as const) {
      if (!values.way.includes(way)) continue;
      const together = Number(values.together);
      const samples = samplesOf(condition, way, reading);
      const results = await measureAll(samples, together);
      const of = (stack: Stack): number[] => results.filter((_, i) => samples[i]?.stack === stack);
      const list = (stack: Stack): string =>
        `${median(of(stack)).toFixed(1)} (${of(stack)
          .map((mbit) => mbit.toFixed(1))
          .join(' ')})`;
      const ratio = median(of('tslirp')) / median(of('linux'));
      process.stdout.write(
        `| ${condition.name} | ${readings[reading]} | ${way} | ${list('linux')} | ${list('tslirp')} | ${ratio.toFixed(2)} |\n`,
      );
    }
  }
}
process.exit(0);
