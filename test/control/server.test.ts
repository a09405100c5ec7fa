/** What a data plane says, and who hears it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogFields, LogLevel } from '../../src/control/log.ts';
import { Numbers } from '../../src/control/numbers.ts';
import { Server } from '../../src/control/server.ts';
import type { Session } from '../../src/control/session.ts';
import type { Supervisor, SupervisorHandlers } from '../../src/control/supervisor.ts';
import { DeviceError } from '../../src/device-error.ts';
import type { Command, Event } from '../../src/engine/messages.ts';
import { plainGuest } from '../support/plain-guest.ts';

function make() {
  const sent: Command[] = [];
  const lines: [LogLevel, string, LogFields | undefined][] = [];
  const heard: unknown[] = [];
  let handlers: SupervisorHandlers | undefined;
  const supervisor = {
    numbers: new Numbers(),
    send: (command: Command) => sent.push(command),
    listen: (given: SupervisorHandlers) => {
      handlers = given;
    },
  } as unknown as Supervisor;
  const log = {
    enabled: () => true,
    log: (level: LogLevel, message: string, fields?: LogFields) => lines.push([level, message, fields]),
  };
  const server = new Server(supervisor, log, {
    fdEvent: (fd) => heard.push(['fd', fd]),
    broker: (text) => heard.push(['broker', text]),
    confined: (error) => heard.push(['confined', error]),
    failed: (message) => heard.push(['failed', message]),
  });
  const add = (name: string): Session =>
    server.add(
      { ...plainGuest, name, dns: false },
      {
        linkGone: (reason) => heard.push([name, 'gone', reason]),
        waiting: (path) => heard.push([name, 'waiting', path]),
        flows: (report) => heard.push([name, report.type]),
      },
    );
  const say = (event: Event): void => handlers?.event(event);
  const end = (error?: Error): void => handlers?.ended(error);
  return { server, sent, lines, heard, add, say, end };
}

const device = { kind: 'descriptor', fd: 9, mtu: 1500 } as const;
const link = { name: 'tap0', medium: 'ethernet', mtu: 1500, txQueueLen: 1000 } as const;

test('review H-1: what is said of a guest, that guest hears, by its name', async () => {
  const { server, sent, lines, heard, add, say } = make();
  const [one, two] = [add('one'), add('two')];
  const attaching = [one.attach(device), two.attach(device)];
  assert.deepEqual(
    sent.map((command) => command.type === 'addGuest' && [command.guest, command.spec.device]),
    [
      [1, device],
      [2, device],
    ],
  );
  // What only the main thread needs stays with it.
  assert.equal('forwards' in (sent[0] as { spec: object }).spec, false);
  say({ type: 'guestWaiting', guest: 1, path: '/p' });
  say({ type: 'guestFailed', guest: 1, step: 'link', error: 22, message: 'no device' });
  await assert.rejects(attaching[0] as Promise<unknown>, (error) => error instanceof DeviceError);
  say({ type: 'guestReady', guest: 2, link, notes: ['it is slow'], networks: ['192.0.2.0/24'] });
  assert.deepEqual(await attaching[1], link);
  await two.tellPolicy();
  say({ type: 'log', guest: 2, level: 'info', message: 'seen', fields: { more: 1 } });
  say({ type: 'log', guest: 0, level: 'info', message: 'of all' });
  say({ type: 'report', guest: 2, report: { type: 'flowsLeftOut', flows: 1 } });
  say({ type: 'linkGone', guest: 2, reason: 'error', text: 'deleted' });
  assert.deepEqual(lines[0], ['warn', 'it is slow', { guest: 'two', interface: 'tap0' }]);
  assert.equal(lines[1]?.[2]?.['guest'], 'two');
  assert.match(lines[1]?.[1] ?? '', /its own network is 10.0.2.0/);
  assert.deepEqual(lines.slice(2), [
    ['info', 'seen', { guest: 'two', more: 1 }],
    ['info', 'of all', undefined],
  ]);
  assert.deepEqual(heard, [
    ['one', 'waiting', '/p'],
    ['two', 'flowsLeftOut'],
    ['two', 'gone', 'deleted'],
  ]);
  const removing = server.remove(two);
  say({ type: 'guestRemoved', guest: 2, existed: true });
  await removing;
  say({ type: 'report', guest: 2, report: { type: 'flowsLeftOut', flows: 1 } });
  assert.equal(heard.length, 3, 'of a guest that is gone nobody hears');
});

test('what a data plane says of itself, whoever has the process hears', async () => {
  const { server, sent, heard, say } = make();
  const judging = server.isNear(17);
  const { request } = sent[0] as { request: number };
  assert.deepEqual(sent, [{ type: 'judgePeer', request, inode: 17 }]);
  say({ type: 'peerJudged', request, near: true });
  assert.equal(await judging, true);
  say({ type: 'fdEvent', fd: 5, name: 'exit-fd' });
  say({ type: 'broker', text: 'gone' });
  say({ type: 'confined', error: 1 });
  assert.deepEqual(heard, [
    ['fd', 5],
    ['broker', 'gone'],
    ['confined', 1],
  ]);
});

test('when the data plane is gone, nobody waits for it', async () => {
  const { server, heard, add, end } = make();
  const [one, two] = [add('one'), add('two')];
  const waiting = [one.attach(device), two.client.listFlows(), server.remove(one)];
  const judging = server.isNear(0);
  end(new Error('it broke'));
  for (const promise of waiting) await assert.rejects(promise, /the data plane ended: it broke/);
  assert.equal(await judging, false);
  assert.deepEqual(heard, [['failed', 'the data plane ended: it broke']]);
});

test('review H-1: a guest has a name that is fit for a log, and is the only one of that name', async () => {
  const { add, say } = make();
  for (const name of ['', 'Web', '-a', 'a b', 'a/b', 'ä', 'a'.repeat(129)])
    assert.throws(() => add(name), /^Error: guest name "[^"]*": want a-z, 0-9/);
  const first = add('a'.repeat(128));
  assert.throws(() => add('a'.repeat(128)), /there is a guest a+ already/);
  // One that could not be brought up is none.
  const attaching = first.attach(device);
  say({ type: 'guestFailed', guest: first.client.guest, step: 'link', error: 22, message: 'no device' });
  await assert.rejects(attaching, DeviceError);
  add('a'.repeat(128));
});
