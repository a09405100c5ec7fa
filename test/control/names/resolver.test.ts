import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { encode, type Packet } from 'dns-packet';
import { chooseSrv, LookupError, Resolver } from '../../../src/control/names/resolver.ts';
import { reservedFloor } from '../../../src/control/names/rule-names.ts';
import { ownTime } from '../../support/own-time.ts';
import { address, answerTo, srv, startNameServer, tableReply } from './support/name-server.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-resolver-'));
after(() => rmSync(directory, { recursive: true }));
const hostsFile = join(directory, 'hosts');
writeFileSync(
  hostsFile,
  '127.0.0.1 localhost\n# 192.0.2.66 commented.example\n192.0.2.5 Own.Example other.example # why\nfe80::1%eth0 zone.example\n',
);

const names: Record<string, string[]> = {
  'both.example': ['2001:db8::1', '192.0.2.1', '192.0.2.2'],
  'six.example': ['2001:db8::1', '2001:db8::2'],
  'rebound.example': ['127.0.0.1'],
  'mapped.example': ['::ffff:127.0.0.1'],
  'own.example': ['192.0.2.5'],
  localhost: ['127.0.0.1'],
};
const asked: string[] = [];
async function system(name: string): Promise<string[]> {
  asked.push(name);
  const addresses = names[name];
  if (addresses === undefined) throw Object.assign(new Error('no'), { code: 'ENOTFOUND' });
  return addresses;
}
const resolver = new Resolver({ hostsFile, system });

describe('host names', () => {
  test('the first IPv4 address is taken, else the first', async () => {
    assert.deepEqual(await resolver.resolve('both.example', 80), { address: '192.0.2.1', port: 80 });
    assert.deepEqual(await resolver.resolve('six.example', 80), { address: '2001:db8::1', port: 80 });
  });

  test('a name that is not there fails in the words of the interface', async () => {
    await assert.rejects(resolver.resolve('gone.example', 80), {
      name: 'LookupError',
      message: 'lookup gone.example: no such host',
    });
  });

  test('what cannot be a name fails without anybody being asked', async () => {
    asked.length = 0;
    for (const text of ['', 'notahostó', 'a/b', 'a b', '1.2.3', '0x7f000001', 'a..b', 'fe80::1%eth0', '-x']) {
      await assert.rejects(resolver.resolve(text, 80), { message: `lookup ${text}: no such host` });
    }
    assert.deepEqual(asked, []);
  });

  test('the system knows localhost', async () => {
    assert.deepEqual(await new Resolver().resolve('localhost', 7), { address: '127.0.0.1', port: 7 });
  });
});

describe('query@srv-server', () => {
  test('the port is the record’s, the target comes from the same server', async () => {
    await using server = await startNameServer(
      tableReply({
        'SRV tcp.echo.server': [srv('tcp.echo.server', 'host.echo.server', 4242)],
        'A host.echo.server': [address('host.echo.server', '192.0.2.9')],
      }),
    );
    const label = `tcp.echo.server@srv-${server.port}`;
    assert.deepEqual(await resolver.resolve(label, 0), { address: '192.0.2.9', port: 4242 });
    const long = `tcp.echo.server@srv-127.0.0.1:${server.port}`;
    assert.deepEqual(await resolver.resolve(long, 99), { address: '192.0.2.9', port: 4242 });
  });

  test('every question has a fresh id and a fresh port (D-02)', async () => {
    await using server = await startNameServer(
      tableReply({ 'SRV a.example': [srv('a.example', '192.0.2.9', 1)] }),
    );
    for (let i = 0; i < 20; i++) await resolver.resolve(`a.example@srv-${server.port}`, 0);
    assert.equal(server.asked.length, 20);
    assert.ok(new Set(server.asked.map(({ id }) => id)).size >= 19);
    assert.ok(new Set(server.asked.map(({ from }) => from.port)).size >= 10);
  });

  test('port 0 in the record keeps the rule’s; the target may be an address, an alias, in the hosts file, or the system’s', async () => {
    await using server = await startNameServer(
      tableReply({
        'SRV plain.example': [srv('plain.example', '192.0.2.7', 0)],
        'SRV alias.example': [
          { type: 'CNAME', name: 'alias.example', data: 'real.example' },
          srv('real.example', 'six.local', 1),
        ],
        'AAAA six.local': [address('six.local', '2001:db8::66')],
        'SRV hosts.example': [srv('hosts.example', 'own.example', 2)],
        'A own.example': [address('own.example', '192.0.2.222')],
        'SRV system.example': [srv('system.example', 'both.example', 3)],
      }),
    );
    const at = `srv-${server.port}`;
    assert.deepEqual(await resolver.resolve(`plain.example@${at}`, 80), { address: '192.0.2.7', port: 80 });
    assert.deepEqual(await resolver.resolve(`alias.example@${at}`, 80), { address: '2001:db8::66', port: 1 });
    assert.deepEqual(await resolver.resolve(`hosts.example@${at}`, 80), { address: '192.0.2.5', port: 2 });
    assert.deepEqual(await resolver.resolve(`system.example@${at}`, 80), { address: '192.0.2.1', port: 3 });
  });

  test('no server, no record, no service, no such name: one error text, at once', async () => {
    await using server = await startNameServer(
      tableReply({ 'SRV empty.example': [], 'SRV off.example': [srv('off.example', '.', 1)] }),
    );
    const time = ownTime();
    for (const [query, where, shown] of [
      ['tcp.echo.server', '1', '127.0.0.1:1'],
      ['gone.example', String(server.port), `127.0.0.1:${server.port}`],
      ['empty.example', String(server.port), `127.0.0.1:${server.port}`],
      ['off.example', String(server.port), `127.0.0.1:${server.port}`],
      ['x y', String(server.port), `127.0.0.1:${server.port}`],
      ['a.example', '[::1]:1', '[::1]:1'],
      ['a.example', 'name:53', 'name:53'],
      ['a.example', '70000', '127.0.0.1:70000'],
      ['a.example', '', '127.0.0.1:'],
    ] as const) {
      await assert.rejects(resolver.resolve(`${query}@srv-${where}`, 0), {
        name: 'LookupError',
        message: `Failed to lookup SRV "${query}" on "${shown}"`,
      });
    }
    assert.ok(time.now() < 2500);
    time.stop();
    await assert.rejects(resolver.resolve('a.example@txt-53', 0), { message: 'Unknown dns type "txt"' });
    await assert.rejects(resolver.resolve('a.example@', 0), { message: 'Unknown dns type ""' });
  });

  test('a server that says nothing fails the look-up within 4 s or so, asked three times', async () => {
    await using server = await startNameServer(() => []);
    const time = ownTime();
    await assert.rejects(resolver.resolve(`a.example@srv-${server.port}`, 0), LookupError);
    assert.ok(time.now() < 8000);
    time.stop();
    assert.equal(server.asked.length, 3);
  });

  test('answers that do not fit are passed over: id, question, sender (D-02)', async () => {
    const forged = (change: Partial<Packet>): Packet => ({
      type: 'response',
      answers: [srv('a.example', '198.51.100.66', 666)],
      ...change,
    });
    const stranger = createSocket('udp4');
    try {
      await using server = await startNameServer(({ id, name, from }, query) => {
        const questions = query.questions ?? [];
        // From another socket: the right words from the wrong port.
        stranger.send(encode(forged({ id, questions })), from.port, from.address);
        return [
          forged({ id: id ^ 1, questions }),
          forged({ id, questions: [{ type: 'SRV', name: 'b.example' }] }),
          forged({ id, questions: [{ type: 'A', name }] }),
          answerTo(query, [srv('A.example', '192.0.2.1', 80)]),
        ];
      });
      assert.deepEqual(await resolver.resolve(`a.example@srv-${server.port}`, 0), {
        address: '192.0.2.1',
        port: 80,
      });
    } finally {
      stranger.close();
    }
  });

  test('what has the right id and is no message ends the look-up (D-01)', async () => {
    const loop = '0000818000010001000000000161076578616d706c650000210001c013002100010000000000';
    for (const garbage of [Buffer.from([0, 0, 0x80]), Buffer.from(loop, 'hex')]) {
      await using server = await startNameServer(({ id }) => {
        garbage.writeUInt16BE(id, 0);
        return [garbage];
      });
      await assert.rejects(resolver.resolve(`a.example@srv-${server.port}`, 0), LookupError);
    }
  });

  test('a flood of answers that do not fit ends the look-up', async () => {
    await using server = await startNameServer(({ id }) =>
      Array.from({ length: 2000 }, () => Buffer.from([id >> 8, id & 255, 0x80])),
    );
    await assert.rejects(resolver.resolve(`a.example@srv-${server.port}`, 0), LookupError);
  });
});

describe('chooseSrv (RFC 2782)', () => {
  const record = (target: string, priority: number, weight: number) => ({
    target,
    priority,
    weight,
    port: 1,
  });

  test('the lowest priority wins, whatever the weights', () => {
    const records = [record('late', 2, 60000), record('early', 1, 0)];
    for (let i = 0; i < 50; i++) assert.equal(chooseSrv(records)?.target, 'early');
    assert.equal(chooseSrv([]), undefined);
  });

  test('among equals the weight decides', () => {
    const records = [record('c', 1, 0), record('a', 1, 1), record('b', 1, 3)];
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((draw) => chooseSrv(records, () => draw)?.target),
      ['c', 'a', 'b', 'b', 'b'],
    );
  });
});

describe('the floor under names (D-05)', () => {
  const guarded = new Resolver({
    hostsFile,
    system,
    floor: reservedFloor([{ address: '10.0.2.0', bits: 120 }]),
  });

  test('a name may not lead to a reserved address unless the hosts file says so', async () => {
    for (const name of ['rebound.example', 'mapped.example']) {
      await assert.rejects(guarded.resolve(name, 80), {
        message: `${name} stands for the reserved address 127.0.0.1`,
      });
    }
    assert.equal((await guarded.resolve('localhost', 80)).address, '127.0.0.1');
    assert.equal((await guarded.resolve('own.example', 80)).address, '192.0.2.5');
    assert.equal((await resolver.resolve('rebound.example', 80)).address, '127.0.0.1');
  });

  test('nor may the target of an SRV record', async () => {
    await using server = await startNameServer(
      tableReply({
        'SRV a.example': [srv('a.example', 'b.example', 80)],
        'A b.example': [address('b.example', '169.254.169.254')],
        'SRV c.example': [srv('c.example', '127.0.0.1', 80)],
      }),
    );
    await assert.rejects(
      guarded.resolve(`a.example@srv-${server.port}`, 0),
      /b\.example stands for the reserved/,
    );
    await assert.rejects(guarded.resolve(`c.example@srv-${server.port}`, 0), /stands for the reserved/);
  });
});
