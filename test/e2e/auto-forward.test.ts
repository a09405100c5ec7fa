/** Services of a guest that get ports of the host by themselves (compat page, C6). */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { StampedEvent } from '../../src/expose/event-hub.ts';
import { GuestListeners, LISTENER_NAME } from '../support/guest-listeners.ts';
import { attach, bareNamespace, directory, HOST4, mode, startGuest } from '../support/namespaces.ts';
import { start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

type StreamEvent = StampedEvent & { seq: number };

/** Of the host and of the guest: no other test listens there. */
const PORT = 28_080;

/** What comes back of a word said to a port of the host, or the code of what went wrong. */
function say(port: number, host = '127.0.0.1'): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port }, () => socket.end('hello'));
    let answer = '';
    socket.on('data', (part) => {
      answer += part.toString();
    });
    socket.on('end', () => resolve(answer));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? String(error)));
  });
}

class Events {
  readonly path: string;

  constructor(name: string) {
    this.path = join(directory, `${name}-${mode}.jsonl`);
    rmSync(this.path, { force: true });
  }

  get all(): StreamEvent[] {
    return readFileSync(this.path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as StreamEvent);
  }

  of<T extends StreamEvent['type']>(type: T): Extract<StreamEvent, { type: T }>[] {
    return this.all.filter((event): event is Extract<StreamEvent, { type: T }> => event.type === type);
  }

  /** Ports of the guest that have forwards now, and so many listeners. */
  get present(): string {
    const open = new Set<number>();
    let listeners = 0;
    for (const event of this.all) {
      if (event.type === 'forward.added') open.add(event.guestEnd.port);
      if (event.type === 'forward.removed') open.delete(event.guestEnd.port);
      if (event.type === 'listener.added') listeners++;
      if (event.type === 'listener.removed') listeners--;
    }
    return `${[...open].toSorted().join(' ')}, ${listeners}`;
  }

  async has(type: StreamEvent['type'], count = 1): Promise<void> {
    await until(() => this.of(type).length >= count, `${count} of ${type}`);
  }
}

async function startWith(
  t: TestContext,
  name: string,
  spec = '',
): Promise<{ events: Events; listeners: GuestListeners }> {
  const events = new Events(name);
  const guest = await startGuest(`--auto-forward=${spec}`, '--events', events.path);
  const listeners = new GuestListeners(guest.namespace);
  t.after(async () => {
    await listeners.stop();
    await guest[Symbol.asyncDispose]();
  });
  return { events, listeners };
}

describe('automatic forwards', () => {
  test('A-1, A-12: a service is told of by name, then reachable on the loopback of the host only; it goes', async (t) => {
    const { events, listeners } = await startWith(t, 'auto');
    assert.equal(events.of('ready')[0]?.method, 'netlink');
    await listeners.open('tcp', '0.0.0.0', PORT);
    await events.has('forward.added');
    const [added] = events.of('listener.added');
    const [forward] = events.of('forward.added');
    assert.ok(added !== undefined && forward !== undefined && added.seq < forward.seq);
    assert.deepEqual([added.ip, added.port, added.process], ['0.0.0.0', PORT, LISTENER_NAME]);
    assert.equal(readFileSync(`/proc/${added.pid}/comm`, 'latin1'), `${LISTENER_NAME}\n`);
    assert.deepEqual(forward.hostEnd, { ip: '127.0.0.1', port: PORT });
    assert.deepEqual([forward.reason, forward.process], ['same', LISTENER_NAME]);
    assert.equal(await say(PORT), 'hello');
    assert.equal(await say(PORT, '::1'), 'hello');
    assert.equal(await say(PORT, HOST4), 'ECONNREFUSED');
    await listeners.close('tcp', '0.0.0.0', PORT);
    await events.has('forward.removed');
    assert.equal(await say(PORT), 'ECONNREFUSED');
    assert.equal(events.of('listener.removed').length, 1);
  });

  test('UDP, IPv6, an address of its own; the loopback is skipped; bind and ports as asked for', async (t) => {
    const spec = `bind=0.0.0.0,loopback=skip,${PORT}-${PORT + 9},!${PORT + 5}`;
    const { events, listeners } = await startWith(t, 'auto-kinds', spec);
    await listeners.open('udp', '0.0.0.0', PORT);
    await listeners.open('tcp', '::', PORT + 1);
    await listeners.open('tcp', '10.0.2.100', PORT + 2);
    await listeners.open('tcp', '127.0.0.1', PORT + 3);
    await listeners.open('tcp', '0.0.0.0', PORT + 5);
    await listeners.open('tcp', '0.0.0.0', PORT + 10);
    await events.has('listener.added', 6);
    await events.has('forward.added', 3);
    assert.deepEqual(
      events
        .of('forward.added')
        .map(({ proto, guestEnd, hostEnd }) => `${proto} ${guestEnd.ip} ${guestEnd.port} ${hostEnd.ip}`)
        .toSorted(),
      [`tcp 10.0.2.100 ${PORT + 2} 0.0.0.0`, `tcp :: ${PORT + 1} 0.0.0.0`, `udp 0.0.0.0 ${PORT} 0.0.0.0`],
    );
    const [skipped] = events.of('forward.skipped');
    assert.deepEqual([skipped?.guestEnd.port, skipped?.reason], [PORT + 3, 'loopback-only']);
    assert.equal(await say(PORT + 1, HOST4), 'hello');
    assert.equal(await say(PORT + 2, HOST4), 'hello');
  });

  test('A-2: by /proc alone the same services are found, though not as fast', async (t) => {
    process.env['TSLIRP_LISTENERS'] = 'procfs';
    t.after(() => {
      delete process.env['TSLIRP_LISTENERS'];
    });
    const { events, listeners } = await startWith(t, 'auto-procfs');
    assert.equal(events.of('ready')[0]?.method, 'procfs');
    await listeners.open('tcp', '0.0.0.0', PORT + 20);
    await listeners.open('tcp', '::1', PORT + 21);
    await events.has('forward.added', 2);
    assert.equal(events.of('forward.added')[0]?.process, LISTENER_NAME);
    assert.equal(await say(PORT + 20), 'hello');
  });

  test('A-6: more services than forwards: the limit is told of once', async (t) => {
    const { events, listeners } = await startWith(t, 'auto-limit');
    await listeners.openMany('0.0.0.0', PORT + 100, 1000);
    await events.has('listener.added', 1000);
    await events.has('forward.added', 256);
    await events.has('forward.failed');
    assert.equal(await say(events.of('forward.added').at(-1)?.hostEnd.port ?? 0), 'hello');
    assert.equal(events.of('forward.added').length, 256);
    assert.deepEqual(
      events.of('forward.failed').map(({ reason }) => reason),
      ['limit'],
    );
  });

  test('a thousand listeners come and go: what is left is what is there, and nothing of theirs stays', async (t) => {
    const { events, listeners } = await startWith(t, 'auto-many');
    await listeners.open('tcp', '0.0.0.0', PORT + 90);
    await events.has('forward.added');
    const [serving] = events.of('ready');
    const descriptors = (): number => readdirSync(`/proc/${serving?.pid}/fd`).length;
    const before = descriptors();
    for (let round = 0; round < 4; round++) {
      await listeners.churn('0.0.0.0', PORT + 100, 1000);
    }
    await listeners.open('tcp', '0.0.0.0', PORT + 91);
    const expected = `${PORT + 90} ${PORT + 91}, 2`;
    await until(() => events.present === expected, `${expected} alone`);
    assert.equal(await say(PORT + 90), 'hello');
    assert.equal(await say(PORT + 91), 'hello');
    // Those of two more listeners, IPv4 and IPv6.
    await until(() => descriptors() <= before + 2, 'descriptors are given back');
  });

  test('A-7: a port of the host that is taken: the next one, also when it is free again', async (t) => {
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(PORT + 50, '127.0.0.1', resolve));
    const { events, listeners } = await startWith(t, 'auto-taken');
    await listeners.open('tcp', '0.0.0.0', PORT + 50);
    await events.has('forward.added');
    const [forward] = events.of('forward.added');
    assert.deepEqual([forward?.hostEnd.port, forward?.reason], [PORT + 1050, 'busy']);
    await new Promise((resolve) => blocker.close(resolve));
    // It is looked at the guest again for this one.
    await listeners.open('tcp', '0.0.0.0', PORT + 51);
    await events.has('forward.added', 2);
    assert.equal(await say(PORT + 50), 'ECONNREFUSED');
    assert.equal(await say(PORT + 1050), 'hello');
  });

  // For whoever is root, everybody's processes have names.
  if (mode === 'user')
    test("A-8: another user's service: it has no name, and is reached", async (t) => {
      const events = new Events('auto-other');
      const guest = await startGuest('--auto-forward', '--events', events.path);
      const { pid } = guest.namespace;
      const other = ['setpriv', '--reuid', '65533', '--regid', '65533', '--clear-groups', '--'];
      const inside = ['nsenter', `--net=/proc/${pid}/ns/net`, '--', ...other];
      const listeners = new GuestListeners({ start: (argv) => start([...inside, ...argv]) });
      t.after(async () => {
        await listeners.stop();
        await guest[Symbol.asyncDispose]();
      });
      await listeners.open('tcp', '0.0.0.0', PORT + 80);
      await events.has('forward.added');
      const [added] = events.of('listener.added');
      // As one who is in no map is seen (user_namespaces(7)).
      assert.deepEqual([added?.process, added?.pid, added?.uid], [null, null, 65534]);
      assert.equal(await say(PORT + 80), 'hello');
    });

  test('A-10: whoever is inside for us is killed: services are still found, without names', async (t) => {
    const { events, listeners } = await startWith(t, 'auto-killed');
    const [serving] = events.of('ready');
    const isBroker = (pid: number): boolean => commOf(pid).includes('broker');
    const broker = childrenOf(serving?.pid ?? 0).find(isBroker) ?? 0;
    // The command of the guest is another child, and has another name.
    const helper = childrenOf(broker).find(isBroker);
    assert.ok(helper !== undefined);
    process.kill(helper, 'SIGKILL');
    await until(() => !childrenOf(broker).includes(helper), 'it is gone');
    await listeners.open('tcp', '0.0.0.0', PORT + 60);
    await events.has('forward.added');
    assert.equal(events.of('listener.added')[0]?.process, null);
    assert.equal(await say(PORT + 60), 'hello');
  });

  test('A-9: a namespace of others: what is there already is published; with its last process all is gone', async (t) => {
    const events = new Events('auto-attach');
    const bare = await bareNamespace();
    const listeners = new GuestListeners(bare.namespace);
    t.after(() => listeners.stop());
    await listeners.open('tcp', '0.0.0.0', PORT + 70);
    const stack = await attach(bare.namespace.pid, '--auto-forward', '--events', events.path);
    t.after(() => stack.stop());
    await events.has('forward.added');
    assert.equal(await say(PORT + 70), 'hello');
    await listeners.stop();
    bare.anchor.child.stdin?.end();
    await events.has('guest.down');
    assert.equal(events.of('listener.removed').length, 1);
    assert.equal((await stack.end()).status, 0);
  });
});

function commOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return new RegExp(`\\) \\S ${parent} `).test(readFileSync(`/proc/${name}/stat`, 'latin1'));
      } catch {
        return false;
      }
    })
    .map(Number);
}
