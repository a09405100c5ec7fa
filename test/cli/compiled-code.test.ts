import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Script } from 'node:vm';
import { packageRoot } from '../../src/package-root.ts';

const bundle = new URL('dist/bundle/', packageRoot);

describe('compiled code of the build', () => {
  for (const name of [
    'tslirp',
    'slirp4netns',
    'slirpnetstack',
    'pasta',
    'pesto',
    'worker',
    'log',
    'pretty',
  ]) {
    test(`review O-11: ${name}.cache is taken by this Node, and has functions that are compiled when they are called`, () => {
      const source = readFileSync(new URL(`${name}.js`, bundle), 'latin1');
      const cachedData = readFileSync(new URL(`${name}.cache`, bundle));
      const script = new Script(source, { cachedData });
      assert.equal(script.cachedDataRejected, false);
      const neverRan = new Script(source).createCachedData();
      assert.ok(
        cachedData.length > 1.5 * neverRan.length,
        `${cachedData.length} bytes; ${neverRan.length} when nothing has been called`,
      );
    });
  }
});
