import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { BridgeEvents } from '../../src/expose/bridge-events.ts';
import { readBridge } from '../../src/expose/bridge-line.ts';
import { RecordedServices } from '../support/recorded-services.ts';

const GUEST = '192.168.0.1:80';
const HOST = '0.0.0.0:1080';

let services: RecordedServices;
let warnings: string[];
let events: BridgeEvents;

beforeEach(() => {
  services = new RecordedServices();
  warnings = [];
  events = new BridgeEvents(services, 'g0', (message) => warnings.push(message));
});

const push = (text: string): void => events.push(Buffer.from(text));
const ports = (): number[] => [...services.present].map(({ hostPort }) => hostPort);

describe('a line of an events file', () => {
  const web = {
    ...{ withdrawn: false, proto: 'tcp', source: '' },
    ...{ guestEnd: { ip: '192.168.0.1', port: 80 }, hostEnd: { ip: '0.0.0.0', port: 1080 } },
  };
  const table: [string, unknown][] = [
    [`tcp,${GUEST},${HOST}`, web],
    [`tcp,${GUEST},${HOST},192.168.0.1:0`, web],
    [`tcp,${GUEST},${HOST},0.0.0.0:0`, web],
    [`tcp,${GUEST},${HOST},192.168.0.1:0,`, web],
    [`tcp,${GUEST},${HOST},10.9.8.7:0,g0`, { ...web, source: '10.9.8.7' }],
    [` TCP, ${GUEST} , ${HOST}\r`, web],
    [`remove,tcp,${GUEST},${HOST},192.168.0.1:0,`, { ...web, withdrawn: true }],
    [
      'udp,[fd00::100]:53,[::]:0,[fd00::7]:0,',
      {
        ...{ withdrawn: false, proto: 'udp', source: 'fd00::7' },
        ...{ guestEnd: { ip: 'fd00::100', port: 53 }, hostEnd: { ip: '::', port: 0 } },
      },
    ],
    ['', null],
    ['  # tcp', null],
  ];
  for (const [line, expected] of table) {
    test(`E-1: ${JSON.stringify(line)}`, () => assert.deepEqual(readBridge(line, 'g0'), expected));
  }

  const faults: [string, RegExp][] = [
    ['tcp', /has 1 columns; accepted: 3 to 5/],
    [`tcp,${GUEST}`, /has 2 columns/],
    [`tcp,${GUEST},${HOST},192.168.0.1:0,,`, /has 6 columns/],
    [`sctp,${GUEST},${HOST}`, /neither tcp nor udp/],
    [`tcp,192.168.0.1,${HOST}`, /no address and port of the guest/],
    [`tcp,192.168.0.1:0,${HOST}`, /no address and port of the guest/],
    [`tcp,192.168.0.1:65536,${HOST}`, /no address and port of the guest/],
    [`tcp,fd00::100:80,${HOST}`, /no address and port of the guest/],
    [`tcp,${GUEST},example.com:80`, /no address and port of the host/],
    [`tcp,${GUEST},${HOST},127.0.0.1:0`, /a source that nothing can come from/],
    [`tcp,${GUEST},${HOST},224.0.0.1:0`, /a source that nothing can come from/],
    [`tcp,${GUEST},${HOST},,g1`, /another name; this one is g0/],
    [`tcp,${GUEST},${HOST},${' '.repeat(1100)}x`, /longer than 1024/],
  ];
  for (const [line, fault] of faults) {
    test(`E-4: ${line.slice(0, 60)}`, () => assert.match(String(readBridge(line, 'g0')), fault));
  }
});

describe('an events file', () => {
  test('E-2: half a line, and then the rest; bytes one by one', () => {
    push('tcp,192.168.0.1:80,0.0.');
    assert.deepEqual(ports(), []);
    push('0.0:1080,192.168.0.1:0,\n');
    assert.deepEqual(ports(), [1080]);
    for (const byte of `udp,${GUEST},0.0.0.0:53\n`) push(byte);
    assert.deepEqual(ports(), [1080, 53]);
  });

  test('E-2: however it is cut, it is the same', () => {
    const text = [
      '# x',
      `tcp,${GUEST},${HOST}`,
      'nonsense',
      `udp,${GUEST},${HOST}`,
      `remove,tcp,${GUEST},${HOST}`,
    ];
    const bytes = Buffer.from(`${text.join('\n')}\n`);
    fc.assert(
      fc.property(fc.array(fc.nat({ max: bytes.length })), (cuts) => {
        const recorded = new RecordedServices();
        const told: string[] = [];
        const reader = new BridgeEvents(recorded, 'g0', (message) => told.push(message));
        const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        for (let i = 1; i < places.length; i++) reader.push(bytes.subarray(places[i - 1], places[i]));
        assert.deepEqual(
          [...recorded.present].map(({ proto }) => proto),
          ['udp'],
        );
        assert.deepEqual(recorded.causes, ['policy']);
        assert.equal(told.length, 1);
        assert.match(told[0] ?? '', /^line 3 has 1 columns/);
      }),
    );
  });

  test('E-4: one warning with its number for a bad line, and the next one works', () => {
    push(`tcp,192.168.0.1:1,0.0.0.0:1\ntcp,nowhere\n${'x'.repeat(100_000)}`);
    push(`${'x'.repeat(100_000)}\ntcp,192.168.0.1:2,0.0.0.0:2\n`);
    assert.deepEqual(ports(), [1, 2]);
    assert.deepEqual(
      warnings.map((text) => text.slice(0, 16)),
      ['line 2 has 2 col', 'line 3 is longer'],
    );
  });

  test('E-4: a file of nothing else is told of twenty times', () => {
    push('?\n'.repeat(10_000));
    assert.equal(warnings.length, 21);
    assert.match(warnings.at(-1) ?? '', /not told of/);
  });

  test('the same line again changes nothing; withdrawn and named again it is published again', () => {
    const line = `tcp,${GUEST},${HOST}\n`;
    push(line + line);
    events.restart();
    push(line);
    assert.equal(services.present.size, 1);
    push(`remove,${line}remove,${line}`);
    assert.deepEqual([services.present.size, services.causes], [0, ['policy']]);
    push(line);
    assert.equal(services.present.size, 1);
  });

  test('another port for the same service is told of, and the first one stays', () => {
    push(`tcp,${GUEST},${HOST}\ntcp,${GUEST},0.0.0.0:1081\n`);
    assert.deepEqual(ports(), [1080]);
    assert.match(warnings[0] ?? '', /^line 2 names another port for a service that has 1080 already/);
  });

  test('a beginning that was cut off does not stand before the next file', () => {
    push('tcp,192.168.0.1:80,');
    events.restart();
    push(`tcp,${GUEST},${HOST}\n`);
    assert.deepEqual([ports(), warnings], [[1080], []]);
  });
});
