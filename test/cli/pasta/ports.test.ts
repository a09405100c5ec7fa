import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { plainConfig } from '../../../src/cli/pasta/pasta-config.ts';
import { portRules } from '../../../src/cli/pasta/ports.ts';
import { PastaError } from '../../../src/cli/pasta/values.ts';
import type { PortRulesSpec } from '../../../src/config.ts';
import { ruleText } from '../../../src/expose/port-rule.ts';

type Spec = ['-t' | '-u' | '-T' | '-U', string];

function rules(
  specs: Spec[],
  change: (config: ReturnType<typeof plainConfig>) => void = () => undefined,
): PortRulesSpec {
  const config = plainConfig();
  config.ports.specs = specs.map(([option, text]) => ({ option, text }));
  change(config);
  return portRules(config, { first: 32768, last: 65535 }, true);
}

const texts = ({ host, splice }: PortRulesSpec): string[] => [...host, ...splice].map(ruleText);

describe("pasta §8: the tables of a command line's ports", () => {
  test('each that is not given is auto', () => {
    const auto = '1-32767  =>  1-32767  (best effort) (auto-scan)';
    assert.deepEqual(texts(rules([])), [
      `TCP [*]:${auto}`,
      `UDP [*]:${auto}`,
      `TCP [*]%lo:${auto}`,
      `UDP [*]%lo:${auto}`,
    ]);
    const none: Spec[] = [
      ['-u', 'none'],
      ['-T', 'none'],
      ['-U', 'none'],
    ];
    assert.deepEqual(texts(rules([['-t', '80'], ...none])), ['TCP [*]:80  =>  80 ']);
  });

  test('pasta §16: --no-tcp or --no-udp alone is no fault; ports of what is off are', () => {
    const { host, splice } = rules([], ({ network }) => {
      network.tcp = false;
    });
    assert.deepEqual(
      [...host, ...splice].map(({ protocol }) => protocol),
      ['udp', 'udp'],
    );
    assert.throws(
      () =>
        rules([['-u', '53']], ({ network }) => {
          network.udp = false;
        }),
      (error) =>
        error instanceof PastaError &&
        /^Can't add UDP forwarding rule, UDP not enabled\n/.test(error.message),
    );
  });

  test('in the order of the command line, with what is wrong in the words for it', () => {
    assert.deepEqual(
      texts(
        rules([
          ['-t', '81'],
          ['-u', 'none'],
          ['-t', '80'],
          ['-T', 'none'],
          ['-U', 'none'],
        ]),
      ),
      ['TCP [*]:81  =>  81 ', 'TCP [*]:80  =>  80 '],
    );
    assert.throws(() => rules([['-t', 'x']]), new PastaError("Invalid port specifier 'x'"));
    assert.throws(
      () =>
        rules([
          ['-t', '80'],
          ['-t', 'none'],
        ]),
      new PastaError('-t none conflicts with previous options'),
    );
  });

  test('one family, also where the host has no IPv6', () => {
    const none: Spec[] = [
      ['-t', '80'],
      ['-u', 'none'],
      ['-T', 'none'],
      ['-U', 'none'],
    ];
    const only6 = rules(none, ({ network }) => {
      network.ipv4.enabled = false;
    });
    assert.deepEqual(texts(only6), ['TCP [::]:80  =>  80 ']);
    const config = plainConfig();
    config.ports.specs = none.map(([option, text]) => ({ option, text }));
    assert.deepEqual(texts(portRules(config, { first: 32768, last: 65535 }, false)), [
      'TCP [0.0.0.0]:80  =>  80 ',
    ]);
  });

  test('pasta §8.4: where loopback clients are led', () => {
    const loopback = (splice: boolean, loopbackToLoopback: boolean): string | null =>
      rules([], ({ ports }) => Object.assign(ports, { splice, loopbackToLoopback })).loopback;
    assert.deepEqual(
      [loopback(true, false), loopback(true, true), loopback(false, false)],
      ['target', 'same', null],
    );
  });
});
