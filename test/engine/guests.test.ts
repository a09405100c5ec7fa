/** Several guests in one data plane. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { after, describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { processLimits } from '../../src/config.ts';
import { PAGE_SIZE } from '../../src/stack/buffer/slab.ts';
import { type EngineGuest, GuestEngine } from '../support/engine-guests.ts';
import { localForward } from '../support/forward-specs.ts';
import { ACK, type Decoded, echo, GATEWAY4, pattern, RST, tcp, udp } from '../support/lab/packets.ts';
import { ownMemory } from '../support/stack-size.ts';
import { least, until } from '../support/wait.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Guests that come and go together, with so many flows of a kind each, and how often. */
const COMING = 40;
const FLOWS = 5;
const ROUNDS = 5;
/** Before what is measured: until compiled code, and heaps that grow with the first ones, are there. */
const FIRST_ROUNDS = 10;
/** A leak grows each time; what a heap has kept for itself does not. */
const GROWTH_MAX = 5_000_000;
/** For so long there is nothing more given back. */
const SETTLED_MS = 3000;
const MIB = 1024 * 1024;

/** The stack answers: the guest is served. */
async function checkAlive(guest: EngineGuest, tag = 1): Promise<void> {
  const data = pattern(100, tag);
  guest.send(echo(GATEWAY4, tag, 1, data));
  const reply = await guest.next((d) => d.icmpType === 0, 'an echo reply');
  assert.equal(reply.payload.equals(data), true, 'its own answer, and no other guest’s');
}

/** What stays in memory when the data plane has done its housekeeping, without what this test has left. */
async function settledBytes(): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  let since = performance.now();
  await until(
    () => {
      collectGarbage();
      const now = ownMemory();
      if (now < least - 100_000) since = performance.now();
      least = Math.min(least, now);
      return performance.now() - since > SETTLED_MS;
    },
    'nothing more is given back',
    60_000,
    250,
  );
  return ownMemory();
}

/** How many descriptors this process has. */
function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

function connections(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.getConnections((_error, count) => resolve(count));
  });
}

describe('guests of one data plane', () => {
  test('review H-1: 200 guests in one data plane, each of at most 0.2 MB while it is idle', async () => {
    const engine = new GuestEngine();
    after(() => engine.stop());
    // What comes with the first ones is not theirs.
    for (let i = 0; i < 20; i++) await checkAlive(await engine.add(), i);
    collectGarbage();
    const before = ownMemory();
    const guests: EngineGuest[] = [];
    for (let i = 0; i < 200; i++) guests.push(await engine.add());
    collectGarbage();
    const each = (ownMemory() - before) / 200;
    for (const [i, guest] of guests.entries()) await checkAlive(guest, i);
    assert.ok(each <= 200_000, `${Math.round(each)} bytes for a guest`);
    for (const guest of guests) guest.close();
  });

  test('serve S-6: guests with flows come and go, and nothing is left of them', async (t) => {
    const engine = new GuestEngine();
    after(() => engine.stop());
    const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
    after(() => server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const stays = await engine.add();
    const left = async (): Promise<unknown> => {
      const { gauges } = await stays.client.snapshot();
      // The data plane's own: for housekeeping and for the rehearsal, now and then.
      const { timers = 0 } = gauges;
      assert.ok(timers <= 2, `${timers} timers`);
      const names = ['memory.pages_used', 'descriptors.used'];
      return names.map((name) => [name, gauges[name]]);
    };
    const round = async (): Promise<void> => {
      const guests = await Promise.all(
        Array.from({ length: COMING }, () => engine.add({ pcapPath: '/dev/null' })),
      );
      for (const guest of guests) {
        await guest.client.addForward(
          localForward({ listen: { kind: 'ip', address: '127.0.0.1', port: 0 } }),
        );
        for (let i = 0; i < FLOWS; i++) {
          guest.send(tcp({ srcPort: 2000 + i, dst: GATEWAY4, dstPort: port, seq: 1 }));
          guest.send(udp({ srcPort: 3000 + i, dst: GATEWAY4, dstPort: port }, pattern(10)));
        }
        // One is open, and has data that nobody reads.
        const reply = await guest.next(({ dstPort, flags }) => dstPort === 2000 && flags !== 0, 'a SYN-ACK');
        const to = { srcPort: 2000, dst: GATEWAY4, dstPort: port, seq: 2, ack: reply.seq + 1, flags: ACK };
        guest.send(tcp(to, pattern(1000)));
        await until(async () => (await guest.client.listFlows()).length >= FLOWS, 'its flows', 30_000);
      }
      for (const guest of guests) {
        await engine.remove(guest);
        await guest.next(({ dstPort, flags }) => dstPort === 2000 && (flags & RST) !== 0, 'a reset');
        guest.close();
      }
      await until(async () => (await connections(server)) === 0, 'the host’s ends are closed', 30_000);
    };
    const nothing = await left();
    // The rehearsal of the start, which may be under way, has some as well.
    const open = descriptors();
    for (let i = 0; i < FIRST_ROUNDS; i++) await round();
    assert.deepEqual(await left(), nothing);
    let settled = await settledBytes();
    const grown = await least(GROWTH_MAX, async () => {
      const before = settled;
      for (let i = 0; i < ROUNDS; i++) await round();
      assert.deepEqual(await left(), nothing);
      assert.ok(descriptors() <= open, `${descriptors()} descriptors, ${open} before`);
      // Heaps are collected when it is quiet.
      settled = await settledBytes();
      t.diagnostic(`${((settled - before) / 1e6).toFixed(1)} MB more`);
      return settled - before;
    });
    assert.ok(grown <= GROWTH_MAX, `${grown} bytes more, at least, each time`);
    await checkAlive(stays);
    stays.close();
  });

  test('serve S-9: one that fills packet memory gives way to one that asks for little', async () => {
    const engine = new GuestEngine({ ...processLimits, memoryTotal: 4 * MIB });
    after(() => engine.stop());
    // Sends more than anybody takes, to each.
    const flood = Buffer.alloc(MIB, 7);
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.write(flood);
    }).listen(0, '127.0.0.1');
    after(() => server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const [greedy, modest] = [await engine.add(), await engine.add()];
    const open = async (guest: EngineGuest, srcPort: number): Promise<Decoded> => {
      const to = { srcPort, dst: GATEWAY4, dstPort: port, window: 65535 };
      guest.send(tcp({ ...to, seq: 1 }));
      const reply = await guest.next((d) => d.dstPort === srcPort && d.flags !== 0, 'a SYN-ACK');
      guest.send(tcp({ ...to, seq: 2, ack: reply.seq + 1, flags: ACK }));
      return reply;
    };
    // Takes nothing of what comes.
    const pages = async (): Promise<number> => (await engine.gauges())['memory.pages_used'] ?? 0;
    for (let i = 0; i < 80; i++) await open(greedy, 2000 + i);
    await until(async () => (await pages()) >= (4 * MIB) / PAGE_SIZE - 40, 'memory is full', 30_000);
    // The other one gets its megabyte, of which it takes each piece as it comes.
    const { seq } = await open(modest, 4000);
    let next = seq + 1;
    while (next < seq + 1 + MIB) {
      const data = await modest.next((d) => d.dstPort === 4000 && d.payload.length > 0, 'data');
      if (data.seq === next) next += data.payload.length;
      const ack = { srcPort: 4000, dst: GATEWAY4, dstPort: port, seq: 2, ack: next, window: 65535 };
      modest.send(tcp({ ...ack, flags: ACK }));
    }
    const told = engine.lines.filter(([message]) => message.startsWith('packet memory is full'));
    assert.deepEqual(
      told.map(([, fields]) => fields?.['guest']),
      told.map(() => 'g0'),
      'none but the greedy one loses anything',
    );
    assert.ok(told.length > 0);
    for (const guest of [greedy, modest]) guest.close();
  });

  test('review H-1: a guest that is gone is told of as such, and touches no other', async () => {
    const engine = new GuestEngine();
    after(() => engine.stop());
    const [first, second] = [await engine.add(), await engine.add()];
    assert.notEqual(first.client.guest, second.client.guest);
    const forward = await second.client.addForward(
      localForward({ listen: { kind: 'ip', address: '127.0.0.1', port: 0 } }),
    );
    // Numbers of another guest's lead nowhere.
    assert.equal(await first.client.removeForward(forward.id), false);
    assert.equal(await first.client.remove(), true);
    assert.equal(await first.client.remove(), false);
    await assert.rejects(first.client.update({ limits: { tcpMaxFlows: 1 } }), /no guest/);
    await assert.rejects(first.client.addForward(localForward()), /no guest/);
    assert.deepEqual(await first.client.listFlows(), []);
    await checkAlive(second);
    await second.client.update({ limits: { pingMaxFlows: 10 } });
    assert.equal(await second.client.removeForward(forward.id), true);
    for (const guest of [first, second]) guest.close();
  });
});
