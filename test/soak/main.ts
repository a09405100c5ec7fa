/**
 * `make soak`: everything at once for SOAK_MINUTES (10), in the "host" of test/lab.sh: connections that end in every way,
 * datagrams, ping, DNS floods, resolvers that change, forwards added, used and removed, out of descriptors, ENOBUFS,
 * interface down and up. At the end nothing may be left: no flow, descriptor, page or timer that was not there before,
 * and memory is flat. Prints a line now and then; ends with 1 when something is left.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentMiB } from '../attack/attack.ts';
import { apiRequest } from '../support/api-request.ts';
import { startDnsResponder } from '../support/dns-responder.ts';
import { directory, type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { must, run } from '../support/processes.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const minutes = Number(process.env['SOAK_MINUTES'] ?? 10);
const apiPath = join(directory, 'soak.api');
const resolvConf = '/etc/resolv.conf';

/** Where the guest's own server listens, on TCP and UDP: it echoes. */
const GUEST_PORT = 8080;
/** Growth of resident memory that is no leak: heaps and pools at their largest. */
const FLAT_MIB = 64;

interface State {
  flows: number;
  timeWait: number;
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
  const { return: stats } = (await apiRequest(apiPath, 'stats')) as {
    return: { counters: Record<string, number>; gauges: Record<string, number> };
  };
  const { counters, gauges } = stats;
  const of = (name: string): number => gauges[name] ?? 0;
  return {
    flows: of('tcp.flows') + of('udp.flows') + of('ping.flows'),
    timeWait: of('tcp.time_wait'),
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
  /** Queries from as many ports at once, of which hardly any answer is waited for. */
  const nameFlood = async (): Promise<void> => {
    const query = Buffer.from('000701000001000000000000026e37076578616d706c650000010001', 'hex');
    const sockets = Array.from({ length: 100 }, () =>
      dgram.createSocket('udp4').on('error', () => undefined),
    );
    for (let i = 0; i < 2000; i++)
      (sockets[i % sockets.length] as (typeof sockets)[0]).send(query, 53, '10.0.2.3');
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (const socket of sockets) socket.close();
    count('dns flood');
  };
  await Promise.all(
    Array.from({ length: 100 }, (_, i) => [
      ...(i === 50 ? [nameFlood()] : []),
      conversation(hosts[i % hosts.length] as string, i % 5),
      ...(i % 5 === 0 ? [datagrams(hosts[i % hosts.length] as string)] : []),
      ...(i % 2 === 0 ? [names(i)] : []),
    ]).flat(),
  );
  return counts;
}

/** A conversation through a forward of ours: it must come back whole. */
async function throughForward(proto: 'tcp' | 'udp', port: number): Promise<boolean> {
  const data = Buffer.alloc(20_000, port);
  if (proto === 'udp') {
    const socket = createSocket('udp4');
    try {
      const answer = once(socket, 'message', { signal: AbortSignal.timeout(3000) });
      socket.send(data.subarray(0, 1200), port, '127.0.0.1');
      return ((await answer)[0] as Buffer).equals(data.subarray(0, 1200));
    } finally {
      socket.close();
    }
  }
  const socket = connect({ host: '127.0.0.1', port });
  try {
    socket.setTimeout(3000, () => socket.destroy(new Error('silence')));
    socket.end(data);
    const parts: Buffer[] = [];
    for await (const part of socket) parts.push(part as Buffer);
    return Buffer.concat(parts).equals(data);
  } finally {
    socket.destroy();
  }
}

async function forwards(n: number): Promise<string> {
  for (const proto of ['tcp', 'udp'] as const) {
    const port = 20_000 + (n % 1000);
    const answer = await apiRequest(apiPath, 'add_hostfwd', {
      proto,
      host_addr: '127.0.0.1',
      host_port: port,
      guest_port: GUEST_PORT,
    });
    const { id } = answer['return'] as { id: number };
    for (let i = 0; i < 5; i++) {
      const whole = await throughForward(proto, port).catch(() => false);
      sums.set(`forward ${proto}`, (sums.get(`forward ${proto}`) ?? 0) + (whole ? 1 : 0));
      sums.set(`forward ${proto} lost`, (sums.get(`forward ${proto} lost`) ?? 0) + (whole ? 0 : 1));
    }
    // One that is open when its forward goes.
    const last = connect({ host: '127.0.0.1', port }).on('error', () => undefined);
    await apiRequest(apiPath, 'remove_hostfwd', { id });
    last.destroy();
  }
  return 'forwards added, used, removed';
}

/** Datagrams for an interface of the host whose queue takes nothing: sending fails with ENOBUFS. */
async function fullQueue(guest: Guest): Promise<string> {
  await must(['tc', 'qdisc', 'replace', 'dev', 'void0', 'root', 'pfifo', 'limit', '0']);
  await guest.namespace.evaluate(
    async () => {
      const dgram = await import('node:dgram');
      const socket = dgram.createSocket('udp4').on('error', () => undefined);
      for (let i = 0; i < 500; i++) socket.send(Buffer.alloc(600, i), 9, `203.0.113.${1 + (i % 100)}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
      socket.close();
    },
    [],
    60_000,
  );
  await must(['tc', 'qdisc', 'delete', 'dev', 'void0', 'root']);
  return 'no buffers';
}

/** What is done besides traffic in round `n`. */
async function disturb(guest: Guest, n: number): Promise<string> {
  const pid = String(guest.stack.pid);
  switch (n % 7) {
    case 0:
      return forwards(n);
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
    case 4:
      return fullQueue(guest);
    case 5:
      await guest.namespace.run(['ping', '-c', '5', '-i', '0.2', HOST4]);
      await guest.namespace.run(['ping', '-c', '5', '-i', '0.2', HOST6]);
      return 'ping';
    default:
      await guest.namespace.ip('link set tap0 down', 'link set tap0 up', 'route add default via 10.0.2.2');
      // The kernel forgets IPv6 addresses when the link goes down.
      await guest.namespace.run(['ip', '-6', 'address', 'add', 'fd00::100/64', 'dev', 'tap0', 'nodad']);
      await guest.namespace.run(['ip', '-6', 'route', 'add', 'default', 'via', 'fd00::2', 'dev', 'tap0']);
      return 'interface down and up';
  }
}

/** Guest program: the server behind the forwards. */
const GUEST_SERVER = `
  require('node:net').createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).pipe(s)).listen(${GUEST_PORT});
  const u = require('node:dgram').createSocket('udp4', (m, from) => u.send(m, from.port, from.address));
  u.on('error', () => {}).bind(${GUEST_PORT});
`;

const ports = { echo: 0, closed: 1 };
const server = await listen(echo);
ports.echo = server.port;
const names = new Map(Array.from({ length: 100 }, (_, i) => [`n${i}.example`, ['198.51.100.1']]));
const responder = await startDnsResponder(HOST4, names);
const guest = await startGuest(...OPEN, '--api-socket', apiPath);
const guestServer = guest.namespace.start([process.execPath, '-e', GUEST_SERVER]);
const sums = new Map<string, number>();
let failed = false;
try {
  // As at the end: a request every two seconds and nothing else.
  await state(guest);
  await sleep(2000);
  const idle = await state(guest);
  await guest.namespace.evaluate(traffic, [[HOST4, HOST6], ports.echo, ports.closed], 60_000);
  const first = await state(guest);
  const line = (what: string, s: State): string =>
    `${what.padEnd(26)} flows ${s.flows}+${s.timeWait} dns ${s.dns} pages ${s.pages} descriptors ${s.used}/${s.fds} timers ${s.timers} MiB ${s.mib.toFixed(0)} frames ${s.frames} bugs ${s.bugs}\n`;
  process.stdout.write(line('idle', idle));
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
    if (n % 20 === 0 || minutes < 1) process.stdout.write(line(`${n}: ${what}`, await state(guest)));
  }
  writeFileSync(resolvConf, `nameserver ${HOST4}\n`);
  guestServer.child.kill('SIGKILL');
  // UDP mappings live three minutes.
  let last = await state(guest);
  await until(
    async () => {
      last = await state(guest);
      const { flows, timeWait, dns, pages, used, timers } = last;
      return flows + timeWait + dns + pages + used === 0 && timers <= idle.timers;
    },
    'everything over',
    240_000,
    2000,
  ).catch(() => {
    failed = true;
  });
  process.stdout.write(line('end', last));
  for (const [name, value] of sums) process.stdout.write(`${name}: ${value}\n`);
  const flat = last.mib - first.mib < FLAT_MIB;
  if (last.bugs > 0 || !flat || last.fds > idle.fds) failed = true;
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
