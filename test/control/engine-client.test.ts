import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ForwardSpec } from '../../src/config.ts';
import { EngineClient, ForwardRefused } from '../../src/control/engine-client.ts';
import { Numbers } from '../../src/control/numbers.ts';
import { FlowNumbers } from '../../src/engine/flow-numbers.ts';
import type { Command, FlowInfo } from '../../src/engine/messages.ts';
import { localForward } from '../support/forward-specs.ts';

const spec: ForwardSpec = localForward({
  listen: { kind: 'ip', address: '127.0.0.1', port: 0 },
  target: { address: '10.0.2.100', port: 80 },
});

function make() {
  const sent: Command[] = [];
  return { sent, client: new EngineClient((command) => sent.push(command), new Numbers()) };
}

test('a forward is listed with its real address from when it is open until it is removed', async () => {
  const { sent, client } = make();
  const adding = client.addForward(spec);
  assert.deepEqual(client.listForwards(), []);
  assert.deepEqual(sent, [{ type: 'addForward', guest: 1, forward: 1, spec }]);
  client.receive({
    type: 'forwardAdded',
    guest: 1,
    forward: 1,
    listen: { kind: 'ip', address: '127.0.0.1', port: 4242 },
  });
  const open = await adding;
  const listen = { kind: 'ip', address: '127.0.0.1', port: 4242 };
  assert.deepEqual(open, { id: 1, spec, listen, missing: 0 });
  assert.deepEqual(client.listForwards(), [open]);
  const removing = client.removeForward(1);
  const again = client.removeForward(1);
  client.receive({ type: 'forwardRemoved', guest: 1, forward: 1, existed: true });
  client.receive({ type: 'forwardRemoved', guest: 1, forward: 1, existed: false });
  assert.deepEqual(await Promise.all([removing, again]), [true, false]);
  assert.deepEqual(client.listForwards(), []);
});

test('a refused forward has an errno, and its number is not used again (X-05)', async () => {
  const { sent, client } = make();
  const adding = client.addForward(spec);
  client.receive({ type: 'forwardFailed', guest: 1, forward: 1, error: 98, message: 'taken' });
  await assert.rejects(
    adding,
    (error: unknown) => error instanceof ForwardRefused && error.errno === 98 && error.message === 'taken',
  );
  void client.addForward(spec);
  assert.equal((sent[1] as { forward: number }).forward, 2);
  assert.deepEqual(client.listForwards(), []);
});

test('of several ports, it is told which was refused, and how many were not to be had', async () => {
  const { client } = make();
  const adding = client.addForward(spec);
  client.receive({ type: 'forwardFailed', guest: 1, forward: 1, error: 98, message: 'taken', port: 81 });
  await assert.rejects(adding, { errno: 98, port: 81 });
  const other = client.addForward(spec);
  client.receive({ type: 'forwardAdded', guest: 1, forward: 2, listen: spec.listen, missing: 3 });
  assert.equal((await other).missing, 3);
});

test('a socket by which listeners are seen is asked for by the guest, as whose answer it comes', async () => {
  const { sent, client } = make();
  const opening = client.openSockets();
  assert.deepEqual(sent, [{ type: 'openSockets', guest: 1, request: 1 }]);
  client.receive({ type: 'socketsOpened', guest: 1, request: 1, fd: 17 });
  assert.equal(await opening, 17);
});

const NOWHERE = { address: '', port: 0 };
const FLOW: FlowInfo = {
  flow: 1,
  protocol: 'tcp',
  kind: 'routed',
  forward: 0,
  state: 'ESTABLISHED',
  ageMs: 0,
  bytesOut: 0,
  bytesIn: 0,
  left: NOWHERE,
  leftLocal: NOWHERE,
  right: NOWHERE,
  rightLocal: NOWHERE,
};

test('questions about flows are answered by number, and all end when the data plane does', async () => {
  const { client } = make();
  const list = client.listFlows();
  const close = client.closeFlow(7);
  client.receive({ type: 'flowClosed', guest: 1, request: 2, existed: true });
  client.receive({ type: 'flows', guest: 1, request: 1, flows: [FLOW], more: true });
  client.receive({ type: 'flows', guest: 1, request: 1, flows: [{ ...FLOW, flow: 2 }], more: false });
  const [flows, existed] = await Promise.all([list, close]);
  assert.deepEqual([flows.map(({ flow }) => flow), existed], [[1, 2], true]);
  const never = [client.listFlows(), client.closeFlow(1), client.addForward(spec), client.removeForward(1)];
  client.fail(new Error('gone'));
  for (const waiting of never) await assert.rejects(waiting as Promise<unknown>, /gone/);
});

test('review H-1: no number of a guest, a forward or a flow is used twice in a server', () => {
  const numbers = new Numbers();
  const sent: Command[] = [];
  const clients = [1, 2].map(() => new EngineClient((command) => sent.push(command), numbers));
  for (const client of [...clients, ...clients]) void client.addForward(spec).catch(() => undefined);
  assert.deepEqual(
    sent.map((command) => command.type === 'addForward' && [command.guest, command.forward]),
    [
      [1, 1],
      [2, 2],
      [1, 3],
      [2, 4],
    ],
  );
  // Two data planes take theirs in blocks, in turns.
  const planes = [1, 2].map(() => new FlowNumbers(numbers.flowBlocks));
  const taken = new Set<number>();
  const most = 3 * 2 ** 20;
  for (let i = 0; i < most; i++) taken.add((planes[i & 1] as FlowNumbers).next());
  assert.equal(taken.size, most);
  assert.equal(Math.min(...[...taken].slice(0, 2)), 1);
});

test('review H-1: a guest is changed and ended by its client, and told how that went', async () => {
  const { sent, client } = make();
  const changing = client.update({ limits: { tcpMaxFlows: 5 } });
  const failing = client.update({});
  const ending = client.remove();
  assert.deepEqual(
    sent.map(({ type }) => type),
    ['updateGuest', 'updateGuest', 'removeGuest'],
  );
  client.receive({ type: 'guestUpdated', guest: 1, reason: '' });
  client.receive({ type: 'guestUpdated', guest: 1, reason: 'no such address' });
  client.receive({ type: 'guestRemoved', guest: 1, existed: true });
  await changing;
  await assert.rejects(failing, /no such address/);
  assert.equal(await ending, true);
});
