import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { parseForwardRule } from '../../src/cli/forward-rule.ts';
import { toForwardSpec } from '../../src/cli/forward-spec.ts';
import { defaultAddresses, type ForwardSpec } from '../../src/config.ts';
import { checkDescriptors } from '../../src/control/descriptor-check.ts';

async function forwards(text: string, direction: 'local' | 'remote'): Promise<ForwardSpec[]> {
  const rules = parseForwardRule(text, direction, { strict: true, addresses: defaultAddresses });
  const nobody = (): never => assert.fail('nothing to resolve');
  return Promise.all(
    rules.map((rule) =>
      toForwardSpec(rule, nobody, { dualStackWildcards: false, source: '', splicesLoopback: true }),
    ),
  );
}

const limit = Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]);

describe('checkDescriptors (R-04)', () => {
  test('more listeners than descriptors are refused before any is opened', async () => {
    const some = await forwards('10000-29999', 'local');
    assert.equal(some.length, 20000);
    const reserve = limit - some.length + 1;
    assert.throws(
      () => checkDescriptors(some, reserve),
      /^Error: 20000 local forwards need a descriptor each.*\(ulimit -n\)$/,
    );
    checkDescriptors(some, reserve - 1);
  });

  test('remote forwards need none', async () => {
    checkDescriptors(await forwards('10000-29999', 'remote'), limit);
  });
});
