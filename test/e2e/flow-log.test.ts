/** What a user sees of what is refused and fails, and the flow log (review ON-3). */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  directory,
  GATEWAY4,
  type Guest,
  HOST4,
  mode,
  startGuest,
  tslirpCommand,
} from '../support/namespaces.ts';
import { run, start } from '../support/processes.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until, within } from '../support/wait.ts';

type Line = Record<string, unknown>;

/** Guest program: connects to each in turn, says "hello" and waits for the answer: what came of it. */
async function visit(targets: [string, number][]): Promise<string[]> {
  const { connect } = await import('node:net');
  const results: string[] = [];
  for (const [host, port] of targets) {
    results.push(
      await new Promise<string>((resolve) => {
        const socket = connect({ host, port }, () => socket.write('hello'));
        socket.on('data', () => socket.end());
        socket.on('close', () => resolve('closed'));
        socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      }),
    );
  }
  return results;
}

/** A path that whoever runs tslirp may write to. */
function logPath(name: string): string {
  const path = join(directory, `${name}-${mode}.jsonl`);
  rmSync(path, { force: true });
  return path;
}

function parse(text: string): Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

async function withGuest(options: string[], body: (guest: Guest) => Promise<void>): Promise<void> {
  const guest = await startGuest(...options);
  try {
    await body(guest);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

async function closedPort(): Promise<number> {
  const server = await listen(echo);
  await server.close();
  return server.port;
}

describe('the flow log', () => {
  test('has a line for each flow that opens, closes, fails or is refused, with what would open it', async () => {
    const server = await listen(echo);
    const closed = await closedPort();
    const path = logPath('flows');
    try {
      const options = ['--flow-log', path, '--allow', `${HOST4}:${server.port},${HOST4}:${closed}`];
      await withGuest(options, async ({ namespace }) => {
        assert.deepEqual(
          await namespace.evaluate(visit, [
            [
              [HOST4, server.port],
              [HOST4, closed],
              [HOST4, 1],
              [GATEWAY4, 5432],
              ['169.254.169.254', 80],
            ],
          ]),
          ['closed', 'ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED'],
        );
        await until(() => parse(readFileSync(path, 'utf8')).length >= 6, 'the lines');
      });
      const lines = parse(readFileSync(path, 'utf8'));
      assert.deepEqual(
        lines.map((line) => line['seq']),
        lines.map((_, index) => index + 1),
      );
      const of = (port: number): Line[] => lines.filter((line) => line['destination.port'] === port);
      const [open, close] = of(server.port);
      assert.equal(open?.['event.action'], 'flow.open');
      assert.equal(open?.['source.ip'], '10.0.2.100');
      assert.equal(close?.['event.action'], 'flow.close');
      assert.deepEqual([close?.['source.bytes'], close?.['destination.bytes']], [5, 5]);
      assert.equal(open?.['flow.id'], close?.['flow.id']);
      assert.ok(Number(close?.['event.duration']) > 0);
      const why = (port: number): unknown[] => {
        const [line, ...more] = of(port);
        assert.deepEqual(more, []);
        return ['event.action', 'event.reason', 'error.code', 'tslirp.open'].map((name) => line?.[name]);
      };
      assert.deepEqual(why(closed), ['flow.failed', 'connect', 'ECONNREFUSED', undefined]);
      assert.deepEqual(why(1), [
        'flow.denied',
        'host',
        undefined,
        [`--allow tcp://${HOST4}:1`, '--enable-host'],
      ]);
      assert.deepEqual(why(5432), ['flow.denied', 'port', undefined, [`-R ${GATEWAY4}:5432:127.0.0.1:5432`]]);
      assert.deepEqual(why(80), ['flow.denied', 'reserved', undefined, ['--allow tcp://169.254.169.254:80']]);
    } finally {
      await server.close();
    }
  });

  test('goes to a descriptor as well, which the command does not get; who does not read it holds nothing up', async () => {
    const server = await listen(echo);
    try {
      // Nobody reads descriptor 4, which takes 64 KiB.
      const connects = `for i in $(seq 1000); do : </dev/tcp/${HOST4}/${server.port}; done`;
      const options = ['--flow-log', 'fd:4', '--enable-host', '--log-level', 'error'];
      const stack = start(
        tslirpCommand('run', ...options, '--', 'bash', '-c', `${connects}; ls /proc/self/fd; echo done`),
        { stdio: ['ignore', 'pipe', 'pipe', 'ignore', 'pipe'] },
      );
      try {
        await within(stack.end(60_000), 'the end of the command', 60_000);
        assert.match(stack.stdout, /done/);
        assert.doesNotMatch(stack.stdout, /^4$/m);
      } finally {
        if (stack.running) await stack.stop();
      }
    } finally {
      await server.close();
    }
  });

  test('a file that cannot be written is one line and a status', async () => {
    for (const [value, status, text] of [
      ['/nonexistent/x', 2, /^tslirp: option --flow-log: .* is in a directory that does not exist; .*\n$/],
      ['/', 2, /^tslirp: option --flow-log: .*is a directory; accepted: .*fd:N.*\n$/],
      ['fd:99', 2, /^tslirp: option --flow-log: "fd:99" is not open; .*\n$/],
      ['fd:x', 2, /^tslirp: option --flow-log: "fd:x" is not a descriptor number; .*\n$/],
    ] as const) {
      const ended = await run(tslirpCommand('run', '--flow-log', value, '--', 'true'));
      assert.equal(ended.status, status, ended.stderr);
      assert.match(ended.stderr, text);
    }
  });
});

describe('the log', () => {
  test('says what is refused and what would open it, once a second for each reason', async () => {
    const before = performance.now();
    await withGuest(['--log-level', 'info'], async ({ stack, namespace }) => {
      const targets = Array.from({ length: 30 }, (): [string, number] => ['192.0.2.1', 443]);
      await namespace.evaluate(visit, [[...targets, [GATEWAY4, 5432]]]);
      const refused =
        /refused: tcp to 192\.0\.2\.1:443 from 10\.0\.2\.100:\d+: nothing opens it; --allow tcp:\/\/192\.0\.2\.1:443 or --enable-routing opens it/g;
      await until(() => /10\.0\.2\.2:5432 .*nobody listens there; -R /.test(stack.stderr), 'the other line');
      const seconds = Math.ceil((performance.now() - before) / 1000);
      const lines = [...stack.stderr.matchAll(refused)].length;
      assert.ok(lines >= 1 && lines <= seconds, `${lines} lines in ${seconds} s: ${stack.stderr}`);
      await until(() => /and more were refused or failed/.test(stack.stderr), 'the number of the others');
    });
  });

  test('says that the guest refuses what is published, and that a remote forward leads nowhere', async () => {
    const closed = await closedPort();
    const free = await closedPort();
    const options = ['-L', `127.0.0.1:${free}:10.0.2.100:8080`, '-R', `7000:127.0.0.1:${closed}`];
    await withGuest(['--log-level', 'info', ...options], async ({ stack, namespace }) => {
      await visit([['127.0.0.1', free]]);
      await until(
        () =>
          /the guest refuses on 10\.0\.2\.100:8080: does the service listen, and not on 127/.test(
            stack.stderr,
          ),
        'the refusal of the guest',
      );
      assert.deepEqual(await namespace.evaluate(visit, [[[GATEWAY4, 7000]]]), ['ECONNREFUSED']);
      await until(
        () => /target of a remote forward cannot be reached \(Connection refused\)/.test(stack.stderr),
        'the dead target',
      );
    });
  });
});
