/**
 * No transfer stands still: MTU × receive buffer of the guest × direction.
 *
 * Progress is looked at from the receiving side at every tick of a timer. Only ticks that come on time count, so that a
 * machine that is busy elsewhere is not taken for a stack that stands still; a stall is too long when no bytes came over a
 * span of such ticks. A transfer that is slow but steady passes.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, type TestContext, test } from 'node:test';
import { type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import type { Running } from '../support/processes.ts';
import { processorWait } from '../support/stack-size.ts';
import { listen } from '../support/tcp-servers.ts';
import { least } from '../support/wait.ts';

const STALL_MS = 300;
const TRANSFER_MS = 600;
const TICK_MS = 10;

interface Progress {
  bytes: number;
  worstMs: number;
}

/** Guest program: reads for a while. */
async function download(host: string, port: number, forMs: number, tickMs: number): Promise<Progress> {
  const { connect } = await import('node:net');
  return await new Promise((resolve, reject) => {
    let bytes = 0;
    let seen = 0;
    let still = 0;
    let worst = 0;
    let last = performance.now();
    const socket = connect({ host, port }, () => {
      last = performance.now();
      setInterval(() => {
        const now = performance.now();
        const passed = now - last;
        last = now;
        if (bytes !== seen) still = 0;
        else still += Math.min(passed, 3 * tickMs);
        seen = bytes;
        worst = Math.max(worst, still);
      }, tickMs);
      setTimeout(() => resolve({ bytes, worstMs: worst }), forMs);
    });
    socket.on('error', reject).on('data', (part: Buffer) => {
      bytes += part.length;
    });
    socket.on('end', () => reject(new Error('the end came')));
  });
}

/** Guest program: writes for a while. */
async function upload(host: string, port: number, forMs: number): Promise<void> {
  const { connect } = await import('node:net');
  const block = Buffer.alloc(256 * 1024);
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host, port });
    const fill = (): void => {
      while (socket.writable && socket.write(block));
    };
    socket.on('connect', fill).on('drain', fill).on('error', reject);
    setTimeout(resolve, forMs);
  });
}

/** The host side of `upload`: what `download` does, as a server. */
function watchProgress(socket: Socket): () => Progress {
  let bytes = 0;
  let seen = 0;
  let still = 0;
  let worst = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    still = bytes === seen ? still + Math.min(now - last, 3 * TICK_MS) : 0;
    last = now;
    seen = bytes;
    worst = Math.max(worst, still);
  }, TICK_MS);
  const stop = (): Progress => {
    clearInterval(timer);
    return { bytes, worstMs: worst };
  };
  socket.on('data', (part: Buffer) => {
    bytes += part.length;
  });
  // What the sender's end does to the connection is not part of the transfer.
  socket.on('end', () => clearInterval(timer)).on('error', () => clearInterval(timer));
  return stop;
}

/** No longer pause than that in one of a few transfers; time for which the stack waited for a processor is no stall. */
async function check(t: TestContext, stack: Running, transfer: () => Promise<Progress>): Promise<void> {
  const longest = await least(STALL_MS, async () => {
    const withheld = processorWait(stack.pid);
    const { bytes, worstMs } = await transfer();
    const wait = withheld();
    t.diagnostic(
      `${(bytes / 1e6).toFixed(1)} MB, longest pause ${Math.round(worstMs)} ms; waited for a processor for ${Math.round(wait)}`,
    );
    assert.ok(bytes > 0, 'nothing came');
    return worstMs - wait;
  });
  assert.ok(longest < STALL_MS, `a pause of ${longest} ms`);
}

for (const mtu of [576, 1280, 1500, 9000, 49192, 65520]) {
  describe(`MTU ${mtu}`, () => {
    let guest: Guest;
    before(async () => {
      const families = mtu < 1280 ? ['--no-ipv6'] : [];
      guest = await startGuest(...OPEN, '--mtu', String(mtu), ...families);
    });
    after(() => guest?.[Symbol.asyncDispose]());

    for (const buffer of [4096, 87380, 131072]) {
      // The families take turns: what is looked for lies above them.
      const host = mtu >= 1280 && buffer === 87380 ? HOST6 : HOST4;

      test(`receive buffer ${buffer}: no stall from the host`, async (t) => {
        await guest.namespace.sysctl(`net.ipv4.tcp_rmem=4096 ${buffer} ${buffer}`);
        const block = Buffer.alloc(256 * 1024);
        const server = await listen((socket) => {
          const fill = (): void => {
            while (socket.writable && socket.write(block));
          };
          socket.on('drain', fill);
          fill();
        });
        try {
          await check(t, guest.stack, () =>
            guest.namespace.evaluate(download, [host, server.port, TRANSFER_MS, TICK_MS]),
          );
        } finally {
          await server.close();
        }
      });

      test(`receive buffer ${buffer}: no stall from the guest`, async (t) => {
        await guest.namespace.sysctl(`net.ipv4.tcp_rmem=4096 ${buffer} ${buffer}`);
        let stop: (() => Progress) | undefined;
        const server = await listen((socket) => {
          stop = watchProgress(socket);
        });
        try {
          await check(t, guest.stack, async () => {
            await guest.namespace.evaluate(upload, [host, server.port, TRANSFER_MS]);
            return stop?.() ?? { bytes: 0, worstMs: 0 };
          });
        } finally {
          await server.close();
        }
      });
    }
  });
}
