import assert from 'node:assert/strict';
import { beforeEach, describe, mock, test } from 'node:test';
import { setImmediate as nextTick } from 'node:timers/promises';
import type { AutoForwardSpec } from '../../src/config.ts';
import type { GuestEvent } from '../../src/expose/event.ts';
import { defaultEphemeral } from '../../src/expose/judge.ts';
import { ListenerWatch, type Owner } from '../../src/expose/listener-watch.ts';
import type { OpenSocket } from '../../src/expose/open-socket.ts';
import type { SocketSource } from '../../src/expose/socket-source.ts';
import { RecordedServices } from '../support/recorded-services.ts';

const spec: AutoForwardSpec = { tcp: true, udp: true, only: [], except: [], loopback: true, intervalMs: 150 };

function socketOn(port: number, change: Partial<OpenSocket> = {}): OpenSocket {
  return {
    ...{ proto: 'tcp', family: 4, ip: '0.0.0.0', port, v6only: false, device: 0, uid: 7, inode: port },
    ...change,
  };
}

class Sockets implements SocketSource {
  readonly method: 'netlink' | 'procfs';
  sockets: readonly OpenSocket[] = [];
  looks = 0;
  isClosed = false;
  error: Error | null = null;

  constructor(method: 'netlink' | 'procfs' = 'netlink') {
    this.method = method;
  }

  look(): readonly OpenSocket[] {
    this.looks += 1;
    if (this.error !== null) throw this.error;
    return this.sockets;
  }

  close(): void {
    this.isClosed = true;
  }
}

class Bench {
  readonly source = new Sockets();
  readonly fallback = new Sockets('procfs');
  readonly sink = new RecordedServices();
  readonly events: GuestEvent[] = [];
  readonly lost: string[] = [];
  asked: number[] = [];
  owners: () => Promise<ReadonlyMap<number, Owner>> = async () =>
    new Map(this.asked.map((inode) => [inode, { pid: 4711, process: 'nginx' }]));
  now = 1_000_000;
  /** What a turn takes, and half as much goes by between two, besides what passes. */
  turnMs = 0;
  #elapsed = 0;
  readonly watch: ListenerWatch = new ListenerWatch({
    ...{ source: this.source, fallback: this.fallback, sink: this.sink },
    events: { emit: (event) => this.events.push(event) },
    owners: (inodes) => {
      this.asked = [...inodes];
      return this.owners();
    },
    judging: { spec, reachesLoopback: false, ephemeral: defaultEphemeral, device: 0 },
    sourceLost: (method, why) => this.lost.push(`${method}: ${why}`),
    now: () => this.now,
    elapsed: () => {
      this.#elapsed += this.turnMs / 2;
      return this.#elapsed;
    },
  });

  /** As the clock and the promises have it, a millisecond at a time. */
  async pass(ms: number): Promise<void> {
    for (let i = 0; i < ms; i += 5) {
      this.now += 5;
      this.#elapsed += 5;
      mock.timers.tick(5);
      await nextTick();
    }
  }

  /** Kinds of events so far, with their ports. */
  get told(): string[] {
    return this.events.map((event) =>
      'guestEnd' in event
        ? `${event.type} ${event.guestEnd.port}`
        : 'port' in event
          ? `${event.type} ${event.port}`
          : event.type,
    );
  }

  get published(): string[] {
    return [...this.sink.present].map(({ guestEnd }) => `${guestEnd.ip} ${guestEnd.port}`);
  }
}

describe('a guest that is watched', () => {
  beforeEach(() => {
    mock.timers.reset();
    mock.timers.enable({ apis: ['setTimeout'] });
  });

  test('a listener is told of with its owner, then published; when it goes, both end', async () => {
    const bench = new Bench();
    bench.watch.start();
    bench.source.sockets = [socketOn(80)];
    await bench.pass(300);
    assert.deepEqual(bench.told, ['listener.added 80']);
    const [added] = bench.events;
    assert.ok(added?.type === 'listener.added');
    assert.deepEqual([added.process, added.pid, added.uid, added.inode], ['nginx', 4711, 7, 80]);
    assert.ok(!('device' in added));
    assert.deepEqual(bench.published, ['0.0.0.0 80']);
    bench.source.sockets = [];
    await bench.pass(1900);
    assert.deepEqual(bench.published, ['0.0.0.0 80']);
    await bench.pass(500);
    assert.deepEqual(bench.told, ['listener.added 80', 'listener.removed 80']);
    assert.deepEqual(bench.published, []);
    assert.deepEqual(bench.sink.causes, ['closed']);
  });

  test('C4: a quarter of a second from the listener to its forward, whenever it comes', async () => {
    for (let phase = 0; phase < 150; phase += 10) {
      const bench = new Bench();
      bench.watch.start();
      await bench.pass(phase);
      bench.source.sockets = [socketOn(80)];
      await bench.pass(220);
      assert.equal(bench.sink.present.size, 1, `after ${phase} ms`);
      bench.watch.stop();
    }
  });

  test('A-4: one that lives 50 ms comes to nothing, in whatever moment it comes', async () => {
    for (let phase = 0; phase < 150; phase += 10) {
      const bench = new Bench();
      bench.watch.start();
      await bench.pass(phase);
      bench.source.sockets = [socketOn(80)];
      await bench.pass(50);
      bench.source.sockets = [];
      await bench.pass(1000);
      assert.deepEqual(bench.told, [], `after ${phase} ms`);
      assert.deepEqual(bench.asked, []);
      bench.watch.stop();
    }
  });

  test('C4: a client that the guest refuses has it look at once, but not again and again', async () => {
    const bench = new Bench();
    bench.watch.start();
    bench.source.sockets = [socketOn(80)];
    await bench.pass(300);
    bench.turnMs = 20;
    await bench.pass(300);
    bench.turnMs = 0;
    const { looks } = bench.source;
    for (let i = 0; i < 100; i++) {
      bench.watch.lookNow();
      await bench.pass(5);
    }
    // Every 50 ms, once the look that took long is paid for.
    const found = bench.source.looks - looks;
    assert.ok(found >= 4 && found <= 11, `${found}`);
    bench.watch.stop();
    bench.watch.lookNow();
    assert.equal(bench.source.looks, looks + found);
  });

  test('A-5: flaps are told of, and the forward stays', async () => {
    const bench = new Bench();
    bench.watch.start();
    for (let round = 0; round < 10; round++) {
      bench.source.sockets = [socketOn(80, { inode: 100 + round })];
      await bench.pass(600);
      bench.source.sockets = [];
      await bench.pass(400);
    }
    assert.deepEqual(bench.told, ['listener.added 80', ...Array(9).fill('forward.flap 80')]);
    const last = bench.events.at(-1);
    assert.deepEqual(last, {
      ...{ type: 'forward.flap', proto: 'tcp', guestEnd: { ip: '0.0.0.0', port: 80 } },
      ...{ flaps: 9, unstable: true },
    });
    assert.deepEqual(
      bench.events.map((event) => event.type === 'forward.flap' && event.unstable).slice(1, 5),
      [false, false, true, true],
    );
    assert.equal(bench.sink.present.size, 1);
    assert.deepEqual(bench.sink.causes, []);
  });

  test('what cannot be forwarded is told of, and what nobody asked for is not', async () => {
    const bench = new Bench();
    bench.watch.start();
    bench.source.sockets = [
      socketOn(81, { ip: '127.0.0.1' }),
      socketOn(40000, { proto: 'udp' }),
      socketOn(53, { proto: 'udp' }),
    ];
    await bench.pass(300);
    assert.deepEqual(bench.told, ['listener.added 81', 'forward.skipped 81']);
    await bench.pass(600);
    assert.deepEqual(bench.told.slice(2), ['listener.added 53']);
    assert.deepEqual(bench.published, ['0.0.0.0 53']);
  });

  test('wildcards of both families are one service; when its first half goes, the other takes over', async () => {
    const bench = new Bench();
    bench.watch.start();
    const v4 = socketOn(80);
    const v6 = socketOn(80, { family: 6, ip: '::', v6only: true, inode: 81 });
    bench.source.sockets = [v4, v6];
    await bench.pass(300);
    assert.deepEqual(bench.told, ['listener.added 80', 'listener.added 80']);
    assert.deepEqual(bench.published, ['0.0.0.0 80']);
    bench.source.sockets = [v6];
    await bench.pass(2500);
    assert.deepEqual(bench.published, [':: 80']);
    bench.source.sockets = [];
    await bench.pass(2500);
    assert.deepEqual(bench.published, []);
  });

  test('A-8: nobody knows the owner, or knows it too late: no name, and a forward all the same', async () => {
    for (const owners of [
      async () => new Map<number, Owner>(),
      () => Promise.reject(new Error('gone')),
      () => new Promise<ReadonlyMap<number, Owner>>(() => undefined),
    ]) {
      const bench = new Bench();
      bench.owners = owners;
      bench.watch.start();
      bench.source.sockets = [socketOn(80)];
      await bench.pass(1300);
      const [added] = bench.events;
      assert.ok(added?.type === 'listener.added');
      assert.deepEqual([added.process, added.pid], [null, null]);
      assert.equal(bench.sink.present.size, 1);
      bench.watch.stop();
    }
  });

  test('A-9: at the end of the guest all is told to be gone', async () => {
    const bench = new Bench();
    bench.watch.start();
    bench.source.sockets = [socketOn(80), socketOn(81, { ip: '127.0.0.1' })];
    await bench.pass(300);
    bench.watch.end();
    assert.deepEqual(bench.told.slice(3), ['listener.removed 80', 'listener.removed 81']);
    assert.deepEqual(bench.published, []);
    assert.equal(bench.source.isClosed, true);
    const { looks } = bench.source;
    await bench.pass(1000);
    assert.equal(bench.source.looks, looks);
  });

  test('A-10: the kernel answers no more: by /proc from then on, which is told once, and seldom', async () => {
    const bench = new Bench();
    bench.watch.start();
    bench.source.sockets = [socketOn(80)];
    bench.fallback.sockets = [socketOn(80)];
    await bench.pass(300);
    bench.source.error = new Error('EBADF');
    await bench.pass(5000);
    assert.deepEqual(bench.lost, ['procfs: EBADF']);
    assert.deepEqual(bench.told, ['listener.added 80']);
    assert.ok(bench.fallback.looks <= 6, String(bench.fallback.looks));
    bench.fallback.error = new Error('ESRCH');
    await bench.pass(5000);
    assert.deepEqual(bench.lost, ['procfs: EBADF', 'none: ESRCH']);
  });

  test('turns that take long come seldom, and a twentieth of a core is what they may take', async () => {
    const bench = new Bench();
    bench.watch.start();
    await bench.pass(3000);
    assert.equal(bench.source.looks, 21);
    // Half of it counts, see above.
    bench.turnMs = 20;
    bench.source.looks = 0;
    await bench.pass(30_000);
    assert.ok(bench.source.looks >= 6 && bench.source.looks <= 14, String(bench.source.looks));
    bench.turnMs = 0;
    await bench.pass(20_000);
    bench.source.looks = 0;
    await bench.pass(3000);
    assert.ok(bench.source.looks >= 19, String(bench.source.looks));
    // Not long, but more than its share.
    bench.turnMs = 9;
    await bench.pass(1000);
    bench.source.looks = 0;
    await bench.pass(9000);
    assert.ok(bench.source.looks >= 50 && bench.source.looks <= 61, String(bench.source.looks));
    bench.watch.stop();
  });

  test('owners are asked for only so often, whatever the guest does', async () => {
    const bench = new Bench();
    let asks = 0;
    bench.owners = async () => {
      asks += 1;
      return new Map();
    };
    bench.watch.start();
    for (let i = 0; i < 100; i++) {
      bench.source.sockets = [socketOn(1000 + i), socketOn(1100 + i)];
      await bench.pass(100);
    }
    // Ten in a row, and two a second.
    assert.ok(asks <= 10 + 20, String(asks));
    assert.ok(asks >= 20, String(asks));
  });
});
