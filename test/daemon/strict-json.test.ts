import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ProtocolFault } from '../../src/daemon/protocol-fault.ts';
import { parseStrict } from '../../src/daemon/strict-json.ts';

function nested(depth: number): string {
  return `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`;
}

describe('JSON of the control protocol', () => {
  it('M-24: what two readers could read in two ways is a fault', () => {
    const faults: [string | Buffer, RegExp][] = [
      [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), /not UTF-8/],
      ['{"a":1', /not JSON/],
      ['{"a":1}x', /not JSON/],
      ['\ufeff{}', /not JSON/],
      ['', /not JSON/],
      ['[]', /no object/],
      ['7', /no object/],
      ['null', /no object/],
      [nested(17), /nested more than 16/],
      [`{"a":${'['.repeat(16)}${']'.repeat(16)}}`, /nested more than 16/],
      ['{"a":1,"a":2}', /name twice/],
      ['{"a":1,"\\u0061":2}', /name twice/],
      ['{"o":[{"a":1 ,\n"a"\t:1}]}', /name twice/],
      ['{"__proto__":1,"__proto__":1}', /name twice/],
      ['{"a":"\\ud800"}', /half a surrogate/],
      ['{"a":"\\udc00\\ud800"}', /half a surrogate/],
      ['{"\\uDFFF":1}', /half a surrogate/],
    ];
    for (const [text, expected] of faults)
      assert.throws(
        () => parseStrict(Buffer.from(text as string)),
        (error: Error) => error instanceof ProtocolFault && expected.test(error.message),
        String(text),
      );
  });

  it('M-24: what looks like that and is not, is read', () => {
    const fine: [string, object][] = [
      [nested(16), JSON.parse(nested(16)) as object],
      ['{"a":{"a":{"a":1}},"b":{"a":1}}', { a: { a: { a: 1 } }, b: { a: 1 } }],
      ['{"a":"a","b":["a","a"]}', { a: 'a', b: ['a', 'a'] }],
      ['{"a":"\\ud83d\\ude00\\\\ud800"}', { a: '😀\\ud800' }],
      ['{"a":"{{{{{{{{{{{{{{{{{{{{{","b":"\\"a\\":"}', { a: '{{{{{{{{{{{{{{{{{{{{{', b: '"a":' }],
    ];
    for (const [text, value] of fine) assert.deepEqual(parseStrict(Buffer.from(text)), value);
  });

  it('whatever JSON.stringify makes of an object that is not nested too deep is read back', () => {
    const flat = fc.dictionary(
      fc.string({ unit: 'grapheme' }),
      fc.jsonValue({ maxDepth: 8, stringUnit: 'grapheme' }),
    );
    fc.assert(
      fc.property(flat, (object) => {
        const text = JSON.stringify(object);
        assert.equal(JSON.stringify(parseStrict(Buffer.from(text))), JSON.stringify(JSON.parse(text)));
      }),
      { numRuns: 500 },
    );
  });
});
