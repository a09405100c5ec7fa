/**
 * Many guests in one data plane: what an idle one costs, and what a guest has to wait for beside a heavy one. Run as root
 * in a network namespace of its own (`make bench-guests`); needs iperf3.
 *
 * A sample of the second table: two guests with TAPs in namespaces of their own, fresh each time. One moves what the load
 * says, the other sends one byte there and back over TCP. `same`: both on one data plane; `own`: each on one of its own, in
 * the same process. Samples of the two take turns.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openTap } from '../../test/support/bad-link/ends.ts';
import { GuestEngine } from '../../test/support/engine-guests.ts';
import { tcp } from '../../test/support/lab/packets.ts';
import { plainGuest } from '../../test/support/plain-guest.ts';
import { Agent } from '../e2e/agent-client.ts';
import { inside, ip } from '../e2e/namespaces.ts';
import { DIE_WITH_PARENT, delay, kill, killAll, type Owned, start, until } from '../e2e/processes.ts';

const HOST = '198.51.100.1';
const ECHO_PORT = 5001;
const IPERF_PORT = 5201;
const CLOSED_PORT = 9;
const WARM_UP_MS = 500;

const { values } = parseArgs({
  options: {
    idle: { type: 'string', default: '3000' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    only: { type: 'string', default: '' },
  },
});
const seconds = Number(values.seconds);

type Layout = 'same' | 'own';
/** What the heavy guest does; ends by `stop`. */
type Load = (heavy: Heavy) => { stop(): Promise<unknown> };

interface Heavy {
  engine: GuestEngine;
  /** A process in its namespace. */
  pid: number;
}

function iperf(...options: string[]): Load {
  return ({ pid }) => {
    const argv = ['iperf3', '-c', HOST, '-p', String(IPERF_PORT), '-t', '600', ...options];
    const client = start(inside(pid, argv), 'ignore');
    return { stop: () => kill(client) };
  };
}

/** From a guest of its own, as no kernel lets a program send them so fast. */
const synFlood: Load = ({ engine }) => {
  let isOver = false;
  const flood = async (): Promise<void> => {
    const guest = await engine.add();
    for (let seq = 1; !isOver; ) {
      for (let i = 0; i < 64; i++, seq++) {
        try {
          guest.send(
            tcp({ srcPort: 1024 + (seq % 60_000), dst: HOST, dstPort: CLOSED_PORT + (seq % 100), seq }),
          );
        } catch {
          // Its queue is full.
          break;
        }
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    guest.close();
  };
  const over = flood();
  return {
    stop: () => {
      isOver = true;
      return over;
    },
  };
};

const loads: Record<string, Load> = {
  nothing: () => ({ stop: () => Promise.resolve() }),
  '8 streams up': iperf('-P', '8'),
  '8 streams down': iperf('-P', '8', '-R'),
  '64-byte flood': iperf('-u', '-b', '0', '-l', '64'),
  'SYN flood': synFlood,
};

function residentMb(): number {
  return (Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1]) * 4096) / 1e6;
}

async function idle(count: number): Promise<void> {
  const engine = new GuestEngine();
  for (let i = 0; i < 50; i++) await engine.add();
  const before = residentMb();
  for (let i = 0; i < count; i++) await engine.add();
  const each = (residentMb() - before) / count;
  console.log(`${count} idle guests: ${each.toFixed(3)} MB each, ${residentMb().toFixed(0)} MB in all\n`);
  await engine.stop();
}

class Sample {
  readonly #owned: Owned[] = [];
  readonly #agents: Agent[] = [];
  readonly #engines: GuestEngine[] = [];

  async measure(layout: Layout, load: Load): Promise<{ p50: number; p99: number }> {
    try {
      const heavyEngine = this.#engine();
      const engine = layout === 'same' ? heavyEngine : this.#engine();
      const server = start(['iperf3', '-s', '-p', String(IPERF_PORT)], 'ignore');
      this.#owned.push(server);
      const echo = this.#agent(process.pid);
      await echo.ask('serve-stream', { port: ECHO_PORT });
      const heavy = { engine: heavyEngine, pid: await this.#guest(heavyEngine, 'heavy') };
      const neighbour = this.#agent(await this.#guest(engine, 'neighbour'));
      const running = load(heavy);
      await delay(WARM_UP_MS);
      const figures = await neighbour.ask(
        'round-trips',
        {
          ...{ transport: 'tcp', address: HOST, port: ECHO_PORT },
          ...{ warmUpMs: WARM_UP_MS, durationMs: seconds * 1000 },
        },
        60_000,
      );
      await running.stop();
      return figures;
    } finally {
      for (const agent of this.#agents) await agent.stop();
      for (const owned of this.#owned) await kill(owned);
      for (const engine of this.#engines) await engine.stop();
    }
  }

  #engine(): GuestEngine {
    const engine = new GuestEngine();
    this.#engines.push(engine);
    return engine;
  }

  #agent(pid: number): Agent {
    const agent = new Agent(pid);
    this.#agents.push(agent);
    return agent;
  }

  /** A guest with a TAP in a namespace of its own; a process in that. */
  async #guest({ server }: GuestEngine, name: string): Promise<number> {
    const anchor = start(['unshare', '--net', '--', ...DIE_WITH_PARENT, 'sleep', '3600'], 'ignore');
    this.#owned.push(anchor);
    const { pid } = anchor;
    const comm = (): string => readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    await until(() => comm() === 'sleep', 'a network namespace', 2000, 1);
    const fd = openTap(pid, 'tap0', true);
    const handlers = { linkGone: () => undefined, flows: () => undefined };
    const session = server.add({ ...plainGuest, name, dns: false }, handlers);
    await session.attach({ kind: 'descriptor', fd, mtu: 1500 });
    await ip(pid, [
      'link set lo up',
      'addr add 10.0.2.100/24 dev tap0',
      'link set tap0 up',
      'route add default via 10.0.2.2',
    ]);
    return pid;
  }
}

function median(numbers: number[]): number {
  return numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;
}

async function neighbours(): Promise<void> {
  await ip(process.pid, ['link set lo up', `addr add ${HOST}/32 dev lo`]);
  console.log('| load of the other guest | same p50, µs | p99 | own p50, µs | p99 | same / own p50 | p99 |');
  console.log('| --- | ---: | ---: | ---: | ---: | ---: | ---: |');
  for (const [name, load] of Object.entries(loads)) {
    if (!name.includes(values.only)) continue;
    const figures: Record<Layout, { p50: number[]; p99: number[] }> = {
      same: { p50: [], p99: [] },
      own: { p50: [], p99: [] },
    };
    for (let round = 0; round < Number(values.rounds); round++) {
      const order: Layout[] = round % 2 === 0 ? ['same', 'own'] : ['own', 'same'];
      for (const layout of order) {
        const { p50, p99 } = await new Sample().measure(layout, load);
        figures[layout].p50.push(p50);
        figures[layout].p99.push(p99);
      }
    }
    const { same, own } = figures;
    const row = [median(same.p50), median(same.p99), median(own.p50), median(own.p99)];
    const [p50 = 0, p99 = 0, ownP50 = 0, ownP99 = 0] = row;
    const cells = [...row.map((us) => us.toFixed(0)), (p50 / ownP50).toFixed(2), (p99 / ownP99).toFixed(2)];
    console.log(`| ${name} | ${cells.join(' | ')} |`);
  }
}

process.on('exit', killAll);
if (Number(values.idle) > 0) await idle(Number(values.idle));
if (Number(values.rounds) > 0) await neighbours();
process.exit(0);
