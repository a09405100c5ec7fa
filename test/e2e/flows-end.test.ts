/** What is left when flows have ended. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Guest, HOST4, OPEN, startGuest } from '../support/namespaces.ts';
import { descriptors, memory } from '../support/stack-size.ts';
import { listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

async function withGuest(body: (guest: Guest) => Promise<void>): Promise<void> {
  const guest = await startGuest(...OPEN);
  try {
    await body(guest);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

/**
 * Guest program: `count` connections, 200 at a time, that each send `bytes` and get them back, and end. How many did.
 */
async function echoAll(host: string, port: number, count: number, bytes: number): Promise<number> {
  const { connect } = await import('node:net');
  const block = Buffer.alloc(bytes, 7);
  let begun = 0;
  let done = 0;
  const one = (): Promise<boolean> =>
    new Promise((resolve) => {
      let got = 0;
      const socket = connect({ host, port }, () => socket.end(block));
      socket.on('data', (part: Buffer) => {
        got += part.length;
      });
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(got === bytes));
    });
  const worker = async (): Promise<void> => {
    while (begun++ < count) if (await one()) done++;
  };
  await Promise.all(Array.from({ length: 200 }, worker));
  return done;
}

describe('flows that have ended', () => {
  test('review O-7: flows end with their interface, whatever is under way', async () => {
    const block = Buffer.alloc(65_536, 1);
    const server = await listen((socket) => {
      const pour = (): void => {
        while (!socket.destroyed && socket.write(block));
      };
      socket.on('drain', pour);
      pour();
    });
    try {
      await withGuest(async ({ stack, namespace }) => {
        const idle = descriptors(stack.pid);
        const program = `for (let i = 0; i < 4; i++) require('net').connect(${server.port}, '${HOST4}').on('error', () => 0).resume();`;
        const downloads = namespace.start([process.execPath, '-e', program]);
        try {
          await until(() => server.sockets.size === 4, 'four downloads');
          await namespace.ip('link delete tap0');
          await until(() => server.sockets.size === 0, 'the host is told');
          await until(() => descriptors(stack.pid) < idle, 'flows and device are closed');
          assert.ok(stack.running);
        } finally {
          await downloads.stop();
        }
      });
    } finally {
      await server.close();
    }
  });

  test('review O-8: after 10,000 connections with data both ways resident memory is back within 8 MiB', async () => {
    const server = await listen((socket) => {
      const parts: Buffer[] = [];
      socket.on('data', (part: Buffer) => parts.push(part));
      socket.on('end', () => socket.end(Buffer.concat(parts)));
    });
    try {
      await withGuest(async ({ stack, namespace }) => {
        const [count, bytes] = [10_000, 16 * 1024];
        // Some before, for what comes with the first ones and stays: compiled code, and the parts of the program, of its
        // libraries and of the fixed regions that nobody had touched.
        await namespace.evaluate(echoAll, [HOST4, server.port, 1000, bytes], 200_000);
        await until(() => server.sockets.size === 0, 'the first ones closed');
        const before = memory(stack.pid);
        assert.equal(await namespace.evaluate(echoAll, [HOST4, server.port, count, bytes], 200_000), count);
        const after = memory(stack.pid);
        await until(() => memory(stack.pid) < before + 8, `${before} MiB, then ${after}: back`, 90_000);
      });
    } finally {
      await server.close();
    }
  });
});
