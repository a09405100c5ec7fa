import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { RequestText, TextState } from '../../src/api/request-text.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is held, JavaScript's and other memory. */
function heapBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const LIMIT = 4096;

function read(...parts: (string | Buffer)[]): RequestText {
  const text = new RequestText(LIMIT);
  for (const part of parts) text.push(Buffer.from(part));
  return text;
}

const stateOf = (...parts: (string | Buffer)[]): TextState => read(...parts).state;

describe('the text of an API request (X-01, X-02)', () => {
  test('is complete with its last byte, however it is cut, and what follows does not count', () => {
    const value = { execute: 'add', text: 'a "quoted\\" } ]', list: [1, { x: '' }], naïve: '€' };
    const bytes = Buffer.from(JSON.stringify(value));
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        const text = new RequestText(LIMIT);
        const ends = [...new Set([...cuts, bytes.length])].sort((a, b) => a - b);
        let from = 0;
        for (const end of ends) {
          text.push(bytes.subarray(from, end));
          assert.equal(text.state === TextState.Complete, end === bytes.length);
          from = end;
        }
        assert.deepEqual(text.value(), value);
      }),
    );
    assert.deepEqual(read('{"a":1}{"b":2}').value(), { a: 1 });
    assert.deepEqual(read('{"a":1}\0\n').value(), { a: 1 });
  });

  test('any JSON value comes out as it went in', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => {
        const json = JSON.stringify(value);
        fc.pre(Buffer.byteLength(json) < LIMIT);
        const parsed = read(`\n ${json}\n`);
        assert.equal(parsed.state, TextState.Complete);
        assert.deepEqual(parsed.value(), JSON.parse(json));
      }),
    );
  });

  for (const [name, parts, state] of [
    ['nothing', [], TextState.Empty],
    ['white space', [' \r\n\t'], TextState.Empty],
    ['half an object', ['{"a":'], TextState.Partial],
    ['a brace inside quotes', ['{"}"'], TextState.Partial],
    ['an escaped quote', ['"\\"'], TextState.Partial],
    ['a number, of which more may come', ['12'], TextState.Partial],
    ['a number and a line end', ['12\n'], TextState.Complete],
    ['a string', ['"x"'], TextState.Complete],
    ['NUL bytes', ['\0\0'], TextState.Invalid],
    ['a word that is none', ['xyz'], TextState.Invalid],
    ['a word that begins well', ['fal'], TextState.Partial],
    ['a word that goes on badly', ['foo'], TextState.Invalid],
    ['a word', ['nu', 'll'], TextState.Complete],
    ['a number with a letter', ['1x'], TextState.Invalid],
    ['half a byte order mark', [Buffer.from([0xef, 0x7b])], TextState.Invalid],
    ['a whole one', ['\ufeff{}'], TextState.Complete],
    ['64 levels', ['['.repeat(64)], TextState.Partial],
    ['65 levels', ['['.repeat(65)], TextState.Invalid],
    ['one byte less than the limit', [`{}${' '.repeat(LIMIT - 3)}`], TextState.Complete],
    ['the limit', [`{}${' '.repeat(LIMIT - 2)}`], TextState.TooLarge],
    ['NUL bytes up to the limit', ['\0'.repeat(100), '\0'.repeat(LIMIT)], TextState.TooLarge],
  ] as const) {
    test(`${name}: state ${state}`, () => {
      assert.equal(stateOf(...parts), state);
    });
  }

  for (const text of ['{"a":1,"a":2}', '{"a":1,}', '{a:1}', "{'a':1}", '[1,]', '{"a":0x10}', 'nul', '01']) {
    test(`${text} is no value`, () => {
      assert.throws(() => read(`${text} `).value(), SyntaxError);
    });
  }

  test('X-02: byte by byte it takes no more memory than in one piece', () => {
    const text = new RequestText(1024 * 1024);
    const before = heapBytes();
    text.push(Buffer.from('{"a":"'));
    for (let i = 0; i < 1_000_000; i++) text.push(Buffer.from([0x61]));
    assert.ok(heapBytes() - before < 4 * 1024 * 1024);
    text.push(Buffer.from('"}'));
    assert.deepEqual(text.value(), { a: 'a'.repeat(1_000_000) });
  });

  test('neither is text that is not UTF-8', () => {
    assert.throws(() => read(Buffer.from([0x22, 0xff, 0x22])).value(), SyntaxError);
  });
});
