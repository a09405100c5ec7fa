import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseRuleEntry, parseRuleList } from '../../src/cli/rule.ts';
import { compilePrefix } from '../../src/firewall/prefix.ts';
import {
  formatRule,
  type ParsedRule,
  RuleError,
  type RuleSpec,
  toRuleSpec,
} from '../../src/firewall/rule.ts';

const lenient = { strict: false };
const strict = { strict: true };

function prefixRule(
  proto: ParsedRule['proto'],
  address: string,
  bits: number,
  portMin = 0,
  portMax = 65535,
): ParsedRule {
  return { proto, host: { kind: 'prefix', address, bits }, portMin, portMax };
}

function nameRule(proto: ParsedRule['proto'], name: string, portMin = 0, portMax = 65535): ParsedRule {
  return { proto, host: { kind: 'name', name }, portMin, portMax };
}

function messageOf(text: string, options: { strict: boolean }): string {
  let message = '';
  assert.throws(
    () => parseRuleList(text, options),
    (error) => {
      assert.ok(error instanceof RuleError, `${text}: ${error}`);
      assert.equal(error.code, 'ERR_RULE');
      message = error.message;
      return true;
    },
    `${JSON.stringify(text)} was accepted`,
  );
  return message;
}

describe('the grammar that both readings share', () => {
  const table: [string, ParsedRule][] = [
    ['192.168.1.100', prefixRule('tcp', '192.168.1.100', 128)],
    ['tcp://192.168.1.100', prefixRule('tcp', '192.168.1.100', 128)],
    ['udp://192.168.1.100:100-200', prefixRule('udp', '192.168.1.100', 128, 100, 200)],
    ['192.168.1.100:80', prefixRule('tcp', '192.168.1.100', 128, 80, 80)],
    ['192.168.1.100:80-80', prefixRule('tcp', '192.168.1.100', 128, 80, 80)],
    ['192.168.1.100:0', prefixRule('tcp', '192.168.1.100', 128)],
    ['192.168.1.100:0-0', prefixRule('tcp', '192.168.1.100', 128)],
    ['192.168.1.100:0-5', prefixRule('tcp', '192.168.1.100', 128, 0, 5)],
    ['192.168.1.100:65535', prefixRule('tcp', '192.168.1.100', 128, 65535, 65535)],
    ['10.0.0.0/8:80', prefixRule('tcp', '10.0.0.0', 104, 80, 80)],
    ['0.0.0.0/0', prefixRule('tcp', '0.0.0.0', 96)],
    ['tcp://[3ffe::100]', prefixRule('tcp', '3ffe::100', 128)],
    ['tcp://[3ffe::100]:80-81', prefixRule('tcp', '3ffe::100', 128, 80, 81)],
    ['udp://[fd00::]/64:53', prefixRule('udp', 'fd00::', 64, 53, 53)],
    ['udp://[fd00::/64]:53', prefixRule('udp', 'fd00::', 64, 53, 53)],
    ['[::]/0', prefixRule('tcp', '::', 0)],
    ['localhost', nameRule('tcp', 'localhost')],
    ['udp://dns.example.org:53', nameRule('udp', 'dns.example.org', 53, 53)],
    ['_srv.example.org.', nameRule('tcp', '_srv.example.org.')],
  ];
  for (const [text, rule] of table) {
    test(text, () => {
      assert.deepEqual(parseRuleEntry(text, lenient), rule);
      assert.deepEqual(parseRuleEntry(text, strict), rule);
    });
  }

  test('a comma separates entries', () => {
    const text = 'tcp://192.168.1.100,udp://192.168.1.100,tcp://[3ffe::100]:1-2,udp://name';
    const rules = [
      prefixRule('tcp', '192.168.1.100', 128),
      prefixRule('udp', '192.168.1.100', 128),
      prefixRule('tcp', '3ffe::100', 128, 1, 2),
      nameRule('udp', 'name'),
    ];
    assert.deepEqual(parseRuleList(text, lenient), rules);
    assert.deepEqual(parseRuleList(text, strict), rules);
  });
});

describe('lenient reading (slirpnetstack)', () => {
  const errors: [string, string][] = [
    ['localhost:a', 'strconv.ParseUint: parsing "a": invalid syntax'],
    ['localhost:0-b', 'strconv.ParseUint: parsing "b": invalid syntax'],
    ['localhost:a-b', 'strconv.ParseUint: parsing "a": invalid syntax'],
    ['localhost:70000', 'strconv.ParseUint: parsing "70000": value out of range'],
    ['localhost:0-65536', 'strconv.ParseUint: parsing "65536": value out of range'],
    [
      'localhost:99999999999999999999',
      'strconv.ParseUint: parsing "99999999999999999999": value out of range',
    ],
    ['localhost:+5', 'strconv.ParseUint: parsing "+5": invalid syntax'],
    ['localhost:-1', 'strconv.ParseUint: parsing "": invalid syntax'],
    ['localhost:53-', 'strconv.ParseUint: parsing "": invalid syntax'],
    ['localhost:', 'strconv.ParseUint: parsing "": invalid syntax'],
    ['localhost:80 ', 'strconv.ParseUint: parsing "80 ": invalid syntax'],
    ['localhost:2-1', 'min port must be smaller equal than max'],
    ['1.2.3.4:5:6', 'error parsing ipportrange'],
    ['fd00::1', 'error parsing ipportrange'],
    ['[fd00::1', 'error parsing ipportrange'],
    ['fd00]', 'error parsing ipportrange'],
    ['notahostó', 'lookup notahostó: no such host'],
    ['', 'lookup : no such host'],
    ['10.0.0.0/8,', 'lookup : no such host'],
    ['10.0.0.0/33', 'lookup 10.0.0.0/33: no such host'],
    ['[fd00::]/129', 'lookup fd00::/129: no such host'],
    ['[::ffff:0.0.0.0]/90', 'lookup ::ffff:0.0.0.0/90: no such host'],
    ['name/24', 'lookup name/24: no such host'],
    // Never left to a resolver, which would read them as addresses.
    ['1.2.3', 'lookup 1.2.3: no such host'],
    ['010.0.0.1', 'lookup 010.0.0.1: no such host'],
    ['0x7f000001', 'lookup 0x7f000001: no such host'],
    ['2130706433', 'lookup 2130706433: no such host'],
    ['[fe80::1%eth0]', 'lookup fe80::1%eth0: no such host'],
    // Ports first.
    ['notahostó:a', 'strconv.ParseUint: parsing "a": invalid syntax'],
  ];
  for (const [text, message] of errors) {
    test(`${JSON.stringify(text)} fails`, () => assert.equal(messageOf(text, lenient), message));
  }

  test('an unknown protocol word is accepted and means none', () => {
    for (const word of ['any', 'icmp', 'TCP', 'sctp', '', ' tcp'])
      assert.deepEqual(
        parseRuleEntry(`${word}://1.2.3.4:80`, lenient),
        prefixRule('none', '1.2.3.4', 128, 80, 80),
      );
  });

  test('host bits are masked, mapped literals are IPv4, brackets may surround anything', () => {
    assert.deepEqual(parseRuleEntry('10.1.2.3/8', lenient), prefixRule('tcp', '10.0.0.0', 104));
    assert.deepEqual(parseRuleEntry('[fd00::1]/64', lenient), prefixRule('tcp', 'fd00::', 64));
    assert.deepEqual(
      parseRuleEntry('[::ffff:10.1.2.3]:80', lenient),
      prefixRule('tcp', '10.1.2.3', 128, 80, 80),
    );
    assert.deepEqual(parseRuleEntry('[::ffff:10.1.2.3]/104', lenient), prefixRule('tcp', '10.0.0.0', 104));
    assert.deepEqual(parseRuleEntry('[10.1.2.3]', lenient), prefixRule('tcp', '10.1.2.3', 128));
    assert.deepEqual(parseRuleEntry('1.2.3.4:007', lenient), prefixRule('tcp', '1.2.3.4', 128, 7, 7));
  });

  test('SRV labels are left to the resolver, inner brackets kept', () => {
    assert.deepEqual(
      parseRuleEntry('[tcp.echo.server@srv-[::1]:53]:0', lenient),
      nameRule('tcp', 'tcp.echo.server@srv-[::1]:53'),
    );
  });
});

describe('strict reading (A-07)', () => {
  test('any and icmp are protocols; icmp has no ports', () => {
    assert.deepEqual(parseRuleEntry('any://1.2.3.4:80', strict), prefixRule('any', '1.2.3.4', 128, 80, 80));
    assert.deepEqual(parseRuleEntry('icmp://1.2.3.4', strict), prefixRule('icmp', '1.2.3.4', 128));
    assert.deepEqual(parseRuleEntry('icmp://1.2.3.4:80', strict), prefixRule('icmp', '1.2.3.4', 128));
  });

  test('strict is the default', () => {
    assert.throws(() => parseRuleEntry('sctp://1.2.3.4'), RuleError);
    assert.throws(() => parseRuleList('1.2.3.4,'), RuleError);
  });

  /** Text, and the token that the message has to name. */
  const refused: [string, string][] = [
    ['', '""'],
    ['1.2.3.4,', '""'],
    [',1.2.3.4', '""'],
    ['tcp://', '"tcp://"'],
    ['://1.2.3.4', '"://1.2.3.4"'],
    ['sctp://1.2.3.4', '"sctp"'],
    ['TCP://1.2.3.4', '"TCP"'],
    ['1.2.3.4:53-1', '"53-1"'],
    ['1.2.3.4:0-65536', '"0-65536"'],
    ['1.2.3.4:-1', '"-1"'],
    ['1.2.3.4:', '""'],
    ['1.2.3.4:53-', '"53-"'],
    ['1.2.3.4:080', '"080"'],
    ['1.2.3.4:1-2-3', '"1-2-3"'],
    ['1.2.3.4:http', '"http"'],
    [':80', '""'],
    ['010.0.0.1', '"010.0.0.1"'],
    ['1.2.3', '"1.2.3"'],
    ['0x7f000001', '"0x7f000001"'],
    ['2130706433', '"2130706433"'],
    ['1.2.3.256', '"1.2.3.256"'],
    ['[fe80::1%eth0]', '"fe80::1%eth0"'],
    ['[::ffff:10.0.0.0]/104', '"::ffff:10.0.0.0/104"'],
    ['[::ffff:10.0.0.1]', '"::ffff:10.0.0.1"'],
    ['10.0.0.1/0', '"10.0.0.1/0"'],
    ['10.0.0.1/8', '"10.0.0.1/8"'],
    ['[fd00::1]/64', '"fd00::1/64"'],
    ['10.0.0.0/33', '"33"'],
    ['10.0.0.0/08', '"08"'],
    ['10.0.0.0/', '""'],
    ['10.0.0.0/-1', '"-1"'],
    ['fd00::1', '"fd00::1"'],
    ['[fd00::1]x', '"[fd00::1]x"'],
    ['[10.0.0.1]', '"[10.0.0.1]"'],
    ['[name]', '"[name]"'],
    ['[[::1]]', '"[[::1]]"'],
    ['[::1', '"[::1"'],
    ['1.2.3.4 ', '"1.2.3.4 "'],
    [' 1.2.3.4', '" 1.2.3.4"'],
    ['1.2.3.4:80 ', '"1.2.3.4:80 "'],
    ['a_b..c', '"a_b..c"'],
    ['-a.example', '"-a.example"'],
    ['name@srv-8600', '"name@srv-8600"'],
    ['notahostó', '"notahostó"'],
    ['name/24', '"name/24"'],
    ['1.2.3.4\n', '"1.2.3.4\\n"'],
  ];
  for (const [text, token] of refused) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      const message = messageOf(text, strict);
      assert.ok(message.includes(token), message);
      assert.ok(message.includes('accepted: '), message);
      assert.ok(!message.includes('\n'), message);
    });
  }
});

describe('rules as data', () => {
  const table: [string, string][] = [
    ['10.0.0.0/8:80', 'tcp://10.0.0.0/8:80'],
    ['udp://1.2.3.4:1-2', 'udp://1.2.3.4:1-2'],
    ['any://[fd00::]/64:53', 'any://[fd00::/64]:53'],
    ['icmp://[::1]', 'icmp://[::1]'],
    ['0.0.0.0/0', 'tcp://0.0.0.0/0'],
  ];
  for (const [text, formatted] of table) {
    test(`formatRule writes ${formatted}, which reads back the same`, () => {
      const rule = toRuleSpec(parseRuleEntry(text));
      assert.equal(formatRule(rule), formatted);
      assert.deepEqual(toRuleSpec(parseRuleEntry(formatted)), rule);
      assert.deepEqual(structuredClone(rule), rule);
    });
  }

  test('toRuleSpec puts the resolved address in place of a name', () => {
    const rule = parseRuleEntry('udp://dns.example.org:53');
    const v4: RuleSpec = { proto: 'udp', address: '192.0.2.53', bits: 128, portMin: 53, portMax: 53 };
    assert.deepEqual(toRuleSpec(rule, '192.0.2.53'), v4);
    assert.deepEqual(toRuleSpec(rule, '::ffff:192.0.2.53'), v4);
    assert.deepEqual(toRuleSpec(rule, '2001:DB8:0::53'), { ...v4, address: '2001:db8::53' });
    assert.throws(() => toRuleSpec(rule), RuleError);
    assert.throws(() => toRuleSpec(rule, 'fe80::1%eth0'), RuleError);
  });

  test('compilePrefix refuses lengths outside the family and clears host bits', () => {
    assert.throws(() => compilePrefix({ address: '10.0.0.0', bits: 8 }), RangeError);
    assert.throws(() => compilePrefix({ address: '10.0.0.0', bits: 129 }), RangeError);
    assert.throws(() => compilePrefix({ address: 'fd00::', bits: -1 }), RangeError);
    assert.throws(() => compilePrefix({ address: 'fd00::', bits: 1.5 }), RangeError);
    assert.equal(compilePrefix({ address: '10.1.2.3', bits: 104 }).address.toString(), '10.0.0.0');
    assert.equal(compilePrefix({ address: 'fd00::1:2:3:4', bits: 0 }).address.toString(), '::');
  });
});
