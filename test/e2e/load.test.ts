import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { descriptors, memory, processorWait } from '../support/stack-size.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

async function withGuest(body: (guest: Guest) => Promise<void>): Promise<void> {
  const guest = await startGuest(...OPEN);
  try {
    await body(guest);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

/** Guest program: `count` connections open at once, an echo on each, then all closed. How many of them did. */
async function openAll(host: string, port: number, count: number): Promise<{ open: number; echoed: number }> {
  const { connect } = await import('node:net');
  const sockets = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<import('node:net').Socket | undefined>((resolve) => {
          const socket = connect({ host, port });
          socket.once('connect', () => resolve(socket));
          socket.once('error', () => resolve(undefined));
        }),
    ),
  );
  const open = sockets.filter((socket) => socket !== undefined);
  const echoes = await Promise.all(
    open.map(
      (socket, index) =>
        new Promise<boolean>((resolve) => {
          const text = `number ${index}`;
          socket.once('data', (part: Buffer) => resolve(part.toString() === text));
          socket.once('error', () => resolve(false));
          socket.write(text);
        }),
    ),
  );
  await Promise.all(open.map((socket) => new Promise((resolve) => socket.once('close', resolve).end())));
  return { open: open.length, echoed: echoes.filter(Boolean).length };
}

describe('many connections', () => {
  test('2000 open at once all succeed; afterwards descriptors and memory are back', async () => {
    const server = await listen(echo);
    let most = 0;
    server.server.on('connection', () => {
      most = Math.max(most, server.sockets.size);
    });
    try {
      await withGuest(async ({ stack, namespace }) => {
        // Once before, for what is allocated once and kept.
        await namespace.evaluate(openAll, [HOST4, server.port, 100]);
        await until(() => server.sockets.size === 0, 'the first ones closed');
        const [fds, mib] = [descriptors(stack.pid), memory(stack.pid)];
        const result = await namespace.evaluate(openAll, [HOST4, server.port, 2000], 60_000);
        assert.deepEqual(result, { open: 2000, echoed: 2000 });
        assert.equal(most, 2000);
        await until(() => server.sockets.size === 0, 'all closed');
        await until(() => descriptors(stack.pid) <= fds + 8, 'descriptors back');
        const grown = memory(stack.pid) - mib;
        // Twice more: memory that is kept is used again.
        for (const host of [HOST6, HOST4])
          await namespace.evaluate(openAll, [host, server.port, 2000], 60_000);
        const again = memory(stack.pid) - mib;
        assert.ok(again < Math.max(grown * 1.5, 48), `grown by ${grown} MiB, then by ${again} MiB`);
      });
    } finally {
      await server.close();
    }
  });

  test('a thousand destinations that never answer do not delay one that does', async (t) => {
    const server = await listen(echo);
    try {
      await withGuest(async ({ stack, namespace }) => {
        const withheld = processorWait(stack.pid);
        const result = await namespace.evaluate(
          async (host4: string, host6: string, port: number) => {
            const { connect } = await import('node:net');
            let early = 0;
            for (let index = 0; index < 1000; index++) {
              const host =
                index % 2 === 0
                  ? `198.18.${index >> 8}.${index & 255}`
                  : `2001:db8:dead::${index.toString(16)}`;
              connect({ host, port: 80 })
                .on('error', () => early++)
                .on('connect', () => early++);
            }
            // The SYNs are out when this timer fires.
            await new Promise((resolve) => setTimeout(resolve, 100));
            const times: number[] = [];
            for (const host of [host4, host6, host4, host6]) {
              const start = performance.now();
              await new Promise<void>((resolve, reject) => {
                const socket = connect({ host, port }, () => socket.write('x'));
                socket.once('data', () => {
                  socket.destroy();
                  resolve();
                });
                socket.on('error', reject);
              });
              times.push(performance.now() - start);
            }
            return { early, times };
          },
          [HOST4, HOST6, server.port],
        );
        assert.equal(result.early, 0, 'an address that never answers did');
        // What the machine withholds from the stack does not count.
        const limit = 250 + withheld();
        t.diagnostic(`connect and echo: ${result.times.map(Math.round)} of ${Math.round(limit)} ms`);
        for (const ms of result.times) assert.ok(ms < limit, `connect and echo took ${result.times}`);
      });
    } finally {
      await server.close();
    }
  });
});

describe('load', () => {
  test('bulk flows both ways at once all move, and a round trip beside them stays short', async (t) => {
    const block = Buffer.alloc(256 * 1024);
    const source = await listen((socket) => {
      const fill = (): void => {
        while (socket.writable && socket.write(block));
      };
      socket.on('drain', fill);
      fill();
    });
    const received: number[] = [];
    const sink = await listen((socket) => {
      const index = received.push(0) - 1;
      socket.on('data', (part: Buffer) => {
        received[index] = (received[index] ?? 0) + part.length;
      });
    });
    const echoServer = await listen(echo);
    try {
      await withGuest(async ({ stack, namespace }) => {
        const withheld = processorWait(stack.pid);
        const result = await namespace.evaluate(
          async (host: string, from: number, to: number, back: number) => {
            const { connect } = await import('node:net');
            const down = [0, 0, 0, 0];
            down.forEach((_, index) => {
              connect({ host, port: from }).on('data', (part: Buffer) => {
                down[index] = (down[index] ?? 0) + part.length;
              });
            });
            const block = Buffer.alloc(256 * 1024);
            for (let index = 0; index < 4; index++) {
              const socket = connect({ host, port: to });
              const fill = (): void => {
                while (socket.writable && socket.write(block));
              };
              socket.on('connect', fill).on('drain', fill);
            }
            const socket = connect({ host, port: back, noDelay: true });
            const times: number[] = [];
            const end = performance.now() + 2000;
            while (performance.now() < end) {
              const start = performance.now();
              await new Promise((resolve) => {
                socket.once('data', resolve);
                socket.write('x');
              });
              times.push(performance.now() - start);
            }
            times.sort((a, b) => a - b);
            return {
              down,
              count: times.length,
              median: times[times.length >> 1] ?? Infinity,
              worst: times.at(-1) ?? Infinity,
            };
          },
          [HOST4, source.port, sink.port, echoServer.port],
        );
        for (const bytes of result.down) assert.ok(bytes > 1_000_000, `from the host: ${result.down}`);
        assert.equal(received.length, 4);
        for (const bytes of received) assert.ok(bytes > 1_000_000, `from the guest: ${received}`);
        const kept = withheld();
        const limit = 1000 + kept;
        const typical = 100 + kept / result.count;
        t.diagnostic(`round trip ${result.median} ms of ${typical}, up to ${result.worst} of ${limit}`);
        // Both ends are busy Node programs on the same processors: their turns are in it.
        assert.ok(result.median < typical, `round trip ${result.median} ms of ${typical}`);
        assert.ok(result.worst < limit, `longest round trip ${result.worst} ms of ${limit}`);
      });
    } finally {
      await source.close();
      await sink.close();
      await echoServer.close();
    }
  });
});
