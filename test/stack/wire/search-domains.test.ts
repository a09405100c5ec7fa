import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SearchDomains } from '../../../src/stack/wire/search-domains.ts';

const of = (...domains: string[]): SearchDomains => {
  const search = new SearchDomains();
  search.set(domains);
  return search;
};
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

describe('SearchDomains (RFC 1035 §3.1)', () => {
  test('review OP-15: the first as text, all as names, in order, with or without a final dot', () => {
    const search = of('corp.example.', 'lab_1.example');
    assert.equal(text(search.first), 'corp.example');
    assert.equal(text(search.names), '\x04corp\x07example\0\x05lab_1\x07example\0');
  });

  test('what is no name, and what no longer fits, is left out; a new list replaces the old', () => {
    const label = 'x'.repeat(63);
    const search = of(
      '',
      '.',
      'a..b',
      '-a',
      'ä.example',
      `${label}x`,
      `${label}.${label}`,
      `${label}.y`,
      'z',
    );
    assert.equal(text(search.names), `\x3f${label}\x3f${label}\0\x01z\0`);
    assert.ok(search.names.length <= 150);
    search.set([]);
    assert.equal(search.first.length + search.names.length, 0);
  });
});
