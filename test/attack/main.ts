/**
 * `make attack`: each flood at 50,000 frames a second for ATTACK_SECONDS (60: half an hour in all; 5: four minutes), and what
 * neighbours of the same guest got meanwhile. ATTACK_ONLY=text chooses floods by their names. Runs in the "host" of test/lab.sh.
 */
import { type Attack, attack, NeighbourServers } from './attack.ts';
import { floods } from './floods.ts';
import type { Waits } from './neighbour.ts';

const seconds = Number(process.env['ATTACK_SECONDS'] ?? 60);
const rate = Number(process.env['ATTACK_RATE'] ?? 50_000);
const only = process.env['ATTACK_ONLY'] ?? '';

const COLUMNS: [string, number, (a: Attack) => string][] = [
  ['sent/s', 7, (a) => (a.sent / (seconds + 1)).toFixed(0)],
  ['read', 9, (a) => String(a.received)],
  ['down', 5, (a) => a.down.toFixed(0)],
  ['up', 5, (a) => a.up.toFixed(0)],
  ['TCP p50', 8, (a) => a.tcp.p50.toFixed(2)],
  ['p99', 6, (a) => a.tcp.p99.toFixed(1)],
  ['max', 5, (a) => a.tcp.max.toFixed(0)],
  ['UDP max', 8, (a) => a.udp.max.toFixed(0)],
  ['lost', 9, (a) => failures(a.udp)],
  ['connect', 8, (a) => a.connect.max.toFixed(0)],
  ['failed', 9, (a) => failures(a.connect)],
  ['API', 5, (a) => a.api.max.toFixed(0)],
  ['failed', 7, (a) => failures(a.api)],
  ['turn', 5, (a) => a.turn.toFixed(0)],
  ['CPU', 5, (a) => a.turnCpu.toFixed(1)],
  ['MiB', 4, (a) => a.before.toFixed(0)],
  ['after', 6, (a) => a.after.toFixed(0)],
];

function failures(w: Waits): string {
  return `${w.failed}/${w.count}`;
}

const servers = new NeighbourServers();
await servers.open();
try {
  process.stdout.write(`${seconds} s each, ${rate} frames/s, a fresh guest for each; MB/s, milliseconds\n`);
  process.stdout.write(
    `${'flood'.padEnd(28)}${COLUMNS.map(([title, width]) => title.padStart(width + 1)).join('')}\n`,
  );
  for (const flood of [null, ...floods]) {
    const name = flood?.name ?? 'none';
    if (!name.includes(only)) continue;
    const result = await attack(servers, flood, rate, seconds);
    const cells = COLUMNS.map(([, width, cell]) => cell(result).padStart(width + 1));
    process.stdout.write(`${name.padEnd(28)}${cells.join('')}\n`);
    if (result.exceptions > 0) throw new Error(`${name}: ${result.exceptions} exceptions in the data plane`);
  }
} finally {
  servers.close();
}
