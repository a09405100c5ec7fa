import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { type DnsResponder, startDnsResponder } from '../support/dns-responder.ts';
import { DNS4, DNS6, type Guest, HOST4, HOST4_OTHER, HOST6, startGuest } from '../support/namespaces.ts';
import { until } from '../support/wait.ts';

const LONG = Array.from({ length: 200 }, (_, index) => `text ${index} ${'x'.repeat(200)}`);
const NAMES = new Map<string, readonly string[]>([
  ['one.test', ['192.0.2.17', '2001:db8::17']],
  // Some 2 KB: more than plain UDP carries, less than an EDNS answer may have.
  ['medium.test', LONG.slice(0, 9)],
  // Some 40 KB: TCP only.
  ['long.test', LONG],
]);
const OTHER_NAMES = new Map<string, readonly string[]>([['one.test', ['192.0.2.99']]]);
const RESOLV_CONF = '/etc/resolv.conf';

describe('DNS', () => {
  let first: DnsResponder;
  let first6: DnsResponder;
  let other: DnsResponder;
  let guest: Guest;
  const original = readFileSync(RESOLV_CONF, 'utf8');

  before(async () => {
    first = await startDnsResponder(HOST4, NAMES);
    first6 = await startDnsResponder(HOST6, NAMES);
    other = await startDnsResponder(HOST4_OTHER, OTHER_NAMES);
    // No policy flags: the DNS addresses are our own and always answer.
    guest = await startGuest();
  });
  afterEach(() => writeFileSync(RESOLV_CONF, original));
  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    for (const responder of [first, first6, other]) responder?.close();
  });

  function dig(...args: string[]): Promise<string> {
    return guest.namespace.must(['dig', '+time=3', '+tries=2', ...args]);
  }

  for (const server of [DNS4, DNS6]) {
    for (const transport of ['+notcp', '+tcp']) {
      test(`${server} answers for both families, ${transport}`, async () => {
        assert.equal((await dig(`@${server}`, transport, '+short', 'one.test', 'A')).trim(), '192.0.2.17');
        assert.equal(
          (await dig(`@${server}`, transport, '+short', 'one.test', 'AAAA')).trim(),
          '2001:db8::17',
        );
      });
    }

    test(`${server} hands over a large answer whole: by EDNS, and by TCP after a cut one`, async () => {
      const edns = await dig(
        `@${server}`,
        '+notcp',
        '+bufsize=4096',
        '+ignore',
        '+short',
        'medium.test',
        'TXT',
      );
      assert.equal(edns.trim().split('\n').length, 9);
      const before = first.overTcp + first6.overTcp;
      const cut = await dig(`@${server}`, '+bufsize=1232', '+short', 'long.test', 'TXT');
      assert.equal(
        cut
          .replace(/^;;.*\n/gm, '')
          .trim()
          .split('\n').length,
        LONG.length,
      );
      assert.ok(first.overTcp + first6.overTcp > before);
    });

    test(`${server} says so when a name does not exist`, async () => {
      assert.match(await dig(`@${server}`, 'none.test', 'A'), /status: NXDOMAIN/);
    });
  }

  test('two questions on one TCP connection are both answered', async () => {
    const out = await dig(`@${DNS4}`, '+tcp', '+keepopen', '+short', 'one.test', 'A', 'one.test', 'AAAA');
    assert.deepEqual(out.trim().split('\n'), ['192.0.2.17', '2001:db8::17']);
  });

  test('programs that know nothing of DNS find names by way of resolv.conf', async () => {
    const out = await guest.namespace.must(['getent', 'ahosts', 'one.test']);
    assert.match(out, /192\.0\.2\.17/);
    assert.match(out, /2001:db8::17/);
  });

  test('a change of the host’s resolv.conf counts from then on', async () => {
    assert.equal((await dig(`@${DNS4}`, '+short', 'one.test', 'A')).trim(), '192.0.2.17');
    writeFileSync(RESOLV_CONF, `nameserver ${HOST4_OTHER}\n`);
    await until(
      async () => (await dig(`@${DNS4}`, '+short', 'one.test', 'A')).trim() === '192.0.2.99',
      'the other server asked',
      6000,
    );
    writeFileSync(RESOLV_CONF, `nameserver ${HOST6}\n`);
    await until(
      async () => (await dig(`@${DNS6}`, '+short', 'one.test', 'A')).trim() === '192.0.2.17',
      'the server with an IPv6 address asked',
      6000,
    );
  });

  test('a server that does not answer gives way to the next one', async () => {
    // Nothing listens at the first, and nobody ever answers at the second.
    for (const dead of ['127.0.0.9', '203.0.113.53']) {
      writeFileSync(RESOLV_CONF, original);
      await until(
        async () => (await dig(`@${DNS4}`, '+short', 'one.test', 'A')).trim() === '192.0.2.17',
        'the first server asked',
        6000,
      );
      writeFileSync(RESOLV_CONF, `nameserver ${dead}\nnameserver ${HOST4_OTHER}\n`);
      await until(
        async () => {
          const { stdout } = await guest.namespace.run([
            ...['dig', '+time=8', '+tries=1', `@${DNS4}`, '+short', 'one.test', 'A'],
          ]);
          return stdout.trim() === '192.0.2.99';
        },
        `an answer in spite of ${dead}`,
        20_000,
      );
    }
  });
});

describe('DNS as libc asks', () => {
  let other: DnsResponder;
  let guest: Guest;
  const original = readFileSync(RESOLV_CONF, 'utf8');

  before(async () => {
    other = await startDnsResponder(HOST4_OTHER, OTHER_NAMES);
    // Nothing listens at the first, over UDP or TCP.
    writeFileSync(RESOLV_CONF, `nameserver 127.0.0.9\nnameserver ${HOST4_OTHER}\nsearch test\n`);
    guest = await startGuest();
  });
  after(async () => {
    writeFileSync(RESOLV_CONF, original);
    await guest?.[Symbol.asyncDispose]();
    other?.close();
  });
  const dig = (...args: string[]): Promise<string> =>
    guest.namespace.must(['dig', '+time=5', '+tries=1', '+short', `@${DNS4}`, ...args]);

  test('review O-3: over TCP the first resolver refuses, and the second answers', async () => {
    const before = other.overTcp;
    assert.equal((await dig('+tcp', 'one.test', 'A')).trim(), '192.0.2.99');
    assert.ok(other.overTcp > before);
  });

  test('review OP-3: over UDP too, and by the name service of the guest, with the domain of the host', async () => {
    assert.equal((await dig('+notcp', 'one.test', 'A')).trim(), '192.0.2.99');
    assert.match(await guest.namespace.must(['getent', 'ahosts', 'one']), /192\.0\.2\.99/);
  });

  test('review OP-3: use-vc: the host asks by TCP, whatever the guest asks by', async () => {
    const { overTcp, queries } = other;
    writeFileSync(RESOLV_CONF, `nameserver ${HOST4_OTHER}\noptions use-vc\n`);
    await until(
      async () => {
        await dig('+notcp', 'one.test', 'A');
        return other.overTcp > overTcp;
      },
      'a query over TCP',
      6000,
    );
    assert.ok(other.queries > queries);
  });
});

describe('DNS by option', () => {
  let responder: DnsResponder;
  before(async () => {
    responder = await startDnsResponder(HOST4_OTHER, OTHER_NAMES);
  });
  after(() => responder?.close());

  test('--dns is asked instead of the host’s servers', async () => {
    const guest = await startGuest('--dns', HOST4_OTHER);
    try {
      const out = await guest.namespace.must(['dig', `@${DNS4}`, '+short', 'one.test', 'A']);
      assert.equal(out.trim(), '192.0.2.99');
    } finally {
      await guest[Symbol.asyncDispose]();
    }
  });

  test('with --no-dns nothing answers, and nobody is asked', async () => {
    const guest = await startGuest('--no-dns');
    try {
      const queries = responder.queries;
      const { status } = await guest.namespace.run([
        'dig',
        '+time=1',
        '+tries=1',
        `@${DNS4}`,
        'one.test',
        'A',
      ]);
      assert.notEqual(status, 0);
      assert.equal(responder.queries, queries);
    } finally {
      await guest[Symbol.asyncDispose]();
    }
  });
});
