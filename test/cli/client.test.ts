/** What the commands for a running tslirp ask, and how they show what they are told. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { listener } from '../support/exposed.ts';
import { programPath } from '../support/program-path.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
const path = join(directory, 'api');
const asked: unknown[] = [];
const answers: string[] = [];
let server: Server;

before(async () => {
  server = createServer({ allowHalfOpen: true }, (socket) => {
    let request = '';
    socket.setEncoding('utf8').on('data', (part: string) => {
      request += part;
    });
    socket.on('end', () => {
      asked.push(JSON.parse(request));
      socket.end(answers.shift() ?? '{"return":{}}');
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
});

after(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

interface Told {
  status: number | null;
  stdout: string;
  stderr: string;
  asked: unknown[];
}

/** The command line, with these answers one after the other. */
async function tslirp(args: string[], ...given: string[]): Promise<Told> {
  answers.splice(0, answers.length, ...given);
  asked.length = 0;
  const child = spawn(programPath('tslirp'), args, { env: { ...process.env, TSLIRP_API_SOCKET: path } });
  const [stdout, stderr, status] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number | null>((resolve) => child.on('exit', resolve)),
  ]);
  return { status, stdout, stderr, asked: [...asked] };
}

function add(args: Record<string, unknown>): unknown {
  return { execute: 'add_hostfwd', arguments: args };
}

describe('forward add: a rule as with -L', () => {
  const table: [string, Record<string, unknown>][] = [
    ['8080', { proto: 'tcp', host_addr: '127.0.0.1', host_port: 8080, guest_port: 8080 }],
    ['8080:80', { proto: 'tcp', host_addr: '127.0.0.1', host_port: 8080, guest_port: 80 }],
    ['0.0.0.0:0:80/udp', { proto: 'udp', host_addr: '0.0.0.0', host_port: 0, guest_port: 80 }],
    [
      '8080:10.0.2.7:80',
      { proto: 'tcp', host_addr: '127.0.0.1', host_port: 8080, guest_addr: '10.0.2.7', guest_port: 80 },
    ],
    ['udp://[::]:53', { proto: 'udp6', host_addr: '::', host_port: 53, guest_port: 53 }],
    [
      '[::1]:53:[fd00::7]:54',
      { proto: 'tcp6', host_addr: '::1', host_port: 53, guest_addr: 'fd00::7', guest_port: 54 },
    ],
  ];
  for (const [rule, args] of table) {
    test(rule, async () => {
      const told = await tslirp(['forward', 'add', rule], '{"return":{"id":7}}');
      assert.deepEqual(told, { status: 0, stdout: '7\n', stderr: '', asked: [add(args)] });
    });
  }

  test('a range is as many requests; a chosen port is told; the first that is refused is the last', async () => {
    const chosen = '{"return":{"id":7,"host_port":33000}}';
    const refused = '{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed"}}';
    const told = await tslirp(['forward', 'add', '8000-8002'], chosen, refused);
    assert.deepEqual([told.status, told.stdout, told.asked.length], [1, '7 33000\n', 2]);
    assert.equal(told.stderr, 'tslirp: bad request: add_hostfwd: slirp_add_hostfwd failed\n');
  });
});

test('forward rm and flow kill: one request for each number', async () => {
  const removed = await tslirp(['forward', 'rm', '3', '12']);
  assert.deepEqual(
    [removed.status, removed.stdout, removed.asked],
    [0, '', [3, 12].map((id) => ({ execute: 'remove_hostfwd', arguments: { id } }))],
  );
  const { asked: cut } = await tslirp(['flow', 'kill', '5']);
  assert.deepEqual(cut, [{ execute: 'close_flow', arguments: { id: 5 } }]);
});

test('what has no such number is told as such', async () => {
  const refusal = (what: string): string => `{"error":{"desc":"bad request: ${what}: bad arguments.id"}}`;
  const removed = await tslirp(['forward', 'rm', '99'], refusal('remove_hostfwd'));
  assert.deepEqual(
    [removed.status, removed.stderr],
    [1, 'tslirp: there is no forward 99 (see tslirp forward ls)\n'],
  );
  const { stderr } = await tslirp(['flow', 'kill', '1'], refusal('close_flow'));
  assert.equal(stderr, 'tslirp: there is no flow 1 (see tslirp flow ls)\n');
});

test('listeners: names are shown without what a terminal would act upon', async () => {
  const listeners = [listener(), listener({ proto: 'udp', ip: '::', port: 53, process: 'a\nb', pid: null })];
  const { stdout } = await tslirp(['listeners'], JSON.stringify({ return: { listeners } }));
  assert.equal(
    stdout,
    `PROTO  ADDRESS     PROCESS  PID   UID
tcp    0.0.0.0:80  nginx    4711  1000
udp    [::]:53     a?b      -     1000
`,
  );
});

test('lists are tables, numbers to the right; --json is the answer as it comes', async () => {
  const rule = { reason: 'fixed', process: null };
  const forwards = [
    {
      ...{ id: 9, proto: 'tcp', ...rule },
      ...{ hostEnd: { ip: '127.0.0.1', port: 80 }, guestEnd: { ip: '10.0.2.100', port: 81 } },
    },
    {
      ...{ id: 10, proto: 'udp', ...rule },
      ...{ hostEnd: { ip: '::', port: 53 }, guestEnd: { ip: 'fd00::100', port: 53 } },
    },
    {
      ...{ id: 11, proto: 'tcp', ...rule },
      ...{ hostEnd: { path: '/run/web' }, guestEnd: { ip: '10.0.2.100', port: 80 } },
    },
    {
      ...{ id: null, proto: 'tcp', reason: 'privileged', process: 'x\u001b[2J' },
      ...{ hostEnd: { ip: '127.0.0.1', port: 1080 }, guestEnd: { ip: '0.0.0.0', port: 80 } },
    },
  ];
  const answer = JSON.stringify({ return: { forwards } });
  const shown = await tslirp(['forward', 'ls'], answer);
  assert.equal(
    shown.stdout,
    `ID  PROTO  HOST            GUEST           REASON      PROCESS
 9  tcp    127.0.0.1:80    10.0.2.100:81   fixed       -
10  udp    [::]:53         [fd00::100]:53  fixed       -
11  tcp    unix:/run/web   10.0.2.100:80   fixed       -
-   tcp    127.0.0.1:1080  0.0.0.0:80      privileged  x?[2J
`,
  );
  assert.deepEqual(shown.asked, [{ execute: 'list_forwards' }]);
  const { stdout } = await tslirp(['forward', 'ls', '--json'], answer);
  assert.deepEqual(JSON.parse(stdout), { forwards });
});

test('flow ls and stats', async () => {
  const flows = [
    {
      flow: 3,
      protocol: 'tcp',
      kind: 'routed',
      forward: 0,
      state: 'ESTABLISHED',
      ageMs: 61_400,
      bytesOut: 12,
      bytesIn: 3456,
      left: { address: '10.0.2.100', port: 40_000 },
      leftLocal: { address: '192.0.2.1', port: 443 },
      right: { address: '192.0.2.1', port: 443 },
      rightLocal: { address: '198.51.100.1', port: 40_001 },
    },
  ];
  const listed = await tslirp(['flow', 'ls'], JSON.stringify({ return: { flows } }));
  assert.match(
    listed.stdout,
    /^ID {2}PROTO {2}KIND.*\n 3 {2}tcp {4}routed {2}10\.0\.2\.100:40000 {2}192\.0\.2\.1:443 {2}ESTABLISHED +61 +12 +3456\n$/,
  );
  const stats = { counters: { 'rx.packets': 5 }, gauges: { 'tcp.flows': 1 } };
  const told = await tslirp(['stats'], JSON.stringify({ return: stats }));
  assert.equal(told.stdout, 'NAME        VALUE\nrx.packets      5\ntcp.flows       1\n');
});

test('an answer that is none is nobody: status 3', async () => {
  const told = await tslirp(['info'], 'hello');
  assert.deepEqual([told.status, told.stdout], [3, '']);
  assert.match(told.stderr, /^tslirp: nobody answers at [^\n]+\n$/);
});
