/**
 * `make attack`: each flood at 50,000 frames a second for ATTACK_SECONDS (60), and what a neighbour flow of the same guest
 * got meanwhile. Runs in the "host" of test/lab.sh.
 */
import { OPEN, startGuest } from '../support/namespaces.ts';
import { type Attack, attack, NeighbourServers } from './attack.ts';
import { floods } from './floods.ts';

const seconds = Number(process.env['ATTACK_SECONDS'] ?? 60);
const rate = Number(process.env['ATTACK_RATE'] ?? 50_000);

function row(name: string, a: Attack): string {
  const cells = [
    name.padEnd(28),
    `${Math.round(a.sent / (seconds + 1))}`.padStart(8),
    a.megabytesPerSecond.toFixed(0).padStart(8),
    a.p50.toFixed(2).padStart(8),
    a.p99.toFixed(1).padStart(8),
    a.max.toFixed(0).padStart(8),
    a.before.toFixed(0).padStart(8),
    a.after.toFixed(0).padStart(8),
  ];
  return cells.join(' ');
}

const servers = new NeighbourServers();
await servers.open();
try {
  process.stdout.write(`${seconds} s each, ${rate} frames/s, a fresh guest for each\n`);
  process.stdout.write(
    'flood                         frames/s     MB/s   p50 ms   p99 ms   max ms  MiB bef  MiB aft\n',
  );
  for (const flood of [null, ...floods]) {
    const guest = await startGuest(...OPEN);
    try {
      const result = await attack(guest, servers, flood, rate, seconds);
      process.stdout.write(`${row(flood?.name ?? 'none', result)}\n`);
    } finally {
      await guest[Symbol.asyncDispose]();
    }
  }
} finally {
  servers.close();
}
