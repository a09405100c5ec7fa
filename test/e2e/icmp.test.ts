import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { GATEWAY4, GATEWAY6, type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';

const PING = ['ping', '-n', '-i', '0.2', '-W', '3'];

describe('ICMP', () => {
  let guest: Guest;
  before(async () => {
    guest = await startGuest(...OPEN);
  });
  after(() => guest?.[Symbol.asyncDispose]());

  for (const address of [GATEWAY4, GATEWAY6, HOST4, HOST6]) {
    test(`ping ${address}: every request is answered once, with its data`, async () => {
      // A pattern that is not ping's own; a wrong byte in an answer is reported and makes the output differ.
      const out = await guest.namespace.must([...PING, '-c', '5', '-p', 'c0ffee17', '-s', '1000', address]);
      assert.match(out, /5 packets transmitted, 5 received, 0% packet loss/);
      assert.doesNotMatch(out, /DUP|wrong data|BAD/);
      for (let seq = 1; seq <= 5; seq++)
        assert.match(out, new RegExp(`1008 bytes from ${address}: icmp_seq=${seq} `));
    });
  }

  for (const [address, size] of [
    [HOST4, 0],
    [HOST4, 40_000],
    [HOST6, 0],
    [HOST6, 40_000],
    [GATEWAY4, 65_507],
  ] as const) {
    test(`ping ${address} with ${size} bytes is answered`, async () => {
      const out = await guest.namespace.must([...PING, '-c', '2', '-s', String(size), address]);
      assert.match(out, /2 packets transmitted, 2 received/);
    });
  }

  for (const [address, gateway] of [
    [HOST4, GATEWAY4],
    [HOST6, GATEWAY6],
  ] as const) {
    test(`ping -t 1 ${address} shows the gateway`, async () => {
      const { status, stdout } = await guest.namespace.run([...PING, '-c', '1', '-t', '1', address]);
      assert.equal(status, 1, stdout);
      assert.match(stdout, new RegExp(`From ${gateway}.*(Time to live|Hop limit)`, 'i'));
    });
  }

  test('an address that cannot be reached on the host cannot be reached in the guest', async () => {
    for (const address of ['192.0.2.65', '2001:db8:bad::1']) {
      const { status, stdout, stderr } = await guest.namespace.run([...PING, '-c', '1', address]);
      assert.notEqual(status, 0);
      assert.match(stdout + stderr, /unreachable|No route/i, address);
    }
  });
});

describe('beyond a router', () => {
  let router: Running;
  /** Behind the router. */
  let far: Running;
  let guest: Guest;
  const [FAR4, FAR6] = ['198.51.101.9', '2001:db8:9::9'];
  const [ROUTER4, ROUTER6] = ['192.0.2.2', '2001:db8:8::2'];

  before(async () => {
    router = start(['unshare', '--net', 'sh', '-c', 'echo $$; exec cat']);
    const pid = await router.firstLine();
    const inRouter = ['nsenter', '--target', pid, '--net', '--'];
    await must(['ip', '-batch', '-'], {
      input: [
        `link add rt0 type veth peer name rt1 netns ${pid}`,
        'address add 192.0.2.1/30 dev rt0',
        'address add 2001:db8:8::1/64 dev rt0 nodad',
        'link set rt0 up',
        `route add ${FAR4}/32 via ${ROUTER4}`,
        `route add ${FAR6}/128 via ${ROUTER6}`,
        '',
      ].join('\n'),
    });
    await must([...inRouter, 'ip', '-batch', '-'], {
      input: [
        `address add ${ROUTER4}/30 dev rt1`,
        `address add ${ROUTER6}/64 dev rt1 nodad`,
        'link set rt1 up',
        'link set lo up',
        'route add 198.51.100.0/24 via 192.0.2.1',
        'route add 2001:db8:1::/64 via 2001:db8:8::1',
        '',
      ].join('\n'),
    });
    await must([
      ...inRouter,
      'sysctl',
      '-q',
      '-w',
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
    ]);
    far = start([...inRouter, 'unshare', '--net', 'sh', '-c', 'echo $$; exec cat']);
    const farPid = await far.firstLine();
    await must([...inRouter, 'ip', '-batch', '-'], {
      input: [
        `link add far0 type veth peer name far1 netns ${farPid}`,
        'address add 198.51.101.1/24 dev far0',
        'address add 2001:db8:9::1/64 dev far0 nodad',
        'link set far0 up',
        '',
      ].join('\n'),
    });
    await must(['nsenter', '--target', farPid, '--net', '--', 'ip', '-batch', '-'], {
      input: [
        `address add ${FAR4}/24 dev far1`,
        `address add ${FAR6}/64 dev far1 nodad`,
        'link set far1 up',
        'route add default via 198.51.101.1',
        'route add default via 2001:db8:9::1',
        '',
      ].join('\n'),
    });
    guest = await startGuest(...OPEN);
  });
  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    await far?.stop();
    await router?.stop();
    await must(['sh', '-c', 'ip link delete rt0 2>/dev/null || true']);
  });

  for (const [address, router] of [
    [FAR4, ROUTER4],
    [FAR6, ROUTER6],
  ] as const) {
    test(`review OP-13: a ping to ${address} larger than the way is told how much it takes`, async () => {
      const route = (...more: string[]): Promise<string> =>
        must(['ip', 'route', 'change', address, 'via', router, ...more]);
      await route('mtu', '1400');
      try {
        const { stdout } = await guest.namespace.run([...PING, '-c', '1', '-M', 'do', '-s', '1420', address]);
        assert.match(stdout, /(Frag needed|Packet too big).*mtu ?= ?1400/);
        assert.match(
          await guest.namespace.must([...PING, '-c', '1', '-M', 'do', '-s', '1300', address]),
          / 1 received/,
        );
      } finally {
        await route();
      }
    });
  }

  for (const [address, gateway, hop] of [
    [FAR4, GATEWAY4, ROUTER4],
    [FAR6, GATEWAY6, ROUTER6],
  ] as const) {
    test(`ping ${address} keeps the time to live: each step of the way shows itself`, async () => {
      const seen: string[] = [];
      for (const ttl of ['1', '2', '3']) {
        const { stdout } = await guest.namespace.run([...PING, '-c', '1', '-t', ttl, address]);
        seen.push(/(?:From|from) ([0-9a-f.:]+?):? (?:icmp_seq|bytes)/.exec(stdout)?.[1] ?? stdout);
      }
      assert.deepEqual(seen, [gateway, hop, address]);
    });

    for (const how of ['-I', '-U']) {
      test(`traceroute ${how} ${address} shows the gateway, the router, and the end`, async () => {
        const out = await guest.namespace.must(
          ['traceroute', '-n', '-q', '1', '-w', '2', '-m', '5', how, address],
          { limitMs: 30_000 },
        );
        const steps = [...out.matchAll(/^ *\d+ +(\S+)/gm)].map((match) => match[1]);
        assert.deepEqual(steps, [gateway, hop, address], out);
      });
    }
  }
});
