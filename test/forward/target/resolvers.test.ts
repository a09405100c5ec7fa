import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Resolvers } from '../../../src/forward/target/resolvers.ts';

test('a server that cannot be read costs none of the others; they are counted round', () => {
  const resolvers = new Resolvers();
  resolvers.set(['10.0.0.1', 'no address', '', 'fe80::1%3', 'fe80::2%eth0']);
  assert.equal(resolvers.count, 3);
  assert.deepEqual(
    [0, 1, 2, 3].map((i) => [resolvers.at(i).address.toString(), resolvers.at(i).scopeId]),
    [
      ['10.0.0.1', 0],
      ['fe80::1', 3],
      ['fe80::2', 0],
      ['10.0.0.1', 0],
    ],
  );
});
