/** Tables of rules on a host and in a guest that have nothing but ports. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { afterEach, describe, mock, test } from 'node:test';
import { addPortSpec, type PortOption } from '../../src/cli/pasta/port-spec.ts';
import type { ForwardSpec, PortRule, PortScope } from '../../src/config.ts';
import { ForwardRefused, type OpenForward } from '../../src/control/engine-client.ts';
import type { OpenSocket } from '../../src/expose/open-socket.ts';
import { RuleRefused } from '../../src/expose/port-rule.ts';
import { PortTable } from '../../src/expose/port-table.ts';
import { hostForwards, spliceForwards } from '../../src/expose/rule-forwarding.ts';
import { RuleWatch } from '../../src/expose/rule-watch.ts';

const scope: PortScope = {
  ...{ ipv4: true, ipv6: true, tcp: true, udp: true },
  ephemeral: { first: 32768, last: 60999 },
};

function rules(...specs: [PortOption, string][]): PortRule[] {
  return specs.reduce<PortRule[]>((all, [option, spec]) => addPortSpec(option, spec, all, scope), []);
}

function listener(proto: 'tcp' | 'udp', port: number): OpenSocket {
  return { proto, family: 4, ip: '0.0.0.0', port, v6only: false, device: 0, uid: 0, inode: port };
}

/** What it is told to open is open, unless it is refused. */
class Host {
  /** `tcp 80` as somebody else has it, or `EACCES 80`. */
  readonly refused = new Map<string, keyof typeof constants.errno>();
  readonly open = new Map<number, ForwardSpec>();
  /** What was asked for, in order. */
  readonly asked: string[] = [];
  guest: readonly OpenSocket[] = [];
  host: readonly OpenSocket[] = [];
  readonly watch: RuleWatch;
  #last = 0;

  constructor() {
    const engine = {
      addForward: (spec: ForwardSpec) => this.#add(spec),
      removeForward: (id: number) => {
        this.asked.push(`- ${this.#text(this.open.get(id) as ForwardSpec)}`);
        return Promise.resolve(this.open.delete(id));
      },
    };
    const source = (look: () => readonly OpenSocket[]) =>
      ({ method: 'netlink', look, close: () => undefined }) as const;
    this.watch = new RuleWatch({
      host: new PortTable({
        ...{ engine, name: 'HOST' },
        forwardsOf: (rule, range) => hostForwards(rule, range, { loopback: 'target', hasIpv6: true }),
      }),
      splice: new PortTable({ engine, name: 'SPLICE', forwardsOf: spliceForwards }),
      scope,
      guestSockets: source(() => this.guest),
      hostSockets: source(() => this.host),
      lost: (error) => assert.fail(String(error)),
    });
  }

  get listening(): string[] {
    return [...this.open.values()].map((spec) => this.#text(spec));
  }

  #text(spec: ForwardSpec): string {
    if (spec.direction === 'remote')
      return `${spec.protocol} inside ${spec.bind.address}:${spec.bind.port} ${JSON.stringify(spec.target)}`;
    const { protocol, listen, span, target, dualStack } = spec;
    assert.ok(listen.kind === 'ip');
    const place = `${dualStack ? '*' : listen.address}:${listen.port}${span ? `+${span.ports}` : ''}`;
    return `${protocol} ${place} ${target.address}:${target.port}`;
  }

  #add(spec: ForwardSpec): Promise<OpenForward> {
    const text = this.#text(spec);
    this.asked.push(`+ ${text}`);
    const why = [...this.refused].find(([place]) => text.startsWith(place))?.[1];
    if (why !== undefined) return Promise.reject(new ForwardRefused(constants.errno[why], why));
    const id = ++this.#last;
    this.open.set(id, spec);
    return Promise.resolve({ id, spec, listen: { kind: 'ip', address: '', port: 0 } });
  }
}

async function refusal(promise: Promise<void>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof RuleRefused, String(error));
    return error.message;
  }
  assert.fail('it was taken');
}

afterEach(() => mock.timers.reset());

describe('pasta §8: rules become listeners', () => {
  test('ranges are one forward each; the guest is reached at its own address, clients keep theirs', async () => {
    const host = new Host();
    await host.watch.start({
      host: rules(['t', '8080-8090:80-90'], ['u', '127.0.0.1/53'], ['t', '0.0.0.0/81:10.0.0.5/80']),
      splice: rules(['T', '5432:5433']),
    });
    assert.deepEqual(host.listening, [
      'tcp *:8080+11 :80',
      'udp 127.0.0.1:53 :53',
      'tcp 0.0.0.0:81 10.0.0.5:80',
      'tcp inside 0.0.0.0:5432 {"kind":"ip","address":"127.0.0.1","port":5433}',
      'tcp inside :::5432 {"kind":"ip","address":"::1","port":5433}',
    ]);
    const [first, , third] = [...host.open.values()];
    assert.ok(first?.direction === 'local' && third?.direction === 'local');
    assert.equal(first.source, 'client');
    assert.equal(first.splice, 'target');
    assert.equal(third.splice, undefined, 'a target of its own is behind the guest');
  });

  const faults: [spec: string, place: string, why: keyof typeof constants.errno, text: string[]][] = [
    ['9999', 'tcp *:9999', 'EADDRINUSE', ['Listen failed for HOST TCP port */9999: Address already in use']],
    [
      '127.0.0.1/80',
      'tcp 127',
      'EACCES',
      ['Listen failed for HOST TCP port 127.0.0.1/80: Permission denied'],
    ],
    [
      '192.0.2.99/80',
      'tcp 192',
      'EADDRNOTAVAIL',
      ['Listen failed for HOST TCP port 192.0.2.99/80: Cannot assign requested address'],
    ],
    [
      '%nosuch/80',
      'tcp *:80',
      'ENODEV',
      [
        'SO_BINDTODEVICE nosuch failed for listening TCP socket on [::]:80: No such device',
        'Listen failed for HOST TCP port *%nosuch/80: No such device',
      ],
    ],
  ];
  for (const [spec, place, why, text] of faults)
    test(`pasta §8.2: -t ${spec} with ${why} is told, and nothing stays open`, async () => {
      const host = new Host();
      host.refused.set(place, why);
      const all = rules(['t', '1234'], ['t', spec]);
      const told = await refusal(host.watch.start({ host: all, splice: [] }));
      assert.deepEqual(told.split('\n'), [...text, "Couldn't listen on requested ports"]);
      assert.deepEqual(host.listening, []);
    });

  test('without descriptors, ports that need not be had are missing, and those that are named a fault', async () => {
    const host = new Host();
    host.refused.set('tcp *:61000', 'EMFILE');
    await host.watch.start({ host: rules(['t', 'all']), splice: [] });
    assert.equal(host.watch.missing, 65535 - 61000 + 1);
    const other = new Host();
    other.refused.set('tcp *:61000', 'EMFILE');
    assert.match(
      await refusal(other.watch.start({ host: rules(['t', '61000']), splice: [] })),
      /^Listen failed for HOST TCP port \*\/61000: Too many open files\n/,
    );
  });

  test('inside, it goes with one family when there is no other', async () => {
    const host = new Host();
    host.refused.set('tcp inside ::', 'EAFNOSUPPORT');
    await host.watch.start({ host: [], splice: rules(['T', '80']) });
    assert.equal(host.listening.length, 1);
    host.refused.set('tcp inside 0', 'EADDRINUSE');
    const told = await refusal(
      host.watch.change([{ kind: 'add', table: 'splice', rules: rules(['T', '81']) }]),
    );
    assert.match(told, /^Listen failed for SPLICE TCP port \*%lo\/81: Address already in use\n/);
    assert.equal(host.listening.length, 1);
  });
});

describe('pasta §10: rules change while others stay', () => {
  async function started(): Promise<Host> {
    const host = new Host();
    await host.watch.start({ host: rules(['t', '80'], ['t', '81'], ['u', '53']), splice: [] });
    host.asked.length = 0;
    return host;
  }
  const change = (kind: 'add' | 'delete', ...specs: [PortOption, string][]) => ({
    ...({ kind, table: 'host' } as const),
    rules: rules(...specs),
  });

  test('added and deleted ones are all that is touched', async () => {
    const host = await started();
    await host.watch.change([change('delete', ['t', '81']), change('add', ['t', '82'])]);
    assert.deepEqual(host.asked, ['- tcp *:81 :81', '+ tcp *:82 :82']);
    await host.watch.change([{ kind: 'clear', table: 'host' }, change('add', ['t', '80'], ['t', '83'])]);
    assert.deepEqual(host.listening, ['tcp *:80 :80', 'tcp *:83 :83']);
    assert.equal(
      host.asked.filter((text) => text.includes('*:80')).length,
      0,
      'port 80 has never been closed',
    );
  });

  test('a port may lead elsewhere from one change to the next', async () => {
    const host = await started();
    await host.watch.change([change('delete', ['t', '81']), change('add', ['t', '81:8181'])]);
    assert.deepEqual(host.asked, ['- tcp *:81 :81', '+ tcp *:81 :8181']);
  });

  test('one that cannot be had leaves everything as it was', async () => {
    const host = await started();
    const before = host.listening.sort();
    host.refused.set('tcp *:90', 'EADDRINUSE');
    const told = await refusal(
      host.watch.change([change('delete', ['t', '81']), change('add', ['t', '82'], ['t', '90'])]),
    );
    assert.match(told, /port \*\/90: Address already in use/);
    assert.deepEqual(host.listening.sort(), before);
    assert.equal(host.watch.rules.host.length, 3);
  });

  test('so does one in the second table, with what was done in the first', async () => {
    const host = await started();
    const before = host.listening.sort();
    host.refused.set('tcp inside', 'EADDRINUSE');
    await refusal(
      host.watch.change([
        change('add', ['t', '82']),
        { kind: 'add', table: 'splice', rules: rules(['T', '99']) },
      ]),
    );
    assert.deepEqual(host.listening.sort(), before);
  });

  test('one that is not there exactly like that is not deleted, one that conflicts not added', async () => {
    const host = await started();
    assert.equal(
      await refusal(host.watch.change([change('delete', ['t', '80:81'])])),
      'No such rule: TCP [*]:80  =>  81 ',
    );
    assert.match(
      await refusal(host.watch.change([change('add', ['t', '80'])])),
      /^Forwarding configuration conflict/,
    );
    assert.deepEqual(host.asked, []);
  });

  test('several at a time are done one after the other', async () => {
    const host = await started();
    const added = Array.from({ length: 20 }, (_, i) =>
      host.watch.change([change('add', ['t', `${9000 + i}`])]),
    );
    await Promise.all(added);
    assert.equal(host.watch.rules.host.length, 23);
    await host.watch.stop();
    assert.deepEqual(host.listening, []);
  });
});

describe('pasta §8.3: auto', () => {
  /** Time for one look, and for what follows from it. */
  async function look(): Promise<void> {
    mock.timers.tick(500);
    for (let i = 0; i < 50; i++) await Promise.resolve();
  }
  const auto = { host: rules(['t', 'auto'], ['u', 'auto']), splice: rules(['T', 'auto'], ['U', 'auto']) };
  const ports = (host: Host): string[] =>
    host.listening.map((text) => text.split(' ').slice(0, 2).join(' ')).sort();

  test('ports come and go with the listeners of the other side; UDP goes with TCP', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const host = new Host();
    host.guest = [listener('tcp', 8080)];
    await host.watch.start(auto);
    assert.deepEqual(ports(host), ['tcp *:8080', 'udp *:8080'], 'at the start');
    host.guest = [listener('udp', 53), listener('tcp', 40000)];
    await look();
    assert.deepEqual(ports(host), ['udp *:53'], 'no ephemeral ports');
    host.guest = [];
    host.host = [listener('tcp', 5432)];
    await look();
    assert.deepEqual(ports(host), [...['tcp inside', 'tcp inside', 'udp inside', 'udp inside']]);
    await host.watch.stop();
    assert.deepEqual(host.listening, []);
  });

  test('ports that lead elsewhere follow where they lead', async () => {
    const host = new Host();
    host.guest = [listener('tcp', 81), listener('tcp', 8080)];
    await host.watch.start({ host: rules(['t', '8080-8090:80-90,auto']), splice: [] });
    assert.deepEqual(host.listening, ['tcp *:8081 :81']);
    await host.watch.stop();
  });

  test('our own listeners are nobody to be followed', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const host = new Host();
    host.guest = [listener('tcp', 8080)];
    await host.watch.start({ ...auto, host: rules(['t', 'auto'], ['u', '7000']) });
    const before = ports(host);
    host.host = [listener('tcp', 8080), listener('udp', 7000)];
    await look();
    assert.deepEqual(ports(host), before);
    await host.watch.stop();
  });

  test('one that cannot be had is tried again, and nobody is told', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const host = new Host();
    host.guest = [listener('tcp', 80), listener('tcp', 81)];
    host.refused.set('tcp *:80', 'EACCES');
    await host.watch.start({ host: rules(['t', 'auto']), splice: [] });
    assert.deepEqual(ports(host), ['tcp *:81']);
    host.refused.clear();
    await look();
    assert.deepEqual(ports(host), ['tcp *:80', 'tcp *:81'].sort());
    const { length } = host.asked;
    await look();
    assert.equal(host.asked.length, length, 'nothing has changed');
    await host.watch.stop();
  });

  test('a rule that is added later follows at once', async () => {
    const host = new Host();
    host.guest = [listener('tcp', 80)];
    await host.watch.start({ host: [], splice: [] });
    await host.watch.change([{ kind: 'add', table: 'host', rules: rules(['t', 'auto']) }]);
    assert.deepEqual(ports(host), ['tcp *:80']);
    await host.watch.change([{ kind: 'clear', table: 'host' }]);
    assert.deepEqual(ports(host), []);
    await host.watch.stop();
  });
});
