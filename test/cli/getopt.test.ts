import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Getopt, type OptionRule } from '../../src/cli/getopt.ts';

const rules: OptionRule[] = [
  { long: 'configure', short: 'c', hasArgument: false },
  { long: 'mtu', short: 'm', hasArgument: true },
  { long: 'enable-ipv6', short: '6', hasArgument: false },
  { long: 'enable-seccomp', short: '', hasArgument: false },
  { long: 'outbound-addr', short: '', hasArgument: true },
  { long: 'outbound-addr6', short: '', hasArgument: true },
];

/** Options as `name=argument`, then `|` and the operands; or the error. */
function read(...args: string[]): string {
  const getopt = new Getopt('prog', rules, args);
  const words: string[] = [];
  try {
    for (let found = getopt.next(); found !== undefined; found = getopt.next())
      words.push(found.rule.hasArgument ? `${found.rule.long}=${found.argument}` : found.rule.long);
  } catch (error) {
    return [...words, (error as Error).message].join(' ');
  }
  return [...words, '|', ...getopt.operands].join(' ');
}

describe('getopt_long', () => {
  test('takes options and operands in any order', () => {
    assert.equal(read('-c', '1234', '--mtu', '1400', 'tap0'), 'configure mtu=1400 | 1234 tap0');
    assert.equal(read('1234', 'tap0', '-c'), 'configure | 1234 tap0');
  });

  test('ends options at --, and takes a single dash for an operand', () => {
    assert.equal(read('-c', '--', '-m', '--foo'), 'configure | -m --foo');
    assert.equal(read('-', '-c'), 'configure | -');
  });

  test('takes bundled short options and attached arguments', () => {
    assert.equal(read('-c6m1400', 'x'), 'configure enable-ipv6 mtu=1400 | x');
    assert.equal(read('-cm', '1400'), 'configure mtu=1400 |');
    assert.equal(read('-m', '-c'), 'mtu=-c |');
  });

  test('takes both forms of long arguments, also empty ones', () => {
    assert.equal(read('--mtu=1400', '--mtu', '9', '--mtu='), 'mtu=1400 mtu=9 mtu= |');
  });

  test('takes unambiguous beginnings, and an exact name although others begin with it', () => {
    assert.equal(read('--conf', '--enable-s', '--m=3'), 'configure enable-seccomp mtu=3 |');
    assert.equal(read('--outbound-addr=1', '--outbound-addr6=2'), 'outbound-addr=1 outbound-addr6=2 |');
  });

  for (const [args, message] of [
    [['-c', '-x'], "configure prog: invalid option -- 'x'"],
    [['--foo'], "prog: unrecognized option '--foo'"],
    [['--foo=bar'], "prog: unrecognized option '--foo=bar'"],
    [['--en=3'], "prog: option '--en=3' is ambiguous; possibilities: '--enable-ipv6' '--enable-seccomp'"],
    [['-m'], "prog: option requires an argument -- 'm'"],
    [['--mt'], "prog: option '--mtu' requires an argument"],
    [['--conf=3'], "prog: option '--configure' doesn't allow an argument"],
  ] as const) {
    test(`says of ${args.join(' ')} what the C library says`, () => {
      assert.equal(read(...args), message);
    });
  }
});
