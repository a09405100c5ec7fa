import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Flag,
  FlagValueError,
  parseFlags,
  parseGoBool,
  parseGoDuration,
  parseGoInt,
  parseGoUint,
  quote,
} from '../../../src/cli/slirpnetstack/go-flags.ts';

/** What a program with the flags -bool, -text, -int and -list is left with. */
async function parse(...args: string[]): Promise<Record<string, unknown>> {
  const values: Record<string, unknown> = { list: [] as string[] };
  const flag = (name: string, read: (value: string) => unknown): Flag => ({
    boolean: name === 'bool',
    set: (value) => {
      values[name] = read(value);
    },
  });
  await parseFlags(args, {
    bool: flag('bool', parseGoBool),
    text: flag('text', String),
    int: flag('int', parseGoInt),
    list: { set: async (value) => void (values['list'] as string[]).push(value) },
  });
  return values;
}

describe('syntax', () => {
  const table: [string[], Record<string, unknown>][] = [
    [['-text=a', '--int', '5'], { text: 'a', int: 5 }],
    [['--text', '-int'], { text: '-int' }],
    [['--text=', '-int=-1'], { text: '', int: -1 }],
    [['-text', 'a', '-text', 'b'], { text: 'b' }],
    [['-text=a=b'], { text: 'a=b' }],
    [['-bool'], { bool: true }],
    [['--bool=F'], { bool: false }],
    [['-bool', 'false', '-text', 'a'], { bool: true }],
    [['-bool', '--', '-text', 'a'], { bool: true }],
    [['-bool', '-', '-text', 'a'], { bool: true }],
    [['word', '-text', 'a'], {}],
    [['', '-text', 'a'], {}],
    [['-list=a', '-list', 'b', '-list=a'], { list: ['a', 'b', 'a'] }],
  ];
  for (const [args, values] of table) {
    test(args.join(' '), async () => assert.deepEqual(await parse(...args), { list: [], ...values }));
  }
});

describe('errors, word for word', () => {
  const table: [string[], string][] = [
    [['-nope'], 'flag provided but not defined: -nope'],
    [['--nope=1'], 'flag provided but not defined: -nope'],
    [['-constructor'], 'flag provided but not defined: -constructor'],
    [['--text'], 'flag needs an argument: -text'],
    [['-=x'], 'bad flag syntax: -=x'],
    [['---x'], 'bad flag syntax: ---x'],
    [['--=x'], 'bad flag syntax: --=x'],
    [['--bool=maybe'], 'invalid boolean value "maybe" for -bool: parse error'],
    [['--int', 'five'], 'invalid value "five" for flag -int: parse error'],
    [['-int='], 'invalid value "" for flag -int: parse error'],
    [
      ['-int', '9223372036854775808'],
      'invalid value "9223372036854775808" for flag -int: value out of range',
    ],
    [['-int', 'a"ó\n'], 'invalid value "a\\"ó\\n" for flag -int: parse error'],
    [['-bool', '-h'], ''],
    [['--help', '-nope'], ''],
  ];
  for (const [args, message] of table) {
    test(args.join(' '), () => assert.rejects(parse(...args), { name: 'FlagError', message }));
  }

  test('an error that is not of a value passes through', async () => {
    const flags = { x: { set: () => Promise.reject(new TypeError('bug')) } };
    await assert.rejects(parseFlags(['-x', '1'], flags), TypeError);
  });
});

describe('values', () => {
  test('booleans', () => {
    for (const word of ['1', 't', 'T', 'TRUE', 'true', 'True']) assert.equal(parseGoBool(word), true);
    for (const word of ['0', 'f', 'F', 'FALSE', 'false', 'False']) assert.equal(parseGoBool(word), false);
    for (const word of ['', 'yes', 'tRUE', ' true']) assert.throws(() => parseGoBool(word), FlagValueError);
  });

  test('integers with the prefixes of Go literals', () => {
    const table: [string, number][] = [
      ['0', 0],
      ['-0', 0],
      ['+7', 7],
      ['0x10', 16],
      ['0X1F', 31],
      ['0o17', 15],
      ['017', 15],
      ['0b101', 5],
      ['1_000', 1000],
      ['0x_ff', 255],
      ['-12', -12],
      ['-9223372036854775808', -(2 ** 63)],
    ];
    for (const [text, value] of table) assert.equal(parseGoInt(text) + 0, value, text);
    for (const text of ['', '-', '08', '1__0', '_1', '1_', '0x', '0xg', '1.0', '1e3', ' 1', '٣']) {
      assert.throws(() => parseGoInt(text), { message: 'parse error' }, text);
    }
    assert.equal(parseGoUint('18446744073709551615'), 2 ** 64);
    assert.throws(() => parseGoUint('18446744073709551616'), { message: 'value out of range' });
    for (const text of ['-1', '+1']) assert.throws(() => parseGoUint(text), { message: 'parse error' });
  });

  test('durations', () => {
    const table: [string, number][] = [
      ['0', 0],
      ['-0', 0],
      ['5s', 5000],
      ['300ms', 300],
      ['1m30s', 90_000],
      ['1.5h', 5_400_000],
      ['.5s', 500],
      ['5.s', 5000],
      ['2us', 0.002],
      ['2µs', 0.002],
      ['1000000ns', 1],
      ['-1s', -1000],
    ];
    for (const [text, ms] of table) assert.equal(parseGoDuration(text) + 0, ms, text);
    for (const text of ['', '5', '5 s', 's', '.s', '1.2.3s', '5x', '1s5', '-', '3000000h']) {
      assert.throws(() => parseGoDuration(text), { message: 'parse error' }, text);
    }
  });

  test('quoting keeps what can be printed', () => {
    assert.equal(quote('notahostó 日本 \\'), '"notahostó 日本 \\\\"');
    assert.equal(quote('\u0000\u0007\b\f\n\r\t\v"\u007f'), '"\\x00\\a\\b\\f\\n\\r\\t\\v\\"\\x7f"');
    assert.equal(quote('\u00a0\u200b\ufeff\u{e0001}'), '"\\u00a0\\u200b\\ufeff\\U000e0001"');
  });
});
