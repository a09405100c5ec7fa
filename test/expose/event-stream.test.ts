import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import type { EventSink, GuestEvent } from '../../src/expose/event.ts';
import { EventHub } from '../../src/expose/event-hub.ts';
import { LINE_MAX } from '../../src/expose/event-line.ts';
import { type EventOutput, EventStream } from '../../src/expose/event-stream.ts';
import { schemaFaults } from '../support/event-schema.ts';
import { listener, published } from '../support/exposed.ts';
import { projectPath } from '../support/program-path.ts';

type Told = Record<string, unknown>;

/** Takes what it is given at once, or keeps it until it is read. */
class Reader implements EventOutput {
  readonly lines: string[] = [];
  isStuck = false;
  waiting = 0;

  line(text: string): void {
    this.lines.push(text);
    if (this.isStuck) this.waiting += text.length + 1;
  }

  get told(): Told[] {
    return this.lines.map((line) => JSON.parse(line) as Told);
  }
}

const everyEvent: GuestEvent[] = [
  { type: 'ready', pid: 4711, version: '0.1.0', method: 'netlink', addresses: ['10.0.2.100', 'fd00::100'] },
  { type: 'link.up' },
  { type: 'guest.up' },
  { type: 'listener.added', ...listener() },
  { type: 'forward.added', ...published() },
  { type: 'listener.added', ...listener({ proto: 'udp', family: 6, ip: '::', port: 53, process: null }) },
  {
    type: 'forward.skipped',
    proto: 'tcp',
    guestEnd: { ip: '127.0.0.1', port: 5432 },
    reason: 'loopback-only',
  },
  {
    ...{ type: 'forward.failed', proto: 'tcp', guestEnd: { ip: '::', port: 8080 } },
    ...{ reason: 'EADDRINUSE', errno: 'EADDRINUSE' },
  },
  { type: 'forward.failed', proto: 'tcp', guestEnd: { ip: '0.0.0.0', port: 9000 }, reason: 'limit' },
  { type: 'forward.warning', proto: 'tcp', guestEnd: { ip: '10.0.2.100', port: 80 }, reason: 'asymmetric' },
  { type: 'forward.flap', proto: 'tcp', guestEnd: { ip: '0.0.0.0', port: 80 }, flaps: 3, unstable: true },
  {
    ...{ type: 'forward.removed', proto: 'tcp', cause: 'closed' },
    ...{ guestEnd: { ip: '0.0.0.0', port: 80 }, hostEnd: { ip: '127.0.0.1', port: 1080 } },
    ...{ connections: 1, bytesIn: 1234, bytesOut: 56_789 },
  },
  { type: 'listener.removed', lastedMs: 12_345, flaps: 3, ...listener() },
  { type: 'link.down', reason: 'gone' },
  { type: 'guest.down', reason: 'namespace' },
] as GuestEvent[];

let now: number;
let hub: EventHub;
let sink: EventSink;
let reader: Reader;
let stream: EventStream;

beforeEach(() => {
  now = Date.UTC(2026, 10, 22, 12, 0, 0, 123);
  hub = new EventHub(() => now);
  sink = hub.sink('g0');
  reader = new Reader();
  stream = new EventStream(hub, reader);
});

describe('the event stream', () => {
  test('A-13: every kind of event is what the schema says, and a scripted run what the golden file says', () => {
    for (const event of everyEvent) {
      sink.emit(event);
      now += 250;
    }
    stream.snapshot();
    for (const line of reader.told) assert.deepEqual(schemaFaults(line), [], JSON.stringify(line));
    const golden = readFileSync(projectPath('test/expose/events.golden.jsonl'), 'utf8');
    assert.equal(`${reader.lines.join('\n')}\n`, golden);
  });

  test('A-13: what is not in the schema is refused', () => {
    sink.emit({ type: 'forward.added', ...published() });
    const [line = {}] = reader.told;
    assert.notDeepEqual(schemaFaults({ ...line, extra: 1 }), []);
    assert.notDeepEqual(schemaFaults({ ...line, reason: 'other' }), []);
    assert.notDeepEqual(schemaFaults({ ...line, guestEnd: undefined }), []);
  });

  test('is numbered from 1 without gaps', () => {
    for (let i = 0; i < 100; i++) sink.emit({ type: 'guest.up' });
    stream.snapshot();
    assert.deepEqual(
      reader.told.map(({ seq }) => seq),
      Array.from({ length: 101 }, (_, i) => i + 1),
    );
  });

  test('ends when it is closed', () => {
    stream.close();
    sink.emit({ type: 'guest.up' });
    assert.deepEqual(reader.lines, []);
  });

  test('A-11: who does not read loses events, is told how many, and then what is there', () => {
    reader.isStuck = true;
    for (let i = 0; i < 6000; i++) {
      const port = 1 + (i % 1000);
      const one = listener({ port });
      if (i % 2 === 0) sink.emit({ type: 'listener.added', ...one });
      else sink.emit({ type: 'listener.removed', lastedMs: 1, flaps: 0, ...one });
    }
    const kept = reader.lines.length;
    assert.ok(reader.waiting < 256 * 1024 + 2 * LINE_MAX, `${reader.waiting} bytes wait`);
    reader.isStuck = false;
    reader.waiting = 0;
    stream.taken();
    const after = reader.told.slice(kept);
    assert.equal(after[0]?.['type'], 'dropped');
    assert.equal(after[0]?.['count'], 6000 - kept);
    const listeners = after.slice(1).flatMap((line) => {
      assert.equal(line['type'], 'snapshot');
      return line['listeners'] as unknown[];
    });
    assert.deepEqual(listeners, hub.present()[0]?.[1].listeners);
    assert.deepEqual(
      after.slice(1).map(({ more }) => more),
      after.slice(1).map((_, i) => i < after.length - 2),
    );
    sink.emit({ type: 'guest.up' });
    assert.deepEqual(
      reader.told.map(({ seq }) => seq),
      reader.lines.map((_, i) => i + 1),
    );
  });

  test('tells what is there only when what was before it is taken, once however often it was asked', () => {
    reader.isStuck = true;
    sink.emit({ type: 'guest.up' });
    for (let i = 0; i < 10; i++) stream.snapshot();
    assert.equal(reader.lines.length, 1);
    reader.waiting = 0;
    stream.taken();
    stream.taken();
    assert.deepEqual(
      reader.told.map(({ type }) => type),
      ['guest.up', 'snapshot'],
    );
  });

  test('no line is longer than a pipe takes at once, whatever is in it, and all of them are printable', () => {
    const text = fc.string({ unit: 'binary', minLength: 0, maxLength: 600 });
    const event = fc.record({ process: text, source: text, port: fc.integer({ min: 0, max: 65_535 }) });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        const lines: string[] = [];
        const all = new EventHub(() => now);
        const told = new EventStream(all, { waiting: 0, line: (line) => lines.push(line) });
        const { emit } = all.sink('a'.repeat(128));
        for (const { process, source, port } of events) {
          emit({ type: 'listener.added', ...listener({ process, port }) });
          emit({ type: 'forward.added', ...published({ process, source, hostEnd: { ip: '::', port } }) });
          emit({ type: 'forward.skipped', proto: 'tcp', guestEnd: { ip: '::', port }, reason: process });
        }
        told.snapshot();
        for (const line of lines) {
          assert.ok(Buffer.byteLength(line) < LINE_MAX, `${Buffer.byteLength(line)} bytes`);
          assert.match(line, /^[ -~]*$/);
          assert.deepEqual(schemaFaults(JSON.parse(line)), []);
        }
        const parts = lines.slice(events.length * 3).map((line) => JSON.parse(line) as Told);
        const shown = parts.flatMap((part) => part['forwards'] as unknown[]);
        assert.equal(shown.length, new Set(events.map(({ port }) => port)).size);
      }),
      { numRuns: 25 },
    );
  });

  test('E-6: the name of a process is what it was, and does nothing to a terminal', () => {
    for (const process of [
      'x\ncurl evil|sh #',
      'a,b',
      '"',
      '\u00ff'.repeat(15),
      '\u001b]0;x\u0007',
      '\u202e',
    ])
      sink.emit({ type: 'listener.added', ...listener({ process }) });
    for (const line of reader.lines) assert.match(line, /^[ -~]+$/);
    assert.deepEqual(
      reader.told.map(({ process }) => process),
      ['x\ncurl evil|sh #', 'a,b', '"', '\u00ff'.repeat(15), '\u001b]0;x\u0007', '\u202e'],
    );
  });
});
