/** The demo's guest side: uses the network as any program would, and says of each thing whether it was as it should be. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { resolve4, resolve6 } from 'node:dns/promises';
import { get, request } from 'node:http';
import { connect } from 'node:net';
import {
  BLOCKED,
  DEMO_NAME,
  GATEWAY4,
  GATEWAY6,
  HTTP_PORT,
  hostInUrl,
  SERVER4,
  SERVER6,
  SINK_PORT,
  SIZES,
  SOURCE_PORT,
} from './plan.ts';

const STEP_LIMIT_MS = 20_000;
const MEASURE_MS = 2000;
const { DEMO_SUMS: sumsText = '{}' } = process.env;
const sums = JSON.parse(sumsText) as Record<string, string>;
let failures = 0;

/** Runs one check; what it returns is shown. */
async function check(what: string, body: () => Promise<string> | string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing for ${STEP_LIMIT_MS} ms`)), STEP_LIMIT_MS);
    });
    const result = await Promise.race([body(), late]);
    console.log(`  ok    ${what.padEnd(48)} ${result}`);
  } catch (error) {
    failures++;
    console.log(`  FAIL  ${what.padEnd(48)} ${(error as Error).message}`);
  } finally {
    clearTimeout(timer);
  }
}

function need(condition: boolean, why: string): void {
  if (!condition) throw new Error(why);
}

/** Gets a body: its size and SHA-256. */
function fetchSum(url: string): Promise<{ size: number; sum: string }> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false }, (response) => {
      const hash = createHash('sha256');
      let size = 0;
      response.on('error', reject);
      response.on('data', (part: Buffer) => {
        size += part.length;
        hash.update(part);
      });
      response.on('end', () => resolve({ size, sum: hash.digest('hex') }));
    }).on('error', reject);
  });
}

/** Sends a body; the server's SHA-256 of it comes back. */
function sendBody(address: string, body: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const url = `http://${hostInUrl(address)}:${HTTP_PORT}/upload`;
    const upload = request(url, { method: 'PUT', agent: false }, (response) => {
      let text = '';
      response.on('error', reject);
      response.setEncoding('latin1').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve(text));
    });
    upload.on('error', reject).end(body);
  });
}

/** What connect(2) answers: 'connected' or the errno. */
function tryConnect(address: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    socket.on('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

function rate(bytes: number, ms: number): string {
  return `${((bytes * 8) / ms / 1e6).toFixed(2)} Gbit/s`;
}

function measureDown(): Promise<string> {
  return new Promise((resolve, reject) => {
    let bytes = 0;
    const buffer = Buffer.alloc(1024 * 1024);
    const start = performance.now();
    const socket = connect({
      host: SERVER4,
      port: SOURCE_PORT,
      // One buffer for all reads: what is measured is the network, not the allocator.
      onread: {
        buffer,
        callback: (length) => {
          bytes += length;
          return true;
        },
      },
    }).on('error', reject);
    setTimeout(() => {
      const ms = performance.now() - start;
      socket.destroy();
      if (bytes === 0) reject(new Error('no bytes came'));
      else resolve(rate(bytes, ms));
    }, MEASURE_MS);
  });
}

function measureUp(): Promise<string> {
  return new Promise((resolve, reject) => {
    const block = Buffer.alloc(1024 * 1024);
    const start = performance.now();
    const socket = connect({ host: SERVER4, port: SINK_PORT }).on('error', reject);
    const fill = (): void => {
      while (socket.writable && socket.write(block));
    };
    socket.on('connect', fill).on('drain', fill);
    setTimeout(() => {
      const ms = performance.now() - start;
      const bytes = socket.bytesWritten - socket.writableLength;
      socket.destroy();
      if (bytes <= 0) reject(new Error('no bytes went'));
      else resolve(rate(bytes, ms));
    }, MEASURE_MS);
  });
}

function ping(address: string): string {
  const { status, stdout, stderr, error } = spawnSync(
    'ping',
    ['-n', '-c', '3', '-i', '0.2', '-W', '2', address],
    {
      encoding: 'utf8',
      timeout: STEP_LIMIT_MS,
    },
  );
  need(status === 0, error?.message ?? (stderr.trim() || stdout.trim().split('\n').slice(-2).join(' ')));
  const [, counts = ''] = /^(3 packets transmitted.*?),? time/m.exec(stdout) ?? [];
  const [, average = ''] = /= [\d.]+\/([\d.]+)\//.exec(stdout) ?? [];
  return `${counts}, ${average} ms`;
}

console.log('guest: fetches, with sizes and SHA-256 verified');
for (const address of [SERVER4, SERVER6]) {
  for (const size of SIZES) {
    await check(`GET ${size} bytes from ${address}`, async () => {
      const got = await fetchSum(`http://${hostInUrl(address)}:${HTTP_PORT}/${size}`);
      need(got.size === size, `${got.size} bytes came`);
      need(got.sum === sums[size], `sha256 ${got.sum} is not ${sums[size]}`);
      return `sha256 ${got.sum.slice(0, 16)}… equal`;
    });
  }
  await check(`PUT 67108864 bytes to ${address}`, async () => {
    const body = Buffer.alloc(64 * 1024 * 1024, 'tslirp demo ');
    const sum = createHash('sha256').update(body).digest('hex');
    const got = await sendBody(address, body);
    need(got === sum, `sha256 ${got} is not ${sum}`);
    return `sha256 ${got.slice(0, 16)}… equal`;
  });
}
console.log('guest: ping');
for (const address of [GATEWAY4, GATEWAY6, SERVER4, SERVER6])
  await check(`ping ${address}`, () => ping(address));

console.log('guest: DNS');
await check(`${DEMO_NAME}, IPv4`, async () => {
  const found = await resolve4(DEMO_NAME);
  need(found.join() === SERVER4, `found ${found.join()}`);
  return found.join();
});
await check(`${DEMO_NAME}, IPv6`, async () => {
  const found = await resolve6(DEMO_NAME);
  need(found.join() === SERVER6, `found ${found.join()}`);
  return found.join();
});
await check(`GET by name`, async () => {
  const { sum } = await fetchSum(`http://${DEMO_NAME}:${HTTP_PORT}/65536`);
  need(sum === sums['65536'], 'wrong sha256');
  return 'sha256 equal';
});

console.log('guest: what is not allowed');
for (const [address, port] of [
  [BLOCKED, HTTP_PORT],
  [SERVER6, SINK_PORT],
  ['192.0.2.1', 80],
] as const) {
  await check(`connect to ${hostInUrl(address)}:${port}`, async () => {
    const result = await tryConnect(address, port);
    need(result !== 'connected', 'it was let through');
    return `${result}, as it should be`;
  });
}

console.log('guest: throughput, one TCP stream, this small client as the other end');
await check('host to guest', measureDown);
await check('guest to host', measureUp);
process.exitCode = failures === 0 ? 0 : 1;
