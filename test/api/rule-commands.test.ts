import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { RuleCommands, type RuleKeeper, serveRules } from '../../src/api/rule-commands.ts';
import { addPortSpec } from '../../src/cli/pasta/port-spec.ts';
import type { PortRule, PortScope } from '../../src/config.ts';
import { RuleRefused } from '../../src/expose/port-rule.ts';
import type { RuleChange } from '../../src/expose/rule-watch.ts';
import { apiRequest } from '../support/api-request.ts';

const scope: PortScope = {
  ...{ ipv4: true, ipv6: true, tcp: true, udp: true },
  ephemeral: { first: 32768, last: 60999 },
};
const [rule] = addPortSpec('t', '[::]/8080:[fd00::5]/80', [], scope) as [PortRule];

class Keeper implements RuleKeeper {
  readonly rules = { host: [rule], splice: [] };
  readonly changes: RuleChange[][] = [];
  refusal = '';
  change(changes: readonly RuleChange[]): Promise<void> {
    this.changes.push([...changes]);
    return this.refusal === '' ? Promise.resolve() : Promise.reject(new RuleRefused(this.refusal));
  }
}

describe('pasta §10: what is said at the control socket', () => {
  const change = (...changes: unknown[]) => ({ execute: 'change_rules', arguments: { changes } });

  test('rules are shown as they are', () => {
    const { return: shown } = JSON.parse(
      new RuleCommands(new Keeper(), scope).run({ execute: 'show_rules' }) as string,
    );
    assert.deepEqual(shown, { version: 1, scope, host: [rule], splice: [] });
  });

  test('what is shown can be asked for', async () => {
    const keeper = new Keeper();
    const asked: RuleChange[] = [
      { kind: 'clear', table: 'splice' },
      { kind: 'add', table: 'host', rules: [rule] },
      { kind: 'delete', table: 'splice', rules: [rule] },
    ];
    assert.equal(
      await new RuleCommands(keeper, scope).run(JSON.parse(JSON.stringify(change(...asked)))),
      '{"return":{}}',
    );
    assert.deepEqual(keeper.changes, [asked]);
  });

  test('a refusal is told in its words', async () => {
    const keeper = new Keeper();
    keeper.refusal = 'one\ntwo';
    assert.deepEqual(JSON.parse(await new RuleCommands(keeper, scope).run(change())), {
      error: { desc: 'one\ntwo' },
    });
  });

  const add = (more: object) => change({ kind: 'add', table: 'host', rules: [{ ...rule, ...more }] });
  const wrong: [what: string, request: unknown][] = [
    ['no request of pesto', null],
    ['no request of pesto', 'show_rules'],
    ['no request of pesto', { execute: 'info' }],
    ['change_rules: bad changes', { execute: 'change_rules', arguments: { changes: {} } }],
    ['change_rules: bad changes', change(1)],
    ['change_rules: bad changes', change(...Array.from({ length: 5000 }, () => 1))],
    ['change_rules: bad table', change({ kind: 'clear', table: 'HOST' })],
    ['change_rules: bad kind', change({ kind: 'drop', table: 'host' })],
    ['change_rules: bad rules', change({ kind: 'add', table: 'host' })],
    ['change_rules: bad rules', change({ kind: 'add', table: 'host', rules: [null] })],
    ['change_rules: bad protocol', add({ protocol: 'sctp' })],
    ['change_rules: bad device', add({ device: 'a/b' })],
    ['change_rules: bad device', add({ device: 'sixteencharacter' })],
    ['change_rules: bad device', add({ device: 1 })],
    ['change_rules: bad range', add({ range: 80 })],
    ['change_rules: bad range', add({ range: { first: 2, last: 1 } })],
    ['change_rules: bad range', add({ range: { first: -1, last: 1 } })],
    ['change_rules: bad range', add({ range: { first: 1, last: 65536 } })],
    ['change_rules: bad targetPort', add({ targetPort: 65536 })],
    ['change_rules: bad targetPort', add({ range: { first: 1, last: 2 }, targetPort: 65535 })],
    ['change_rules: bad address', add({ address: 'localhost' })],
    ['change_rules: bad address', add({ address: 1 })],
    ['change_rules: bad targetAddress', add({ targetAddress: undefined })],
    ['change_rules: bad bestEffort', add({ bestEffort: 0 })],
    ['change_rules: bad auto', add({ auto: null })],
  ];
  for (const [what, request] of wrong)
    test(`refused: ${JSON.stringify(request).slice(0, 150)}`, () => {
      const keeper = new Keeper();
      assert.throws(() => new RuleCommands(keeper, scope).run(request), { message: what });
      assert.deepEqual(keeper.changes, []);
    });

  describe('by a socket', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tslirp-rules-'));
    after(() => rmSync(directory, { recursive: true }));
    const path = join(directory, 'pasta.sock');
    const errors: unknown[] = [];

    test('several clients are served, one that says nothing holds nobody up and is sent away', async () => {
      const keeper = new Keeper();
      await serveRules(path, keeper, scope, (error) => errors.push(error));
      assert.equal(statSync(path).mode & 0o777, 0o600);
      const silent = connect(path);
      const told = text(silent);
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => apiRequest(path, 'change_rules', { changes: [] })),
      );
      assert.deepEqual(
        answers,
        Array.from({ length: 20 }, () => ({ return: {} })),
      );
      assert.match(await told, /^\{"error":\{"desc":"bad request: timed out"\}\}$/);
    });

    test("who speaks the original's language is told that it is not spoken here", async () => {
      const foreign = connect(path);
      foreign.write(Buffer.from('basil:s\0\0\0\0\x02\0\0\0\0'));
      assert.match(await text(foreign), /^\{"error":\{"desc":"bad request: cannot parse JSON"\}\}$/);
      assert.deepEqual(errors, []);
    });
  });
});
