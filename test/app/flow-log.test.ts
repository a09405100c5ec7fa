/** The lines of the flow log, and what the log says of refusals. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FlowLog, refusalOf } from '../../src/app/flow-log.ts';
import { RefusalLog } from '../../src/app/refusal-log.ts';
import { parseRuleList } from '../../src/cli/rule.ts';
import type { Endpoint } from '../../src/config.ts';
import { RefusalText } from '../../src/control/refusal-text.ts';
import type { FlowEvent, Refusal, RefusalReason } from '../../src/engine/messages.ts';
import { toRuleSpec } from '../../src/firewall/rule.ts';
import { plainGuest } from '../support/plain-guest.ts';

const ECONNREFUSED = 111;
const ETIMEDOUT = 110;
const ENETUNREACH = 101;

function text(deny = ''): RefusalText {
  return new RefusalText({
    ...plainGuest,
    policy: {
      enableRouting: false,
      enableHost: false,
      allow: [],
      deny: deny === '' ? [] : parseRuleList(deny).map((rule) => toRuleSpec(rule)),
      guestNetworks: [
        { address: '10.0.2.0', bits: 120 },
        { address: 'fd00::', bits: 64 },
      ],
    },
  });
}

function at(address: string, port: number): Endpoint {
  return { address, port };
}

function refusal(reason: RefusalReason, to: Endpoint, more: Partial<Refusal> = {}): Refusal {
  return {
    ...{ type: 'refusal', reason, protocol: 'tcp', source: at('10.0.2.100', 4000), destination: to },
    ...{ error: 0, repeated: 0 },
    ...more,
  };
}

function flow(more: Partial<FlowEvent> = {}): FlowEvent {
  return {
    type: 'flow',
    event: 'open',
    flow: 7,
    protocol: 'tcp',
    kind: 'routed',
    forward: 0,
    left: at('10.0.2.100', 4000),
    leftLocal: at('192.0.2.1', 443),
    right: at('192.0.2.1', 443),
    rightLocal: at('198.51.100.1', 5000),
    status: { leftRead: 0, leftWrite: 0, rightRead: 0, rightWrite: 0, first: -1 },
    ageMs: 0,
    bytesOut: 0,
    bytesIn: 0,
    failure: '',
    repeated: 0,
    reason: '',
    ...more,
  };
}

class Lines {
  readonly all: Record<string, unknown>[] = [];
  full = false;
  line(line: string): boolean {
    if (this.full) return false;
    assert.ok(!line.includes('\n'));
    this.all.push(JSON.parse(line) as Record<string, unknown>);
    return true;
  }
  /** The last one, without what every line has. */
  last(): Record<string, unknown> {
    const { v, seq, guest, '@timestamp': time, ...rest } = this.all.at(-1) ?? {};
    assert.deepEqual([v, seq, guest], [1, this.all.length, 'g0']);
    assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    return rest;
  }
}

describe('review ON-3: the flow log', () => {
  test('has the ends of a flow when it opens, and what went each way when it closes', () => {
    const lines = new Lines();
    const log = new FlowLog(lines, text(), 'g0');
    const ends = {
      ...{ 'flow.id': 7, 'network.transport': 'tcp', 'network.direction': 'outbound' },
      ...{
        'source.ip': '10.0.2.100',
        'source.port': 4000,
        'destination.ip': '192.0.2.1',
        'destination.port': 443,
      },
      ...{ 'source.nat.ip': '198.51.100.1', 'source.nat.port': 5000 },
    };
    log.flow(flow());
    assert.deepEqual(lines.last(), { 'event.action': 'flow.open', ...ends, 'event.outcome': 'success' });
    log.flow(flow({ event: 'close', bytesOut: 10, bytesIn: 2000, ageMs: 1.5 }));
    assert.deepEqual(lines.last(), {
      ...{ 'event.action': 'flow.close', ...ends, 'event.outcome': 'success', 'event.duration': 1_500_000 },
      ...{ 'source.bytes': 10, 'destination.bytes': 2000 },
    });
  });

  test('counts the bytes of a local forward from its client’s side, and names unix sockets', () => {
    const lines = new Lines();
    const log = new FlowLog(lines, text(), 'g0');
    const status = { leftRead: 104, leftWrite: 0, rightRead: 0, rightWrite: 0, first: 0 };
    const ends = {
      left: at('@', 0),
      leftLocal: at('/run/web.sock', 0),
      right: at('10.0.2.100', 80),
      rightLocal: at('10.0.2.2', 9),
    };
    log.flow(flow({ event: 'close', kind: 'local', bytesOut: 10, bytesIn: 2000, status, ...ends }));
    const line = lines.last();
    assert.deepEqual(
      [
        'source.bytes',
        'destination.bytes',
        'destination.address',
        'destination.nat.ip',
        'error.code',
        'tslirp.forward',
      ].map((name) => line[name]),
      [2000, 10, '/run/web.sock', '10.0.2.100', 'ECONNRESET', 'local'],
    );
  });

  test('says why a flow failed', () => {
    const lines = new Lines();
    const log = new FlowLog(lines, text(), 'g0');
    const status = { leftRead: 0, leftWrite: 0, rightRead: ECONNREFUSED, rightWrite: 0, first: 2 };
    log.flow(flow({ event: 'error', failure: 'connect', status }));
    const line = lines.last();
    assert.deepEqual(
      ['event.action', 'event.outcome', 'event.reason', 'error.code'].map((name) => line[name]),
      ['flow.failed', 'failure', 'connect', 'ECONNREFUSED'],
    );
    const right = at('db.example', 5432);
    log.flow(flow({ event: 'error', kind: 'remote', failure: 'name', reason: 'not found', right }));
    assert.deepEqual(
      ['event.reason', 'error.message', 'destination.nat.address'].map((name) => lines.last()[name]),
      ['name', 'not found', 'db.example'],
    );
  });

  test('says why something was refused and what would open it', () => {
    const lines = new Lines();
    const log = new FlowLog(lines, text('192.0.2.0/24:80'), 'g0');
    log.refusal(refusal('default', at('192.0.2.1', 443)));
    assert.deepEqual(lines.last(), {
      ...{ 'event.action': 'flow.denied', 'network.transport': 'tcp' },
      ...{
        'source.ip': '10.0.2.100',
        'source.port': 4000,
        'destination.ip': '192.0.2.1',
        'destination.port': 443,
      },
      ...{ 'event.outcome': 'failure', 'event.reason': 'default' },
      'tslirp.open': ['--allow tcp://192.0.2.1:443', '--enable-routing'],
    });
    log.refusal(refusal('default', at('192.0.2.1', 80)));
    assert.equal(lines.last()['event.reason'], 'rule');
    assert.equal(lines.last()['rule.id'], 'tcp://192.0.2.0/24:80');
    assert.equal(lines.last()['tslirp.open'], undefined);
    log.refusal(refusal('resolver', at('192.0.2.53', 53), { protocol: 'udp', source: at('', 0) }));
    assert.equal(lines.last()['event.action'], 'flow.failed');
  });

  test('tells a slow reader how many lines it lost, and numbers those that were written', () => {
    const lines = new Lines();
    const log = new FlowLog(lines, text(), 'g0');
    log.flow(flow());
    lines.full = true;
    for (let i = 0; i < 5; i++) log.flow(flow());
    lines.full = false;
    log.flow(flow({ flow: 8 }));
    log.leftOut(12);
    assert.deepEqual(
      lines.all.map((line) => [line['seq'], line['event.action'], line['count']]),
      [
        [1, 'flow.open', undefined],
        [2, 'dropped', 5],
        [3, 'flow.open', undefined],
        [4, 'dropped', 12],
      ],
    );
  });
});

describe('review ON-3, OP-14: a refusal in words', () => {
  const GUEST = 'from 10.0.2.100:4000';
  const table: [Refusal, string, string?][] = [
    [
      refusal('default', at('192.0.2.1', 443)),
      `refused: tcp to 192.0.2.1:443 ${GUEST}: nothing opens it; --allow tcp://192.0.2.1:443 or --enable-routing opens it`,
    ],
    [
      refusal('default', at('2001:db8::1', 0), { protocol: 'icmp', source: at('fd00::100', 0) }),
      'refused: icmp to 2001:db8::1 from fd00::100: nothing opens it; --allow icmp://[2001:db8::1] or --enable-routing opens it',
    ],
    [
      refusal('host', at('10.1.2.3', 22)),
      `refused: tcp to 10.1.2.3:22 ${GUEST}: it is the host's; --allow tcp://10.1.2.3:22 or --enable-host opens it`,
    ],
    [
      refusal('reserved', at('169.254.169.254', 80)),
      `refused: tcp to 169.254.169.254:80 ${GUEST}: it is reserved, 169.254.169.254 (metadata); --allow tcp://169.254.169.254:80 opens it`,
    ],
    [
      refusal('reserved', at('2002:7f00:1::1', 80)),
      `refused: tcp to [2002:7f00:1::1]:80 ${GUEST}: it is reserved, 127.0.0.0/8 (local)`,
    ],
    [
      refusal('reserved', at('::ffff:0:808:808', 80)),
      `refused: tcp to [::ffff:0:808:808]:80 ${GUEST}: it is reserved, ::ffff:0:0:0/96 (embedded)`,
    ],
    [
      refusal('default', at('9.9.9.9', 53), { protocol: 'udp' }),
      `refused: udp to 9.9.9.9:53 ${GUEST}: the rule --deny any://9.9.9.0/24 closes it`,
    ],
    [
      refusal('default', at('64:ff9b::909:909', 53), { protocol: 'udp' }),
      `refused: udp to [64:ff9b::909:909]:53 ${GUEST}: the rule --deny any://9.9.9.0/24 closes it`,
    ],
    [
      refusal('unsure', at('192.0.2.1', 443)),
      `refused: tcp to 192.0.2.1:443 ${GUEST}: the host's routes and addresses cannot be read`,
    ],
    [
      refusal('port', at('10.0.2.2', 5432)),
      `refused: tcp to 10.0.2.2:5432 ${GUEST}: nobody listens there; -R 10.0.2.2:5432:127.0.0.1:5432 brings a service of the host there`,
    ],
    [
      refusal('port', at('fd00::2', 123), { protocol: 'udp' }),
      `refused: udp to [fd00::2]:123 ${GUEST}: nobody listens there; -R udp://[fd00::2]:123:127.0.0.1:123 brings a service of the host there`,
    ],
    [refusal('limit', at('192.0.2.1', 443)), `refused: tcp to 192.0.2.1:443 ${GUEST}: a limit is reached`],
    [
      refusal('resolver', at('192.0.2.53', 53), { protocol: 'udp', source: at('', 0) }),
      'the resolver 192.0.2.53:53 does not help: no answer; --dns ADDRESS uses another',
    ],
    [
      refusal('resolver', at('192.0.2.53', 53), { protocol: 'udp', source: at('', 0), error: ECONNREFUSED }),
      'the resolver 192.0.2.53:53 does not help: Connection refused; --dns ADDRESS uses another',
    ],
    [
      refusal('name', at('db.example', 5432)),
      `failed: tcp to db.example:5432 ${GUEST}: the name of a remote forward is not found (ENOTFOUND)`,
      'ENOTFOUND',
    ],
    [
      refusal('target', at('/run/x.sock', 0), { error: ECONNREFUSED }),
      `failed: tcp to /run/x.sock ${GUEST}: the target of a remote forward cannot be reached (Connection refused): is the service up?`,
    ],
    [
      refusal('guest', at('10.0.2.100', 80), { source: at('198.51.100.9', 5), error: ECONNREFUSED }),
      'failed: tcp from 198.51.100.9:5: the guest refuses on 10.0.2.100:80: does the service listen, and not on 127.0.0.1 only?',
    ],
    [
      refusal('guest', at('10.0.2.100', 80), { source: at('198.51.100.9', 5), error: ETIMEDOUT }),
      'failed: tcp from 198.51.100.9:5: the guest does not answer on 10.0.2.100:80 (Connection timed out): has it that address, and is its interface up?',
    ],
    [
      refusal('system', at('192.0.2.1', 443), { error: ENETUNREACH }),
      `failed: tcp to 192.0.2.1:443 ${GUEST}: the host cannot (Network is unreachable)`,
    ],
    [
      refusal('connect', at('192.0.2.1', 443), { error: ECONNREFUSED }),
      `failed: tcp to 192.0.2.1:443 ${GUEST}: Connection refused`,
    ],
    [refusal('left', at('192.0.2.1', 443)), `failed: tcp to 192.0.2.1:443 ${GUEST}: given up`],
  ];
  for (const [index, [what, expected, detail]] of table.entries()) {
    test(`${what.reason} (${index})`, () =>
      assert.equal(text('any://9.9.9.0/24').line(what, detail), expected));
  }

  test('a group', () => {
    const line = text().line(refusal('group', at('255.255.255.255', 67), { protocol: 'udp' }));
    assert.match(
      line,
      /it is no single host's, 255\.255\.255\.255 \(group\); --allow udp:\/\/255\.255\.255\.255:67 opens it$/,
    );
  });

  test('a failed flow: of a local forward the guest is named, of others what the guest asked for', () => {
    const local = flow({ event: 'error', kind: 'local', failure: 'guest', right: at('10.0.2.100', 80) });
    assert.deepEqual(refusalOf(local).destination, at('10.0.2.100', 80));
    assert.deepEqual(refusalOf(flow({ failure: 'connect' })).destination, at('192.0.2.1', 443));
  });
});

describe('review ON-3: refusals in the log', () => {
  function log(level: string): {
    log: RefusalLog;
    said: [string, string, unknown][];
    pass: (ms: number) => void;
  } {
    const said: [string, string, unknown][] = [];
    let now = 0;
    const order = ['debug', 'info', 'warn'];
    const logger = {
      enabled: (asked: string) => order.indexOf(asked) >= order.indexOf(level),
      log: (at: string, message: string, fields?: Record<string, unknown>) => {
        said.push([at, message.slice(0, 24), fields?.['more'] ?? 0]);
      },
    };
    const pass = (ms: number): void => {
      now += ms;
    };
    return { log: new RefusalLog(logger, text(), () => now), said, pass };
  }

  test('one a second of each kind, with how many more', () => {
    const { log: refusals, said, pass } = log('info');
    for (let i = 0; i < 10; i++) refusals.note(refusal('default', at('192.0.2.1', i)));
    refusals.note(refusal('resolver', at('192.0.2.53', 53)));
    pass(1000);
    refusals.note(refusal('default', at('192.0.2.1', 10), { repeated: 100 }));
    refusals.note(refusal('default', at('192.0.2.1', 11)));
    refusals.leftOut('default', 5);
    assert.deepEqual(said, [
      ['info', 'refused: tcp to 192.0.2.', 0],
      ['warn', 'the resolver 192.0.2.53:', 0],
      ['info', 'refused: tcp to 192.0.2.', 109],
      ['info', 'and more were refused or', 6],
    ]);
  });

  test('what somebody out there refuses, and what is for groups, only where one looks for it', () => {
    for (const [level, lines] of [
      ['info', 0],
      ['debug', 3],
    ] as const) {
      const { log: refusals, said } = log(level);
      for (const reason of ['connect', 'group', 'left'] as const)
        refusals.note(refusal(reason, at('192.0.2.1', 1), { error: ECONNREFUSED }));
      assert.equal(said.length, lines);
    }
  });
});
