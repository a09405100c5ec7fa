import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { service } from '../support/services.ts';
import { publishing } from './support/publishing.ts';

test('a service has the port of the host that it has in the guest', async () => {
  const { engine, publisher, said } = publishing();
  const web = service('0.0.0.0', 8080, { process: 'nginx' });
  publisher.appear(web);
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:8080 same']);
  assert.deepEqual(engine.listeners(), ['tcp 127.0.0.1:8080 10.0.2.100:8080']);
  publisher.vanish(web, 'closed');
  assert.deepEqual(await said(), ['- tcp 8080 closed']);
  assert.deepEqual(engine.listeners(), []);
});

test('a wildcard service is reached at the guest’s address of the family that it takes', async () => {
  const { engine, publisher } = publishing();
  publisher.appear(service('::', 8001, { dualStack: true }));
  publisher.appear(service('::', 8002));
  publisher.appear(service('fd77::1', 8003));
  await publisher.settled();
  assert.deepEqual(engine.listeners(), [
    'tcp 127.0.0.1:8001 10.0.2.100:8001',
    'tcp 127.0.0.1:8002 fd00::100:8002',
    'tcp 127.0.0.1:8003 fd77::1:8003',
  ]);
});

test('ports P-11: the same number for TCP and UDP is the same number on the host', async () => {
  const { publisher, said } = publishing();
  publisher.appear(service('0.0.0.0', 53));
  publisher.appear(service('0.0.0.0', 53, { proto: 'udp' }));
  assert.deepEqual(await said(), [
    '+ tcp 0.0.0.0:53 127.0.0.1:1053 privileged',
    '+ udp 0.0.0.0:53 127.0.0.1:1053 privileged',
  ]);
});

test('ports P-12: with 80, 1080 and 2080 busy it is 3080', async () => {
  const { engine, publisher, said } = publishing({}, 1);
  for (const port of [80, 1080, 2080]) engine.busy.add(`tcp 127.0.0.1 ${port}`);
  publisher.appear(service('0.0.0.0', 80));
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:80 127.0.0.1:3080 busy']);
});

test('a port that only the bind shows to be privileged is passed over', async () => {
  const { engine, publisher, said } = publishing({}, 1);
  engine.minPort = 1024;
  publisher.appear(service('0.0.0.0', 80));
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:80 127.0.0.1:1080 privileged']);
});

test('ports P-13: with all candidates busy any other port does', async () => {
  const { engine, publisher, said } = publishing();
  for (let port = 65500; port <= 65535; port++) engine.busy.add(`tcp 127.0.0.1 ${port}`);
  publisher.appear(service('0.0.0.0', 65500));
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:65500 127.0.0.1:40000 random']);
});

test('ports P-14: a port that is busy in one family is not taken in the other', async () => {
  const { engine, publisher, said } = publishing({ bind: ['127.0.0.1', '::1'] });
  engine.busy.add('tcp ::1 8080');
  publisher.appear(service('0.0.0.0', 8080));
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:9080 busy']);
  assert.deepEqual(engine.listeners(), [
    'tcp 127.0.0.1:9080 10.0.2.100:8080',
    'tcp ::1:9080 10.0.2.100:8080',
  ]);
  assert.deepEqual([...engine.busy].sort(), ['tcp 127.0.0.1 9080', 'tcp ::1 8080', 'tcp ::1 9080']);
});

test('a random port is one that is free in both families', async () => {
  const { engine, publisher, said } = publishing({ bind: ['127.0.0.1', '::1'] });
  engine.busy.add('tcp ::1 40000');
  for (let port = 65535; port >= 65500; port--) engine.busy.add(`tcp 127.0.0.1 ${port}`);
  publisher.appear(service('0.0.0.0', 65500));
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:65500 127.0.0.1:40001 random']);
});

test('a service that goes and comes back at once keeps its forward, without a word', async () => {
  const { engine, publisher, said } = publishing();
  const web = service('0.0.0.0', 8080);
  publisher.appear(web);
  await said();
  const [id] = engine.open.keys();
  publisher.vanish(web, 'closed');
  publisher.appear(service('0.0.0.0', 8080));
  assert.deepEqual(await said(), []);
  assert.deepEqual([...engine.open.keys()], [id]);
});

test('a service that comes back later has the port it had, though its own is free now', async () => {
  const { engine, publisher, said } = publishing();
  engine.busy.add('tcp 127.0.0.1 8080');
  const web = service('0.0.0.0', 8080);
  publisher.appear(web);
  await said();
  publisher.vanish(web, 'closed');
  await said();
  engine.busy.delete('tcp 127.0.0.1 8080');
  publisher.appear(web);
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:9080 busy']);
});

test('a service that goes while its port is being bound is closed again', async () => {
  const { engine, publisher, said } = publishing();
  const web = service('0.0.0.0', 8080);
  publisher.appear(web);
  await Promise.resolve();
  publisher.vanish(web, 'policy');
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:8080 same', '- tcp 8080 policy']);
  assert.equal(engine.open.size, 0);
});

test('two services at one end are one forward, which ends with the last', async () => {
  const { publisher, said } = publishing();
  const [one, other] = [service('0.0.0.0', 8080), service('0.0.0.0', 8080)];
  publisher.appear(one);
  publisher.appear(other);
  publisher.vanish(one, 'closed');
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:8080 same']);
  publisher.vanish(other, 'closed');
  assert.deepEqual(await said(), ['- tcp 8080 closed']);
});

test('ports A-6: beyond the limit services wait, which is said once, and take the place of who goes', async () => {
  const { engine, publisher, said } = publishing({ max: 256 });
  const services = Array.from({ length: 1000 }, (_, i) => service('0.0.0.0', 2000 + i));
  for (const each of services) publisher.appear(each);
  const events = await said();
  assert.equal(events.filter((event) => event.startsWith('+')).length, 256);
  assert.deepEqual(
    events.filter((event) => event.startsWith('!')),
    ['! 2256 limit'],
  );
  publisher.vanish(services[300] as (typeof services)[0], 'closed');
  assert.deepEqual(await said(), []);
  publisher.vanish(services[0] as (typeof services)[0], 'closed');
  assert.deepEqual(await said(), ['- tcp 2000 closed', '+ tcp 0.0.0.0:2256 127.0.0.1:2256 same']);
  for (const each of services) publisher.vanish(each, 'closed');
  await said();
  assert.equal(engine.open.size, 0);
});

test('exact: a busy port is told once, tried again, and taken when it is free', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  const { engine, publisher, said } = publishing({ exact: true });
  engine.busy.add('tcp 127.0.0.1 8080');
  publisher.appear(service('0.0.0.0', 8080));
  assert.deepEqual(await said(), ['! 8080 EADDRINUSE']);
  mock.timers.tick(5000);
  assert.deepEqual(await said(), []);
  assert.equal(engine.tries, 2);
  engine.busy.delete('tcp 127.0.0.1 8080');
  mock.timers.tick(5000);
  assert.deepEqual(await said(), ['+ tcp 0.0.0.0:8080 127.0.0.1:8080 same']);
  mock.timers.reset();
});

test('a service may say which host port it has to have, and where', async () => {
  const { engine, publisher, said } = publishing();
  publisher.appear(service('10.0.2.100', 80, { hostPort: 1080, hostAddress: '192.0.2.1' }));
  assert.deepEqual(await said(), ['+ tcp 10.0.2.100:80 192.0.2.1:1080 fixed']);
  assert.deepEqual(engine.listeners(), ['tcp 192.0.2.1:1080 10.0.2.100:80']);
});

test('stop closes everything, and tells it', async () => {
  const { engine, publisher, said } = publishing();
  publisher.appear(service('0.0.0.0', 8080));
  await said();
  await publisher.stop();
  assert.deepEqual(await said(), ['- tcp 8080 stop']);
  publisher.appear(service('0.0.0.0', 8081));
  assert.deepEqual(await said(), []);
  assert.equal(engine.open.size, 0);
});

test('1,000 services that come and go at once leave nothing behind', async () => {
  const { engine, publisher, said } = publishing();
  const services = Array.from({ length: 1000 }, (_, i) => service('0.0.0.0', 2000 + i));
  for (let round = 0; round < 5; round++) {
    for (const each of services) publisher.appear(each);
    await Promise.resolve();
    for (const each of services) publisher.vanish(each, 'closed');
  }
  publisher.appear(services[7] as (typeof services)[0]);
  await said();
  assert.deepEqual(engine.listeners(), ['tcp 127.0.0.1:2007 10.0.2.100:2007']);
});

const NOBODY = { address: '', port: 0 };
const ENDS = { left: NOBODY, leftLocal: NOBODY, right: NOBODY, rightLocal: NOBODY };

test('what is told of the end of a forward counts the connections that are still open', async () => {
  const { engine, publisher, events } = publishing();
  const web = service('0.0.0.0', 8080);
  publisher.appear(web);
  await publisher.settled();
  const [forward = 0] = engine.open.keys();
  const flow = { ...ENDS, flow: 1, protocol: 'tcp', kind: 'local', state: 'ESTABLISHED', ageMs: 1 } as const;
  engine.flows = [
    { ...flow, forward, bytesIn: 10, bytesOut: 300 },
    { ...flow, forward, bytesIn: 1, bytesOut: 2 },
    { ...flow, forward: forward + 1, bytesIn: 5, bytesOut: 5 },
  ];
  publisher.vanish(web, 'closed');
  await publisher.settled();
  const [event] = events.slice(-1);
  assert.ok(event?.type === 'forward.removed');
  assert.deepEqual([event.connections, event.bytesIn, event.bytesOut], [2, 11, 302]);
});

test('ports P-20: a connection that is not answered, from a source that is not ours alone, is warned of once', async () => {
  const { engine, publisher, said } = publishing();
  publisher.appear(service('0.0.0.0', 8080, { source: '192.168.7.9' }));
  publisher.appear(service('0.0.0.0', 8081));
  await said();
  const [first = 0, second = 0] = engine.open.keys();
  const report = (forward: number, ageMs: number, failure: 'left' | 'guest'): void =>
    publisher.heard({
      ...{ type: 'flow', event: 'error', flow: 1, protocol: 'tcp', kind: 'local', forward, ...ENDS },
      status: { leftRead: 0, leftWrite: 0, rightRead: 0, rightWrite: 0, first: -1 },
      ...{ ageMs, bytesIn: 0, bytesOut: 0, failure, repeated: 0, reason: '' },
    });
  report(first, 10, 'left');
  report(first, 5000, 'guest');
  report(second, 5000, 'left');
  assert.deepEqual(await said(), []);
  report(first, 5000, 'left');
  report(first, 5000, 'left');
  assert.deepEqual(await said(), ['forward.warning']);
});
