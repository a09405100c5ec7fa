import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseSlirpnetstackForward } from '../../../src/cli/forward-rule.ts';
import { toForwardSpec } from '../../../src/cli/forward-spec.ts';
import { announcement, flowLine, isLookupError, leftOutLine } from '../../../src/cli/slirpnetstack/lines.ts';
import type { Endpoint, ForwardSpec } from '../../../src/config.ts';
import type { FlowEvent } from '../../../src/engine/messages.ts';

function at(text: string): Endpoint {
  const [, address = '', port = ''] = /^(.*):(\d+)$/.exec(text) ?? [];
  return { address, port: Number(port) };
}

const ECONNRESET = 104;
const ECONNREFUSED = 111;
const ETIMEDOUT = 110;
const EPIPE = 32;

type Ends = [left: string, leftLocal: string, rightLocal: string, right: string];
const routed: Ends = [
  '10.0.2.100:55062',
  '192.168.1.100:39567',
  '192.168.1.100:41468',
  '192.168.1.100:39567',
];
const routed6: Ends = ['fd00::100:5', '3ffe::100:9', '3ffe::100:6', '3ffe::100:9'];
const remote: Ends = ['10.0.2.100:1', '10.0.2.2:2222', '127.0.0.1:4', '127.0.0.1:3000'];
const local: Ends = ['127.0.0.1:60834', '127.0.0.1:42754', '10.0.2.2:62437', '10.0.2.100:51954'];

function event(
  kind: FlowEvent['kind'],
  what: FlowEvent['event'],
  [left, leftLocal, rightLocal, right]: Ends,
  status: [number, number, number, number, number] = [0, 0, 0, 0, -1],
  extra: Partial<FlowEvent> = {},
): FlowEvent {
  const [leftRead, leftWrite, rightRead, rightWrite, first] = status;
  return {
    type: 'flow',
    event: what,
    flow: 1,
    protocol: 'tcp',
    kind,
    forward: 0,
    left: at(left),
    leftLocal: at(leftLocal),
    rightLocal: at(rightLocal),
    right: at(right),
    status: { leftRead, leftWrite, rightRead, rightWrite, first },
    ageMs: 0,
    bytesOut: 0,
    bytesIn: 0,
    failure: '',
    repeated: 0,
    reason: '',
    ...extra,
  };
}

function forward(text: string, direction: 'local' | 'remote'): Promise<ForwardSpec> {
  const nobody = (): never => assert.fail('nothing to resolve');
  return toForwardSpec(parseSlirpnetstackForward(text, direction), nobody, {
    dualStackWildcards: true,
    source: '',
    splicesLoopback: false,
  });
}

describe('flows', () => {
  const table: [string, FlowEvent, string][] = [
    [
      'routed, opened',
      event('routed', 'open', routed),
      '[+] tcp://10.0.2.100:55062/192.168.1.100:41468-192.168.1.100:39567 Routing conn new',
    ],
    [
      'routed, closed by the guest first',
      event('routed', 'close', routed, [-1, 0, -1, 0, 0]),
      '[-] tcp://10.0.2.100:55062/192.168.1.100:41468-192.168.1.100:39567 Routing conn done: l=[EOF]/0 r=EOF/0',
    ],
    [
      'routed, closed by the host first, IPv6',
      event('routed', 'close', routed6, [-1, 0, -1, 0, 2]),
      '[-] tcp://[fd00::100]:5/[3ffe::100]:6-[3ffe::100]:9 Routing conn done: l=EOF/0 r=[EOF]/0',
    ],
    [
      'routed, refused',
      event('routed', 'error', routed, [0, 0, ECONNREFUSED, 0, 2]),
      '[!] tcp://10.0.2.100:55062/192.168.1.100:39567 Routing conn error: l=0/0 r=[dial tcp 192.168.1.100:39567: connect: connection refused]/0',
    ],
    [
      'routed, refused, IPv6',
      event('routed', 'error', routed6, [0, 0, ECONNREFUSED, 0, 2]),
      '[!] tcp://[fd00::100]:5/[3ffe::100]:9 Routing conn error: l=0/0 r=[dial tcp [3ffe::100]:9: connect: connection refused]/0',
    ],
    [
      'routed, reset by the guest',
      event('routed', 'close', routed, [ECONNRESET, 0, -1, 0, 0]),
      '[-] tcp://10.0.2.100:55062/192.168.1.100:41468-192.168.1.100:39567 Routing conn done: l=[read tcp 192.168.1.100:39567: connection reset by peer]/0 r=EOF/0',
    ],
    [
      'routed, reset by the host',
      event('routed', 'close', routed, [-1, 0, ECONNRESET, EPIPE, 2]),
      '[-] tcp://10.0.2.100:55062/192.168.1.100:41468-192.168.1.100:39567 Routing conn done: l=EOF/0 r=[read tcp 192.168.1.100:41468->192.168.1.100:39567: read: connection reset by peer]/write tcp 192.168.1.100:41468->192.168.1.100:39567: write: broken pipe',
    ],
    [
      'UDP, refused on the host',
      event('routed', 'close', routed, [-1, 0, ECONNREFUSED, 0, 2], { protocol: 'udp' }),
      '[-] udp://10.0.2.100:55062/192.168.1.100:41468-192.168.1.100:39567 Routing conn done: l=EOF/0 r=[read udp 192.168.1.100:41468->192.168.1.100:39567: read: connection refused]/0',
    ],
    [
      'UDP, idle',
      event('routed', 'close', routed, [-1, 0, ETIMEDOUT, 0, 2], { protocol: 'udp' }),
      '[-] udp://10.0.2.100:55062/192.168.1.100:41468-192.168.1.100:39567 Routing conn done: l=EOF/0 r=[read udp 192.168.1.100:41468->192.168.1.100:39567: i/o timeout]/0',
    ],
    [
      'remote, opened',
      event('remote', 'open', remote),
      '[+] tcp://10.0.2.100:1-10.0.2.2:2222/127.0.0.1:4-127.0.0.1:3000 remote-fwd conn new',
    ],
    [
      'remote, closed',
      event('remote', 'close', remote, [-1, 0, -1, 0, 0]),
      '[-] tcp://10.0.2.100:1-10.0.2.2:2222/127.0.0.1:4-127.0.0.1:3000 remote-fwd conn done: l=[EOF]/0 r=EOF/0',
    ],
    [
      'remote, refused, target without brackets',
      event('remote', 'error', ['fd00::100:1', 'fd00::2:2', ':0', '::1:3000'], [0, 0, ECONNREFUSED, 0, 2]),
      '[!] tcp://[fd00::100]:1-[fd00::2]:2/::1:3000 remote-fwd conn error: l=0/0 r=[dial tcp [::1]:3000: connect: connection refused]/0',
    ],
    [
      'local, opened',
      event('local', 'open', local, undefined, { protocol: 'udp' }),
      '[+] udp://127.0.0.1:60834-127.0.0.1:42754/10.0.2.2:62437-10.0.2.100:51954 local-fwd conn',
    ],
    [
      'local, closed',
      event('local', 'close', local, [-1, 0, -1, 0, 0]),
      '[-] tcp://127.0.0.1:60834-127.0.0.1:42754/10.0.2.2:62437-10.0.2.100:51954 local-fwd done: l=[EOF]/0 r=EOF/0',
    ],
    [
      'local, refused by the guest',
      event('local', 'error', local, [0, 0, ECONNREFUSED, 0, 2]),
      '[!] tcp://127.0.0.1:60834-127.0.0.1:42754/10.0.2.100:51954 local-fwd error: l=0/0 r=[connection was refused]/0',
    ],
    [
      'local, reset by the client and the guest',
      event('local', 'close', local, [ECONNRESET, 0, ECONNRESET, 0, 2]),
      '[-] tcp://127.0.0.1:60834-127.0.0.1:42754/10.0.2.2:62437-10.0.2.100:51954 local-fwd done: l=read tcp 127.0.0.1:42754->127.0.0.1:60834: read: connection reset by peer/0 r=[read tcp 10.0.2.2:62437: connection reset by peer]/0',
    ],
  ];
  for (const [name, flow, line] of table) test(name, () => assert.equal(flowLine(flow, null), line));

  test('PP rules say so', async () => {
    const spec = await forward('tcppp://0:10.0.2.100:51954', 'local');
    const line = (flow: FlowEvent): string => flowLine(flow, spec).replace(/^.* local-fwd/, 'local-fwd');
    assert.equal(line(event('local', 'open', local)), 'local-fwd PP conn');
    assert.equal(
      line(event('local', 'close', local, [-1, 0, -1, 0, 2])),
      'local-fwd PP done: l=EOF/0 r=[EOF]/0',
    );
    assert.equal(
      flowLine(event('local', 'error', local, undefined, { reason: 'spp: bad magic number' }), spec),
      '[!] tcp://127.0.0.1:60834-127.0.0.1:42754/10.0.2.100:51954 local-fwd PP error: spp: bad magic number',
    );
  });

  test('a target that is not found is shown by its label', async () => {
    const spec = await forward('tcp://:2222:tcp.echo.server@srv-8600:0', 'remote');
    const reason = 'Failed to lookup SRV "tcp.echo.server" on "127.0.0.1:8600"';
    const ends: Ends = ['10.0.2.100:1', '10.0.2.2:2222', ':0', 'tcp.echo.server@srv-8600:2222'];
    const failed = event('remote', 'error', ends, [0, 0, 0, 0, -1], { reason });
    assert.equal(
      flowLine(failed, spec),
      `[!] tcp://10.0.2.100:1-10.0.2.2:2222/tcp.echo.server@srv-8600-failed remote-fwd dns lookup error of tcp addr: ${reason}`,
    );
    assert.equal(isLookupError(failed), true);
    assert.equal(isLookupError(event('remote', 'error', remote, [0, 0, ECONNREFUSED, 0, 2])), false);
  });
});

describe('announcements', () => {
  const table: ['local' | 'remote', string, string, string][] = [
    ['local', '8080', '127.0.0.1:8080', '[+] local-fwd Local listen tcp://127.0.0.1:8080'],
    ['local', 'udp://0.0.0.0:0::5000', ':::4242', '[+] local-fwd Local listen udp://[::]:4242'],
    ['local', 'udprpc://[::1]:0::53', '::1:4242', '[+] local-fwd Local listen udp://[::1]:4242'],
    ['local', 'tcppp://80', '127.0.0.1:80', '[+] local-fwd Local PP listen tcp://127.0.0.1:80'],
    ['local', 'udpspp://80', '127.0.0.1:80', '[+] local-fwd Local PP listen udp://127.0.0.1:80'],
    ['remote', 'udp://[fd00::2]:0::53', '', '[+] Accepting on remote side udp://fd00::2:0'],
    ['remote', '192.0.2.5:80:127.0.0.1:1', '', '[+] Accepting on remote side tcp://192.0.2.5:80'],
    ['remote', 'tcppp://80', '', '[+] Accepting on remote side tcp://10.0.2.2:80'],
  ];
  for (const [direction, rule, listen, line] of table) {
    test(`${direction} ${rule}`, async () => {
      const bound = { kind: 'ip', ...at(listen === '' ? '0.0.0.0:0' : listen) } as const;
      assert.equal(announcement(await forward(rule, direction), bound), line);
    });
  }

  test('a unix socket', async () => {
    const spec = await forward('unix:/run/a.sock:80', 'local');
    assert.equal(
      announcement(spec, { kind: 'unix', path: '/run/a.sock' }),
      '[+] local-fwd Local listen tcp://unix:/run/a.sock',
    );
  });
});

test('R-04: flows that are not told of are one line', () => {
  assert.equal(leftOutLine(200), '[!] 200 more conns, too many to be told of');
});
