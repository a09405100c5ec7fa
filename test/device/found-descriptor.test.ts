/** links L-11: every kind of descriptor, and every fault, with a real one. */
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { describe, test } from 'node:test';
import { lookAtDescriptor } from '../../src/device/found-descriptor.ts';
import { DeviceError } from '../../src/device-error.ts';
import type { DescriptorTarget } from '../../src/device-spec.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  bind,
  connect,
  getsockname,
  listen,
  putSockaddr4,
  putSockaddrAutobind,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  socket,
} from '../../src/sys/socket.ts';
import { Bench } from './support/bench.ts';

const LOOPBACK = 0x7f000001;

function look(
  b: Bench,
  fd: number,
  more: Partial<DescriptorTarget> = {},
): ReturnType<typeof lookAtDescriptor> {
  return lookAtDescriptor({ kind: 'descriptor', fd, ...more }, b.services);
}

function refuses(b: Bench, fd: number, message: RegExp, more: Partial<DescriptorTarget> = {}): void {
  assert.throws(
    () => look(b, fd, more),
    (error) => error instanceof DeviceError && error.step === 'descriptor' && message.test(error.message),
    String(message),
  );
}

/** A TCP socket that listens on loopback, and one that is connected to it. */
function tcp(b: Bench): [server: number, client: number] {
  const server = socket(AF_INET, SOCK_STREAM, 0);
  assert.equal(bind(b.memory, server, b.at, putSockaddr4(b.memory, b.at, LOOPBACK, 0)), 0);
  assert.equal(listen(server, 1), 0);
  const client = socket(AF_INET, SOCK_STREAM, 0);
  connect(b.memory, client, b.at, getsockname(b.memory, server, b.at));
  return [server, client];
}

describe('an inherited descriptor is found out', () => {
  const b = new Bench(SOCK_STREAM);

  test('links L-11: a unix stream, and what framing= and medium= make of it', () => {
    assert.deepEqual(look(b, b.fd), { kind: 'stream', medium: 'ethernet', framing: 'be32' });
    assert.deepEqual(look(b, b.fd, { framing: 'le16', medium: 'ip' }), {
      ...{ kind: 'stream', medium: 'ip', framing: 'le16' },
    });
    refuses(b, b.fd, /is a stream; accepted: framing=be32/, { framing: 'bare' });
  });

  for (const [type, endsWithPeer] of [
    [SOCK_DGRAM, false],
    [SOCK_SEQPACKET, true],
  ] as const) {
    test(`links L-11: a unix socket of packets, type ${type}`, () => {
      const packets = new Bench(type);
      assert.deepEqual(look(packets, packets.fd), { kind: 'packets', medium: 'ethernet', endsWithPeer });
      assert.equal((look(packets, packets.fd, { medium: 'ip' }) as { medium: string }).medium, 'ip');
      refuses(packets, packets.fd, /is a packet socket; accepted: framing=bare/, { framing: 'be32' });
      packets.end();
    });
  }

  test('links L-11: TCP, connected, listening and neither', () => {
    const [server, client] = tcp(b);
    assert.deepEqual(look(b, client), { kind: 'stream', medium: 'ethernet', framing: 'be32' });
    const found = { kind: 'listening', type: 'stream', medium: 'ethernet', framing: 'be32' };
    const at = { family: 'ip', address: 'descriptor', port: server };
    assert.deepEqual(look(b, server), { ...found, at });
    assert.deepEqual(look(b, server, { framing: 'le16' }), { ...found, at, framing: 'le16' });
    refuses(b, server, /is a stream; accepted: framing=be32 or framing=le16/, { framing: 'bare' });
    const idle = socket(AF_INET6, SOCK_STREAM, 0);
    refuses(b, idle, /is a stream socket that is not connected/);
    for (const fd of [server, client, idle]) closeSync(fd);
  });

  test('links L-11: UDP has to be connected', () => {
    const fd = socket(AF_INET, SOCK_DGRAM, 0);
    refuses(b, fd, /is a datagram socket that is not connected/);
    assert.equal(connect(b.memory, fd, b.at, putSockaddr4(b.memory, b.at, LOOPBACK, 9)), 0);
    assert.deepEqual(look(b, fd), { kind: 'packets', medium: 'ethernet', endsWithPeer: false });
    closeSync(fd);
  });

  test('links L-11: a unix listener', () => {
    const fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    bind(b.memory, fd, b.at, putSockaddrAutobind(b.memory, b.at));
    listen(fd, 1);
    assert.deepEqual(look(b, fd), {
      ...{ kind: 'listening', type: 'seqpacket', medium: 'ethernet', framing: 'bare' },
      at: { family: 'unix', path: `descriptor ${fd}` },
    });
    refuses(b, fd, /is a packet socket; accepted: framing=bare/, { framing: 'be32' });
    closeSync(fd);
  });

  test('links L-11: two descriptors want framing=', () => {
    const [first, second] = [openSync('/dev/null', 'r'), openSync('/dev/null', 'w')];
    refuses(b, first, /are a stream; accepted: framing=be32 or framing=le16/, { output: second });
    assert.deepEqual(look(b, first, { output: second, framing: 'le16' }), {
      ...{ kind: 'stream', medium: 'ethernet', framing: 'le16' },
    });
    closeSync(first);
    closeSync(second);
  });

  test('links L-11: what is none, each in its words', () => {
    const closed = openSync('/dev/null', 'r');
    closeSync(closed);
    refuses(b, closed, new RegExp(`^descriptor ${closed} is not open \\(EBADF\\)$`));
    for (const [path, message] of [
      ['/etc/passwd', /is a file; accepted: /],
      ['/', /is a directory; accepted: /],
      ['/dev/null', /is something else; accepted: /],
    ] as const) {
      const fd = openSync(path, 'r');
      refuses(b, fd, message);
      closeSync(fd);
    }
    const netlink = socket(16, 3, 0);
    refuses(b, netlink, /is a socket of another family/);
    closeSync(netlink);
  });
});
