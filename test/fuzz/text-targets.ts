/** What users, API clients and proxies write: command lines, rules, forwards, JSON requests, PROXY headers, resolv.conf. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ApiCommands, type ApiEngine } from '../../src/api/commands.ts';
import { RequestText, TextState } from '../../src/api/request-text.ts';
import { parseForwardRule } from '../../src/cli/forward-rule.ts';
import { parseArguments } from '../../src/cli/options.ts';
import { parseRuleEntry } from '../../src/cli/rule.ts';
import { defaultAddresses } from '../../src/config.ts';
import { MAX_SERVERS, parseResolvConf } from '../../src/control/resolv-conf.ts';
import { toRuleSpec } from '../../src/firewall/rule.ts';
import { PROXY_MAX, ProxyHeader, parseProxyHeader } from '../../src/forward/tcp/proxy-protocol.ts';
import { exposure } from '../support/exposed.ts';
import { type Change, changes, mutate, type Target } from './target.ts';

/** Text made of the pieces that mean something here, joined without mercy. */
const piece = fc.oneof(
  fc.constantFrom(
    'tcp',
    'udp',
    'icmp',
    'any',
    '://',
    ':',
    '/',
    '[',
    ']',
    ',',
    '@',
    '-',
    '=',
    '%',
    ' ',
    '\0',
    '..',
  ),
  fc.constantFrom(
    '127.0.0.1',
    '10.0.2.100',
    '0.0.0.0',
    '255.255.255.255',
    '::1',
    'fd00::2',
    '::ffff:1.2.3.4',
    'fe80::1%eth0',
    'localhost',
    'srv-',
  ),
  fc.constantFrom('0', '1', '53', '65535', '65536', '-1', '00', '1e3', '0x10', '99999999999999999999'),
  fc.string({ maxLength: 6 }),
  fc.string({ unit: 'binary', maxLength: 4 }),
);
const text = fc.array(piece, { maxLength: 8 }).map((parts) => parts.join(''));

/** A refusal is an error that says something, of one line. */
function refuses(action: () => unknown, given: string): void {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof Error, `${JSON.stringify(given)}: not an Error`);
    assert.ok(!(error instanceof TypeError), `${JSON.stringify(given)}: ${error.stack}`);
    assert.ok(error.message.length > 0);
  }
}

export const ruleTarget: Target<string> = {
  name: 'rules',
  arbitrary: text,
  run(input) {
    refuses(() => toRuleSpec(parseRuleEntry(input)), input);
    for (const direction of ['local', 'remote'] as const)
      for (const strict of [true, false])
        refuses(() => parseForwardRule(input, direction, { strict, addresses: defaultAddresses }), input);
    const { servers } = parseResolvConf(`nameserver ${input}\n${input}`);
    assert.ok(servers.length <= MAX_SERVERS);
  },
};

const flag = fc.constantFrom(
  'run',
  'attach',
  '--',
  '-L',
  '-R',
  '--allow',
  '--deny',
  '--mtu',
  '--cidr',
  '--no-ipv6',
  '--dns',
  '--enable-routing',
  '--ready-fd',
  '--log-level',
  '--help',
  '1',
  'true',
);

export const argumentTarget: Target<string[]> = {
  name: 'arguments',
  arbitrary: fc.array(fc.oneof({ weight: 2, arbitrary: flag }, text), { maxLength: 10 }),
  run(input) {
    refuses(() => parseArguments(input, '0.0.0'), JSON.stringify(input));
  },
};

const apiSeeds = [
  '{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_addr": "0.0.0.0", "host_port": 8080, "guest_addr": "10.0.2.100", "guest_port": 80}}',
  '{"execute": "remove_hostfwd", "arguments": {"id": 1}}',
  '{"execute": "list_hostfwd"}',
  '{"execute": "stats"}',
  '{"execute": "close_flow", "arguments": {"id": 5}}',
  '[[[[{"a": "\\u0000\\ud800"}]]]]',
  '  12e3 ',
  '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}, "execute": "info"}',
];

interface ApiCase {
  seed: number;
  changes: Change[];
  value: unknown;
  /** Bytes at a time. */
  step: number;
}

function api(): ApiCommands {
  const engine = {
    addForward: async (spec: object) => ({
      id: 1,
      spec,
      listen: { kind: 'ip', address: '0.0.0.0', port: 1 },
    }),
    removeForward: async () => true,
    listForwards: () => [],
    listFlows: async () => [],
    closeFlow: async () => false,
    snapshot: async () => ({}),
  };
  return new ApiCommands(
    engine as unknown as ApiEngine,
    { guest4: '10.0.2.100', guest6: 'fd00::100' },
    {},
    exposure(),
  );
}

export const apiTarget: Target<ApiCase> = {
  name: 'api',
  arbitrary: fc.record({
    seed: fc.nat(apiSeeds.length - 1),
    changes,
    value: fc.jsonValue({ maxDepth: 5 }),
    step: fc.constantFrom(1, 3, 100_000),
  }),
  async run(input) {
    const commands = api();
    for (const bytes of [
      mutate(Buffer.from(apiSeeds[input.seed] as string), input.changes),
      Buffer.from(JSON.stringify(input.value)),
    ]) {
      const request = new RequestText(64 * 1024);
      for (let at = 0; at < bytes.length; at += input.step) request.push(bytes.subarray(at, at + input.step));
      if (request.state !== TextState.Complete) continue;
      try {
        await commands.run(request.value());
      } catch (error) {
        // JSON.parse's own error is one too.
        assert.ok(
          error instanceof Error && !(error instanceof TypeError) && !(error instanceof RangeError),
          String((error as Error).stack),
        );
      }
    }
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined, 'a prototype was changed');
  },
};

const v2 = Buffer.concat([
  Buffer.from('0d0a0d0a000d0a515549540a2111000c', 'hex'),
  Buffer.from([203, 0, 113, 5, 10, 0, 2, 2, 4, 0, 0, 80]),
]);
const v26 = Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a21210024', 'hex'), Buffer.alloc(36, 0x20)]);
const proxySeeds = [
  Buffer.from('PROXY TCP4 203.0.113.5 10.0.2.2 4000 80\r\nrest'),
  Buffer.from('PROXY TCP6 2001:db8::1 fd00::2 65535 1\r\n'),
  Buffer.from('PROXY UNKNOWN ffff::1 garbage\r\nGET /'),
  Buffer.concat([v2, Buffer.from('rest')]),
  v26,
  Buffer.from('0d0a0d0a000d0a515549540a20000003040000', 'hex'),
];

export const proxyTarget: Target<{ seed: number; changes: Change[] }> = {
  name: 'proxy-header',
  arbitrary: fc.record({ seed: fc.nat(proxySeeds.length - 1), changes }),
  run(input) {
    const bytes = mutate(proxySeeds[input.seed] as Buffer, input.changes);
    const header = new ProxyHeader();
    // A view that ends where the bytes do: reading on throws. Byte by byte the answer may only become final once.
    let final = 0;
    for (let n = 0; n <= bytes.length; n++) {
      const exact = Uint8Array.from(bytes.subarray(0, n));
      const result = parseProxyHeader(new DataView(exact.buffer), 0, n, header);
      assert.ok(result <= n && result >= -2 && n <= PROXY_MAX + bytes.length);
      if (final > 0) assert.equal(result, final, 'a header changed its mind');
      if (result > 0) final = result;
      if (result <= 0) continue;
      assert.ok(
        header.srcPort >= 0 && header.srcPort <= 65_535 && header.dstPort >= 0 && header.dstPort <= 65_535,
      );
    }
  },
};
