/** Two servers of the host for transfers both ways with checksums: whether a guest's network works. */
import assert from 'node:assert/strict';
import { HOST4, HOST6, type Namespace } from './namespaces.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from './tcp-servers.ts';
import { receive, send } from './transfer.ts';

export const BODY: Buffer = sampleBytes(2 * 1024 * 1024);

export interface BothWays {
  /** Sends back the digest of what comes. */
  readonly sink: TestServer;
  works(namespace: Namespace, hosts?: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export async function serveBothWays(): Promise<BothWays> {
  const sink = await listen(digest);
  const source = await listen((socket) => socket.end(BODY));
  return {
    sink,
    async works(namespace, hosts = [HOST4, HOST6]) {
      for (const host of hosts) {
        const sum = sha256(BODY);
        assert.equal(await namespace.evaluate(send, [host, sink.port, BODY.length]), sum, `to ${host}`);
        assert.equal(await namespace.evaluate(receive, [host, source.port]), sum, `from ${host}`);
      }
    },
    async close() {
      await sink.close();
      await source.close();
    },
  };
}
