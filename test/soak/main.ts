/**
 * `make soak`: everything at once for SOAK_MINUTES (10), in the "host" of test/lab.sh: connections that end in every way,
 * datagrams, ping, DNS floods, resolvers that change, forwards added and removed, out of descriptors, interface down and
 * up. At the end nothing may be left: no flow, descriptor, page or timer that was not there before, and memory is flat.
 * Prints one line a round; ends with 1 when something is left.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { residentMiB } from '../attack/attack.ts';
import { startDnsResponder } from '../support/dns-responder.ts';
import { directory, type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { run } from '../support/processes.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const minutes = Number(process.env['SOAK_MINUTES'] ?? 10);
const apiPath = join(directory, 'soak.api');
const resolvConf = '/etc/resolv.conf';

/** One request of the API. */
function request(execute: string, args: object = {}): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = connect(apiPath);
    let text = '';
    socket.on('data', (part: Buffer) => {
      text += part.toString();
    });
    socket.on('error', reject);
    socket.on('end', () => resolve(JSON.parse(text) as Record<string, unknown>));
    socket.end(JSON.stringify({ execute, arguments: args }));
  });
}

interface State {
  flows: number;
  dns: number;
  pages: number;
  used: number;
  timers: number;
  fds: number;
  mib: number;
  frames: number;
  bugs: number;
}

async function state(guest: Guest): Promise<State> {
  const { return: stats } = (await request('stats')) as {
    return: { counters: Record<string, number>; gauges: Record<string, number> };
  };
  const { counters, gauges } = stats;
  const of = (name: string): number => gauges[name] ?? 0;
  return {
    flows: of('tcp.flows') + of('udp.flows') + of('ping.flows'),
    dns: of('dns.outstanding'),
    pages: of('memory.pages_used'),
    used: of('descriptors.used'),
    timers: of('timers'),
    fds: readdirSync(`/proc/${guest.stack.pid}/fd`).length,
    mib: residentMiB(guest.stack.pid),
    frames: counters['rx.packets'] ?? 0,
    bugs: counters['drop.bug.exception'] ?? 0,
  };
}

/** Guest program: one round of traffic. Counts what came through. */
async function traffic(hosts: string[], port: number, closedPort: number): Promise<Record<string, number>> {
  const net = await import('node:net');
  const dgram = await import('node:dgram');
  const dns = await import('node:dns/promises');
  const counts: Record<string, number> = {};
  const count = (name: string): void => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  const conversation = (host: string, how: number): Promise<void> =>
    new Promise((resolve) => {
      const socket = net.connect({ host, port: how === 4 ? closedPort : port, allowHalfOpen: true });
      const data = Buffer.alloc(1 + ((how * 7919) % 60_000), how);
      let got = 0;
      socket.on('connect', () => {
        socket.write(data);
        // Half-close at once, a reset in the middle, or an end when all is back.
        if (how === 1) socket.end();
        if (how === 2) setTimeout(() => socket.resetAndDestroy(), 5);
      });
      socket.on('data', (part: Buffer) => {
        got += part.length;
        if (how !== 1 && got >= data.length) socket.end();
      });
      socket.on('end', () => socket.end());
      socket.on('error', () => undefined);
      socket.setTimeout(5000, () => socket.destroy());
      socket.on('close', () => {
        count(got === data.length ? 'tcp' : how === 2 || how === 4 ? 'tcp, cut as meant' : 'tcp lost');
        resolve();
      });
    });
  const datagrams = (host: string): Promise<void> =>
    new Promise((resolve) => {
      const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
      socket.on('error', () => undefined);
      for (let i = 0; i < 20; i++) socket.send(Buffer.alloc((i * 997) % 9000, i), closedPort, host);
      setTimeout(() => {
        socket.close();
        count('udp');
        resolve();
      }, 50);
    });
  const names = async (i: number): Promise<void> => {
    const resolver = new dns.Resolver({ timeout: 1000, tries: 1 });
    resolver.setServers(['10.0.2.3']);
    count(
      (await resolver.resolve4(`n${i}.example`).catch(() => undefined)) === undefined ? 'dns failed' : 'dns',
    );
  };
  await Promise.all(
    Array.from({ length: 100 }, (_, i) => [
      conversation(hosts[i % hosts.length] as string, i % 5),
      ...(i % 5 === 0 ? [datagrams(hosts[i % hosts.length] as string)] : []),
      ...(i % 2 === 0 ? [names(i)] : []),
    ]).flat(),
  );
  return counts;
}

/** What is done besides traffic in round `n`. */
async function disturb(guest: Guest, n: number): Promise<string> {
  const pid = String(guest.stack.pid);
  switch (n % 5) {
    case 0: {
      const answer = await request('add_hostfwd', {
        proto: n % 2 === 0 ? 'tcp' : 'udp',
        host_addr: '127.0.0.1',
        host_port: 20_000 + (n % 1000),
        guest_port: 80,
      });
      const { id } = answer['return'] as { id: number };
      await request('remove_hostfwd', { id });
      return 'forward added and removed';
    }
    case 1:
      writeFileSync(resolvConf, 'nameserver 203.0.113.53\n');
      return 'resolver silent';
    case 2:
      writeFileSync(resolvConf, `nameserver ${HOST4}\n`);
      return 'resolver back';
    case 3: {
      const fds = readdirSync(`/proc/${pid}/fd`).length;
      await run(['prlimit', '--pid', pid, `--nofile=${fds + 20}:`]);
      await guest.namespace.evaluate(traffic, [[HOST4], ports.echo, ports.closed], 60_000);
      await run(['prlimit', '--pid', pid, '--nofile=4096:']);
      return 'out of descriptors';
    }
    default:
      await guest.namespace.ip('link set tap0 down', 'link set tap0 up', 'route add default via 10.0.2.2');
      // The kernel forgets IPv6 addresses when the link goes down.
      await guest.namespace.run(['ip', '-6', 'address', 'add', 'fd00::100/64', 'dev', 'tap0', 'nodad']);
      await guest.namespace.run(['ip', '-6', 'route', 'add', 'default', 'via', 'fd00::2', 'dev', 'tap0']);
      return 'interface down and up';
  }
}

const ports = { echo: 0, closed: 1 };
const server = await listen(echo);
ports.echo = server.port;
const names = new Map(Array.from({ length: 100 }, (_, i) => [`n${i}.example`, ['198.51.100.1']]));
const responder = await startDnsResponder(HOST4, names);
const guest = await startGuest(...OPEN, '--api-socket', apiPath);
const sums = new Map<string, number>();
let failed = false;
try {
  await guest.namespace.evaluate(traffic, [[HOST4, HOST6], ports.echo, ports.closed], 60_000);
  const first = await state(guest);
  const line = (what: string, s: State): string =>
    `${what.padEnd(26)} flows ${s.flows} dns ${s.dns} pages ${s.pages} descriptors ${s.used}/${s.fds} timers ${s.timers} MiB ${s.mib.toFixed(0)} frames ${s.frames} bugs ${s.bugs}\n`;
  process.stdout.write(line('start', first));
  const end = performance.now() + minutes * 60_000;
  for (let n = 0; performance.now() < end; n++) {
    const what = await disturb(guest, n);
    const counts = await guest.namespace.evaluate(
      traffic,
      [[HOST4, HOST6], ports.echo, ports.closed],
      60_000,
    );
    for (const [name, value] of Object.entries(counts)) sums.set(name, (sums.get(name) ?? 0) + value);
    if (n % 5 === 0 || minutes < 1) process.stdout.write(line(`${n}: ${what}`, await state(guest)));
  }
  writeFileSync(resolvConf, `nameserver ${HOST4}\n`);
  // UDP mappings live three minutes.
  let last = await state(guest);
  await until(
    async () => {
      last = await state(guest);
      return last.flows === 0 && last.dns === 0 && last.pages === 0 && last.used === 0;
    },
    'everything over',
    240_000,
    2000,
  ).catch(() => {
    failed = true;
  });
  process.stdout.write(line('end', last));
  for (const [name, value] of sums) process.stdout.write(`${name}: ${value}\n`);
  const flat = last.mib - first.mib < 64;
  if (last.bugs > 0 || !flat || last.fds > first.fds + 8) failed = true;
  process.stdout.write(failed ? 'soak: something is left\n' : 'soak: nothing is left\n');
} catch (error) {
  process.stdout.write(`tslirp ${guest.stack.running ? 'runs' : 'has ended'}: ${guest.stack.stderr}\n`);
  throw error;
} finally {
  await guest[Symbol.asyncDispose]();
  responder.close();
  await server.close();
}
process.exit(failed ? 1 : 0);
