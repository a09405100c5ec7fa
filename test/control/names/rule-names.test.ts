import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseRuleList } from '../../../src/cli/rule.ts';
import { NameError, resolveAllow, resolveRules } from '../../../src/control/names/rule-names.ts';

const table: Record<string, string[]> = {
  'two.example': ['192.0.2.1', '2001:db8::1', '192.0.2.1'],
  'none.example': [],
  'rebound.example': ['198.51.100.1', '127.0.0.1'],
  'metadata.example': ['169.254.169.254'],
};

async function lookup(name: string): Promise<string[]> {
  const addresses = table[name];
  if (addresses === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
  return addresses;
}

describe('resolveRules', () => {
  test('a name becomes one rule for each of its addresses, ports kept', async () => {
    const rules = await resolveRules(parseRuleList('tcp://two.example:80-90,udp://192.0.2.9:53'), lookup);
    assert.deepEqual(
      rules.map(({ proto, address, bits, portMin, portMax }) => [proto, address, bits, portMin, portMax]),
      [
        ['tcp', '192.0.2.1', 128, 80, 90],
        ['tcp', '2001:db8::1', 128, 80, 90],
        ['udp', '192.0.2.9', 128, 53, 53],
      ],
    );
  });

  test('a name that does not resolve, or to nothing, is an error that names it', async () => {
    await assert.rejects(
      resolveRules(parseRuleList('missing.example'), lookup),
      /"missing\.example".*ENOTFOUND/,
    );
    await assert.rejects(
      resolveRules(parseRuleList('none.example'), lookup),
      /"none\.example" has no addresses/,
    );
  });

  test('a deny rule may name what stands for a reserved address', async () => {
    assert.equal((await resolveRules(parseRuleList('rebound.example'), lookup)).length, 2);
  });
});

describe('resolveAllow', () => {
  test('a name does not open a reserved range (hazard D-05)', async () => {
    for (const name of ['rebound.example', 'metadata.example']) {
      await assert.rejects(resolveAllow(parseRuleList(name), lookup), (error: Error) => {
        assert.ok(error instanceof NameError);
        assert.match(error.message, /stands for the reserved address (127\.0\.0\.1|169\.254\.169\.254)/);
        return true;
      });
    }
  });

  test('an address does', async () => {
    assert.equal((await resolveAllow(parseRuleList('tcp://127.0.0.1:8080'), lookup)).length, 1);
  });
});
