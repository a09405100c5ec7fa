import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { digest, echo, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { least, until } from '../support/wait.ts';

const FAMILIES = [
  ['IPv4', HOST4],
  ['IPv6', HOST6],
] as const;
/** A SYN that is lost is sent again after a second. */
const AT_ONCE_MS = 1000;
/** Around the sizes of segments, windows and super-segments. */
const SIZES = [
  0,
  1,
  2,
  535,
  536,
  1459,
  1460,
  1461,
  2920,
  16383,
  65535,
  65536,
  65537,
  262_144,
  1_048_577,
  64 * 1024 * 1024,
];

/** Guest program: for each size, sends as many sample bytes to a `digest` server, one connection after the other. */
async function sendEach(host: string, port: number, sizes: number[]): Promise<string[]> {
  const { connect } = await import('node:net');
  const { createHash } = await import('node:crypto');
  const answers: string[] = [];
  for (const size of sizes) {
    const shake = createHash('shake256', { outputLength: size });
    const body = size === 0 ? Buffer.alloc(0) : shake.update('tslirp').digest();
    answers.push(
      await new Promise((resolve, reject) => {
        let text = '';
        const socket = connect({ host, port, allowHalfOpen: true }, () => socket.end(body));
        socket.on('data', (part: Buffer) => {
          text += part.toString('latin1');
        });
        socket.on('end', () => resolve(text)).on('error', reject);
      }),
    );
  }
  return answers;
}

/** Guest program: reads `count` connections to their end; number and SHA-256 of the bytes of each. */
async function receiveEach(
  host: string,
  port: number,
  count: number,
): Promise<{ size: number; sum: string }[]> {
  const { connect } = await import('node:net');
  const { createHash } = await import('node:crypto');
  const results: { size: number; sum: string }[] = [];
  for (let round = 0; round < count; round++) {
    results.push(
      await new Promise((resolve, reject) => {
        const hash = createHash('sha256');
        let size = 0;
        connect({ host, port })
          .on('data', (part: Buffer) => {
            size += part.length;
            hash.update(part);
          })
          .on('end', () => resolve({ size, sum: hash.digest('hex') }))
          .on('error', reject);
      }),
    );
  }
  return results;
}

/** Guest program: the errno of connect(2), or 'connected', and how long it took. */
async function connectResult(
  host: string,
  port: number,
  limitMs: number,
): Promise<{ code: string; ms: number }> {
  const { connect } = await import('node:net');
  const start = performance.now();
  return await new Promise((resolve) => {
    const end = (code: string): void => resolve({ code, ms: performance.now() - start });
    connect({ host, port })
      .on('connect', () => end('connected'))
      .on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
    setTimeout(() => end('nothing'), limitMs);
  });
}

/** A connect fails in one of these ways before its SYN would be sent a second time. */
async function endsAtOnce(guest: Guest, host: string, port: number, codes: readonly string[]): Promise<void> {
  const soonest = await least(AT_ONCE_MS, async () => {
    const { code, ms } = await guest.namespace.evaluate(connectResult, [host, port, 5000]);
    assert.ok(codes.includes(code), `${host}: ${code} after ${ms} ms`);
    return ms;
  });
  assert.ok(soonest < AT_ONCE_MS, `${host}: after ${soonest} ms`);
}

const bodies = SIZES.map(sampleBytes);

for (const mtu of [1500, 65520]) {
  describe(`TCP at MTU ${mtu}`, () => {
    let guest: Guest;
    before(async () => {
      guest = await startGuest(...OPEN, '--mtu', String(mtu));
    });
    after(() => guest?.[Symbol.asyncDispose]());

    for (const [family, host] of FAMILIES) {
      test(`${family}: every size arrives complete from the host, and ends`, async () => {
        const queue = [...bodies];
        const server = await listen((socket) => socket.end(queue.shift() ?? ''));
        try {
          const got = await guest.namespace.evaluate(receiveEach, [host, server.port, bodies.length], 60_000);
          assert.deepEqual(
            got,
            bodies.map((body) => ({ size: body.length, sum: sha256(body) })),
          );
        } finally {
          await server.close();
        }
      });

      test(`${family}: every size arrives complete from the guest, and is answered after its end`, async () => {
        const server = await listen(digest);
        try {
          const got = await guest.namespace.evaluate(sendEach, [host, server.port, SIZES], 60_000);
          assert.deepEqual(got, bodies.map(sha256));
        } finally {
          await server.close();
        }
      });
    }
  });
}

describe('TCP as a connection', () => {
  let guest: Guest;
  before(async () => {
    guest = await startGuest(...OPEN);
  });
  after(() => guest?.[Symbol.asyncDispose]());

  async function withServer<T>(
    serve: (socket: Socket) => void,
    body: (server: TestServer) => Promise<T>,
  ): Promise<T> {
    const server = await listen(serve);
    try {
      return await body(server);
    } finally {
      await server.close();
    }
  }

  for (const [family, host] of FAMILIES) {
    test(`${family}: a closed port is refused at once`, async () => {
      const server = await listen(() => undefined);
      await server.close();
      await endsAtOnce(guest, host, server.port, ['ECONNREFUSED']);
    });

    test(`${family}: the guest may end its direction and still read what comes after`, async () => {
      const result = await withServer(
        (socket) => {
          let text = '';
          socket.on('data', (part: Buffer) => {
            text += part.toString('latin1');
          });
          socket.on('end', () => {
            // More than any buffer on the way, sent only after the guest's FIN.
            socket.write(Buffer.alloc(8 * 1024 * 1024, 'z'));
            socket.end(text);
          });
        },
        (server) =>
          guest.namespace.evaluate(
            async (address: string, port: number) => {
              const { connect } = await import('node:net');
              return await new Promise<{ size: number; tail: string }>((resolve, reject) => {
                let size = 0;
                let tail = '';
                const socket = connect({ host: address, port, allowHalfOpen: true });
                socket.on('connect', () => socket.end('question')).on('error', reject);
                socket.on('data', (part: Buffer) => {
                  size += part.length;
                  tail = (tail + part.toString('latin1')).slice(-8);
                });
                socket.on('end', () => resolve({ size, tail }));
              });
            },
            [host, server.port],
          ),
      );
      assert.deepEqual(result, { size: 8 * 1024 * 1024 + 8, tail: 'question' });
    });

    test(`${family}: the host may end its direction and still read what comes after`, async () => {
      const received: number[] = [];
      const ended = await withServer(
        (socket) => {
          let size = 0;
          socket.on('data', (part: Buffer) => {
            size += part.length;
          });
          socket.on('end', () => received.push(size));
          socket.end('only this');
        },
        async (server) => {
          const text = await guest.namespace.evaluate(
            async (address: string, port: number) => {
              const { connect } = await import('node:net');
              return await new Promise<string>((resolve, reject) => {
                let got = '';
                const socket = connect({ host: address, port, allowHalfOpen: true });
                socket.on('data', (part: Buffer) => {
                  got += part.toString('latin1');
                });
                socket.on('end', () => socket.end(Buffer.alloc(8 * 1024 * 1024, 'q')));
                socket.on('error', reject).on('close', () => resolve(got));
              });
            },
            [host, server.port],
          );
          await until(() => received.length === 1, 'the end at the host');
          return text;
        },
      );
      assert.equal(ended, 'only this');
      assert.deepEqual(received, [8 * 1024 * 1024]);
    });

    test(`${family}: a reset by the host is a reset in the guest`, async () => {
      const code = await withServer(
        (socket) => socket.once('data', () => socket.resetAndDestroy()),
        (server) =>
          guest.namespace.evaluate(
            async (address: string, port: number) => {
              const { connect } = await import('node:net');
              return await new Promise<string>((resolve) => {
                const socket = connect({ host: address, port }, () => socket.write('x'));
                socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
                socket.on('end', () => resolve('end'));
              });
            },
            [host, server.port],
          ),
      );
      assert.equal(code, 'ECONNRESET');
    });

    test(`${family}: a reset by the guest is a reset at the host`, async () => {
      let code = '';
      await withServer(
        (socket) => {
          socket.on('error', (error: NodeJS.ErrnoException) => {
            code = error.code ?? error.message;
          });
          socket.on('end', () => {
            code ||= 'end';
          });
          socket.resume().write('hello');
        },
        async (server) => {
          await guest.namespace.evaluate(
            async (address: string, port: number) => {
              const { connect } = await import('node:net');
              await new Promise<void>((resolve, reject) => {
                const socket = connect({ host: address, port });
                socket.on('error', reject).on('close', () => resolve());
                socket.once('data', () => socket.resetAndDestroy());
              });
            },
            [host, server.port],
          );
          await until(() => code !== '', 'an end at the host');
        },
      );
      assert.equal(code, 'ECONNRESET');
    });
  }

  test('no route on the host is "no route" in the guest, at once', async () => {
    // The host answers ENETUNREACH to the first and EHOSTUNREACH to the second; ICMP errors tell the guest which.
    for (const [address, expected] of [
      ['192.0.3.1', ['ENETUNREACH', 'EHOSTUNREACH']],
      ['192.0.2.65', ['EHOSTUNREACH']],
      ['2001:db8:ffff::1', ['ENETUNREACH', 'EHOSTUNREACH']],
      ['2001:db8:bad::1', ['EHOSTUNREACH', 'ENETUNREACH']],
    ] as const) {
      await endsAtOnce(guest, address, 80, expected);
    }
  });

  test('a host that is not there is "no route to host" as soon as the host knows', async () => {
    // Nobody answers for this address on the servers' network.
    const { code } = await guest.namespace.evaluate(connectResult, ['198.51.100.77', 80, 15_000]);
    assert.equal(code, 'EHOSTUNREACH');
  });

  test('many echoes at once on many connections come back unmixed', async () => {
    const good = await withServer(echo, (server) =>
      guest.namespace.evaluate(
        async (hosts: string[], port: number) => {
          const { connect } = await import('node:net');
          const one = (index: number): Promise<boolean> =>
            new Promise((resolve, reject) => {
              const body = Buffer.alloc(50_000 + index * 7, String.fromCharCode(97 + (index % 26)));
              const parts: Buffer[] = [];
              const socket = connect({ host: hosts[index % hosts.length], port, allowHalfOpen: true });
              socket.on('connect', () => socket.end(body)).on('error', reject);
              socket.on('data', (part: Buffer) => parts.push(part));
              socket.on('end', () => resolve(Buffer.concat(parts).equals(body)));
            });
          const results = await Promise.all(Array.from({ length: 100 }, (_, index) => one(index)));
          return results.filter(Boolean).length;
        },
        [[HOST4, HOST6], server.port],
      ),
    );
    assert.equal(good, 100);
  });

  test('a reader that stops holds the sender up, and all arrives when it goes on', async () => {
    const body = sampleBytes(32 * 1024 * 1024);
    let sender: Socket | undefined;
    const result = await withServer(
      (socket) => {
        sender = socket;
        socket.end(body);
      },
      (server) =>
        guest.namespace.evaluate(
          async (address: string, port: number) => {
            const { connect } = await import('node:net');
            const { createHash } = await import('node:crypto');
            return await new Promise<string>((resolve, reject) => {
              const hash = createHash('sha256');
              const socket = connect({ host: address, port });
              socket.once('data', () => {
                socket.pause();
                // Long enough for zero windows, probes, and a sender with nothing to do.
                setTimeout(() => socket.resume(), 1500);
              });
              socket.on('data', (part: Buffer) => hash.update(part));
              socket.on('end', () => resolve(hash.digest('hex'))).on('error', reject);
            });
          },
          [HOST4, server.port],
        ),
    );
    assert.equal(result, sha256(body));
    assert.ok(sender !== undefined);
  });

  test('the end of a connection reaches both sides when the server closes while data is on its way', async () => {
    await withServer(
      (socket) => socket.once('data', () => socket.destroy()),
      async (server) => {
        const code = await guest.namespace.evaluate(
          async (address: string, port: number) => {
            const { connect } = await import('node:net');
            return await new Promise<string>((resolve) => {
              const socket = connect({ host: address, port });
              const block = Buffer.alloc(65536);
              const fill = (): void => {
                while (socket.writable && socket.write(block));
              };
              socket.on('connect', fill).on('drain', fill);
              socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
            });
          },
          [HOST4, server.port],
        );
        assert.ok(['ECONNRESET', 'EPIPE'].includes(code), code);
        assert.equal(server.sockets.size, 0);
      },
    );
  });

  test('no connection stays on the host when those of the guest have ended', async () => {
    await withServer(echo, async (server) => {
      await guest.namespace.evaluate(
        async (address: string, port: number) => {
          const { connect } = await import('node:net');
          for (let round = 0; round < 50; round++) {
            await new Promise<void>((resolve, reject) => {
              const socket = connect({ host: address, port }, () => socket.end('x'));
              socket
                .resume()
                .on('close', () => resolve())
                .on('error', reject);
            });
          }
        },
        [HOST4, server.port],
      );
      assert.equal(server.accepted, 50);
      await until(() => server.sockets.size === 0, 'all closed');
    });
  });
});
