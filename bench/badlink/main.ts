/**
 * Goodput over a bad link: a Linux guest and our stack, beside Linux and Linux over the same link with the same seeds,
 * CUBIC everywhere. Run as root in a network namespace of its own (`make bench-badlink`); needs iperf3.
 *
 * One sample: fresh namespaces, link and stack; one iperf3 stream; what the receiver got. Delays are round trips.
 */
import { parseArgs } from 'node:util';
import type { BadLinkOptions } from '../../test/support/bad-link/direction.ts';
import { openTap, packetSockets, startBadLink } from '../../test/support/bad-link/ends.ts';
import { must, type Running, start } from '../../test/support/processes.ts';
import { until } from '../../test/support/wait.ts';

const HOST = '198.51.100.1';
const PEER = '10.0.2.2';
const GUEST = '10.0.2.100';
const PORT = '5201';
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
  rttMs: number;
  seconds: number;
}

type Stack = 'linux' | 'tslirp';
type Way = 'up' | 'down';

const conditions: readonly Condition[] = [
  { name: '1 % loss, 20 ms', loss: 0.01, rttMs: 20, seconds: 12 },
  { name: '0.1 % loss, 100 ms', loss: 0.001, rttMs: 100, seconds: 20 },
  { name: 'no loss, 200 ms', loss: 0, rttMs: 200, seconds: 15 },
];

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '5' },
    rate: { type: 'string', default: '200' },
    queue: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
    seconds: { type: 'string', default: '0' },
    launcher: { type: 'string', default: 'bin/tslirp' },
    pcap: { type: 'string', default: '' },
    way: { type: 'string', default: 'up,down' },
    stack: { type: 'string', default: 'linux,tslirp' },
  },
});
const seeds = Number(values.seeds);
const rateMbit = Number(values.rate);

function linkOptions(condition: Condition, seed: number): BadLinkOptions {
  return {
    seed,
    loss: condition.loss,
    duplication: 0,
    reorder: 0,
    delayMs: condition.rttMs / 2,
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
async function sample(stack: Stack, way: Way, condition: Condition, seed: number): Promise<number> {
  const running: Running[] = [];
  try {
    const guest = await namespace();
    running.push(guest.anchor);
    const tap = openTap(guest.pid, 'tap0');
    let server: Running;
    const listen = ['iperf3', '-s', '-1', '-p', PORT, '--forceflush'];
    if (stack === 'linux') {
      const peer = await namespace();
      running.push(peer.anchor);
      running.push(
        await startBadLink(tap, openTap(peer.pid, 'tap0'), linkOptions(condition, seed), { first: true }),
      );
      await configure(peer.pid, PEER);
      server = start(inside(peer.pid, listen));
    } else {
      const [ours, links] = packetSockets();
      running.push(await startBadLink(tap, links, linkOptions(condition, seed), { first: true }));
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
      await until(() => ready || !tslirp.running, 'tslirp ready', 10_000);
      if (!ready) throw new Error(tslirp.stderr);
      server = start(listen);
    }
    running.push(server);
    await configure(guest.pid, GUEST);
    await until(() => server.stdout.includes('listening'), 'the server', 5000);
    const address = stack === 'linux' ? PEER : HOST;
    const seconds = Number(values.seconds) || condition.seconds;
    const client = ['iperf3', '-c', address, '-p', PORT, '-t', String(seconds), '-J', '-C', 'cubic'];
    if (way === 'down') client.push('-R');
    const out = await must(inside(guest.pid, client), { limitMs: (seconds + 30) * 1000 });
    const report = JSON.parse(out) as { end: { sum_received: { bits_per_second: number } } };
    return report.end.sum_received.bits_per_second / 1e6;
  } finally {
    for (const one of running.reverse()) await one.stop('SIGKILL');
  }
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

await must(['ip', '-batch', '-'], { input: `link set lo up\naddress add ${HOST}/32 dev lo\n` });
process.stdout.write(
  '| link | way | Linux, Mbit/s | tslirp, Mbit/s | ratio of medians |\n|---|---|--:|--:|--:|\n',
);
for (const condition of conditions) {
  if (!condition.name.startsWith(values.only)) continue;
  for (const way of ['up', 'down'] as const) {
    if (!values.way.includes(way)) continue;
    const results: Record<Stack, number[]> = { linux: [], tslirp: [] };
    for (let seed = 1; seed <= seeds; seed++) {
      const turns: readonly Stack[] = seed % 2 === 0 ? ['linux', 'tslirp'] : ['tslirp', 'linux'];
      for (const stack of turns.filter((name) => values.stack.includes(name)))
        results[stack].push(await sample(stack, way, condition, seed));
    }
    const list = (numbers: number[]): string =>
      `${median(numbers).toFixed(1)} (${numbers.map((n) => n.toFixed(1)).join(' ')})`;
    const ratio = median(results.tslirp) / median(results.linux);
    process.stdout.write(
      `| ${condition.name} | ${way} | ${list(results.linux)} | ${list(results.tslirp)} | ${ratio.toFixed(2)} |\n`,
    );
  }
}
process.exit(0);
