import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  type ConnectionRequest,
  type Datagram,
  Stack,
  type StackOptions,
  type TcpSocket,
} from '../../src/netstack/index.ts';
import { sampleBytes } from '../support/tcp-servers.ts';
import { JoinedStacks, type LinkOptions } from './support.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const bytes = (words: string): Uint8Array => Buffer.from(words);
const sum = (body: Uint8Array): string => createHash('sha256').update(body).digest('hex');

/** What a socket was told, one word for each call. */
function recorded(socket: TcpSocket): string[] {
  const said: string[] = [];
  socket.onOpen = () => said.push('open');
  socket.onData = (data) => said.push(text(data));
  socket.onEnd = () => said.push('end');
  socket.onClose = (reason) => said.push(`closed ${reason}`);
  return said;
}

/** Writes all of `body` and ends. */
function sendAll(socket: TcpSocket, body: Uint8Array): void {
  let at = 0;
  const go = (): void => {
    at += socket.write(body.subarray(at));
    if (at === body.length) socket.end();
  };
  socket.onOpen = go;
  socket.onDrain = go;
}

const echo = (request: ConnectionRequest): void => {
  const socket = request.accept();
  socket.onData = (data) => assert.equal(socket.write(data), data.length);
  socket.onEnd = () => socket.end();
};

describe('a stack without an operating system', () => {
  for (const [address, medium] of [
    ['10.0.2.2', 'ethernet'],
    ['fd00::2', 'ethernet'],
    ['192.0.2.7', 'ethernet'],
    ['2001:db8::7', 'ip'],
    ['10.0.2.2', 'ip'],
  ] as const) {
    test(`a connection to ${address} over ${medium}: bytes, ends, and nothing is left`, () => {
      const seen: string[] = [];
      const joined = new JoinedStacks(
        { medium },
        {
          onConnection: (request) => {
            seen.push(`${request.localAddress} ${request.localPort} ${request.remoteAddress}`);
            echo(request);
          },
        },
      );
      const socket = joined.host.connect({ address, port: 80 });
      const said = recorded(socket);
      socket.onOpen = () => {
        said.push('open');
        socket.write(bytes('hello'));
        socket.end();
      };
      assert.ok(joined.run(() => socket.isOver));
      assert.deepEqual(said, ['open', 'hello', 'end', 'closed ended']);
      assert.deepEqual(seen, [`${address} 80 ${address.includes(':') ? 'fd00::100' : '10.0.2.100'}`]);
      joined.run();
      for (const stack of [joined.gateway, joined.host])
        assert.deepEqual([stack.connections, stack.memoryUsed], [0, 0]);
    });
  }

  test('a port where nobody listens refuses', () => {
    const joined = new JoinedStacks();
    const said = recorded(joined.host.connect({ address: '10.0.2.2', port: 80 }));
    joined.run();
    assert.deepEqual(said, ['closed refused']);
  });

  test('a request is answered later, once, with yes or no', () => {
    const requests: ConnectionRequest[] = [];
    const joined = new JoinedStacks({}, { onConnection: (request) => requests.push(request) });
    const yes = recorded(joined.host.connect({ address: '10.0.2.2', port: 80 }));
    const no = recorded(joined.host.connect({ address: '10.0.2.2', port: 81 }));
    // The SYN is repeated meanwhile, and is no second request.
    joined.run(() => false, 5000);
    assert.deepEqual([requests.map(({ localPort }) => localPort), yes, no], [[80, 81], [], []]);
    requests[0]?.accept();
    requests[0]?.refuse();
    requests[1]?.refuse();
    requests[1]?.accept();
    joined.run(() => false, 5000);
    assert.deepEqual([yes, no], [['open'], ['closed refused']]);
  });

  test('nobody at the other end: the connection ends in time', () => {
    const joined = new JoinedStacks({ loss: 1 });
    const said = recorded(joined.host.connect({ address: '10.0.2.2', port: 80 }));
    joined.run();
    assert.deepEqual(said, ['closed timeout']);
  });

  test('an abort is a reset at the other end', () => {
    const accepted: TcpSocket[] = [];
    const joined = new JoinedStacks({}, { onConnection: (request) => accepted.push(request.accept()) });
    const here = joined.host.connect({ address: '10.0.2.2', port: 80 });
    const said = recorded(here);
    joined.run(() => here.isOpen && accepted[0]?.isOpen === true);
    const there = recorded(accepted[0] as TcpSocket);
    here.abort();
    assert.equal(here.write(bytes('x')), 0);
    joined.run();
    assert.deepEqual([said, there], [['open', 'closed aborted'], ['closed reset']]);
  });

  for (const [name, link, options] of [
    ['a good link', {}, {}],
    ['a link that loses one of 50 frames', { loss: 0.02, seed: 7 }, {}],
    [
      'a link of 50 ms that loses, with NewReno',
      { loss: 0.01, delayMs: 50, seed: 3 },
      { congestion: 'newReno' },
    ],
    ['the smallest MTU and windows', { mtu: 576 }, { window: 4096 }],
    ['little memory', {}, { memory: 1 << 20, congestion: 'none' }],
  ] as [string, LinkOptions, Partial<StackOptions>][]) {
    test(`both ways at once over ${name}`, () => {
      const up = sampleBytes(400_000);
      const down = sampleBytes(600_001);
      const got = { up: [] as Uint8Array[], down: [] as Uint8Array[] };
      const joined = new JoinedStacks(
        link,
        {
          ...options,
          onConnection: (request) => {
            const socket = request.accept();
            sendAll(socket, down);
            socket.onData = (data) => got.up.push(data);
          },
        },
        options,
      );
      const socket = joined.host.connect({ address: 'fd00::2', port: 80 });
      sendAll(socket, up);
      socket.onData = (data) => got.down.push(data);
      assert.ok(joined.run(() => socket.isOver));
      assert.equal(sum(Buffer.concat(got.up)), sum(up));
      assert.equal(sum(Buffer.concat(got.down)), sum(down));
      joined.run();
      assert.deepEqual([joined.gateway.memoryUsed, joined.host.memoryUsed], [0, 0]);
    });
  }

  test('a reader that pauses holds the writer up, and loses nothing', () => {
    const body = sampleBytes(300_000);
    let reader: TcpSocket | null = null;
    const got: Uint8Array[] = [];
    const joined = new JoinedStacks(
      {},
      {
        window: 65536,
        onConnection: (request) => {
          reader = request.accept();
          reader.onData = (data) => got.push(data);
          reader.pause();
        },
      },
      { window: 65536 },
    );
    const socket = joined.host.connect({ address: '10.0.2.2', port: 80 });
    let taken = 0;
    const go = (): void => {
      taken += socket.write(body.subarray(taken));
      if (taken === body.length) socket.end();
    };
    socket.onOpen = go;
    socket.onDrain = go;
    joined.run(() => false, 20_000);
    assert.equal(got.length, 0);
    // What the reader's window holds, and the writer's own queue.
    assert.ok(taken >= 65536 && taken <= 3 * 65536, `${taken}`);
    (reader as TcpSocket | null)?.resume();
    assert.ok(joined.run(() => socket.state === 'FIN-WAIT-2' || socket.isOver));
    assert.equal(sum(Buffer.concat(got)), sum(body));
  });

  test('datagrams both ways, whole and in fragments, and a port where nobody is', () => {
    const at: Record<string, Datagram[]> = { gateway: [], host: [] };
    const joined = new JoinedStacks(
      {},
      {
        onDatagram: (datagram) => {
          if (datagram.localPort === 9) return false;
          at['gateway']?.push(datagram);
          joined.gateway.send({
            ...datagram,
            localAddress: datagram.localAddress,
            remoteAddress: datagram.remoteAddress,
          });
          return true;
        },
      },
      {
        onDatagram: (datagram) => {
          at['host']?.push(datagram);
          return undefined;
        },
      },
    );
    const big = sampleBytes(20_000);
    for (const data of [bytes('small'), big]) {
      joined.host.send({
        localAddress: 'fd00::100',
        localPort: 5000,
        remoteAddress: '2001:db8::1',
        remotePort: 53,
        data,
      });
    }
    joined.run(() => at['host']?.length === 2, 5000);
    assert.deepEqual(
      at['host']?.map(({ data, remoteAddress }) => [sum(data), remoteAddress]),
      [bytes('small'), big].map((data) => [sum(data), '2001:db8::1']),
    );
    const before = joined.gateway.counters()['icmp.errors_sent'];
    joined.host.send({
      localAddress: '10.0.2.100',
      localPort: 5000,
      remoteAddress: '10.0.2.2',
      remotePort: 9,
      data: big,
    });
    joined.run(() => joined.gateway.counters()['icmp.errors_sent'] !== before, 5000);
    assert.equal(joined.gateway.counters()['icmp.errors_sent'], (before as number) + 1);
  });

  test('a router says that there is no way: the connection is over', () => {
    const joined = new JoinedStacks();
    // The host has no such address, and says nothing.
    const said = recorded(joined.gateway.connect({ address: '192.0.2.9', port: 80 }));
    joined.run(() => joined.frames.some((frame) => frame[23] === 6));
    const syn = joined.frames.find((frame) => frame[23] === 6) as Uint8Array;
    // Administratively prohibited (RFC 1812 §5.2.7.1), from the host, about the SYN.
    const quote = syn.subarray(14);
    const icmp = new Uint8Array(14 + 20 + 8 + quote.length);
    icmp.set(syn.subarray(6, 12), 0);
    icmp.set([2, 0, 0, 0, 0, 7], 6);
    icmp.set(syn.subarray(12, 34), 12);
    const view = new DataView(icmp.buffer);
    view.setUint16(16, 28 + quote.length);
    view.setUint8(23, 1);
    icmp.set([10, 0, 2, 100], 26);
    icmp.set(syn.subarray(26, 30), 30);
    icmp.set([3, 13], 34);
    icmp.set(quote, 42);
    const put = (at: number, from: number, to: number): void => {
      view.setUint16(at, 0);
      let total = 0;
      for (let i = from; i < to; i += 2) total += view.getUint16(i);
      while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
      view.setUint16(at, ~total & 0xffff);
    };
    put(24, 14, 34);
    put(36, 34, icmp.length);
    joined.gateway.receive(icmp);
    assert.deepEqual(said, ['closed unreachable']);
  });

  test('faults of handlers reach whoever woke the stack, and harm nobody', () => {
    const joined = new JoinedStacks({}, { onConnection: echo });
    const bad = joined.host.connect({ address: '10.0.2.2', port: 80 });
    bad.onOpen = () => {
      throw new Error('mine');
    };
    const good = joined.host.connect({ address: '10.0.2.2', port: 80 });
    const said = recorded(good);
    let caught = '';
    for (let i = 0; i < 3 && !good.isOpen; i++) {
      try {
        joined.run(() => good.isOpen);
      } catch (error) {
        caught += (error as Error).message;
      }
    }
    assert.equal(caught, 'mine');
    good.write(bytes('on'));
    joined.run(() => said.length === 2);
    assert.deepEqual(said, ['open', 'on']);
  });

  test('no more connections than there may be', () => {
    const joined = new JoinedStacks({}, { connections: 2, onConnection: echo });
    const sockets = [1, 2, 3].map(() => joined.host.connect({ address: '10.0.2.2', port: 80 }));
    joined.run(() => false, 3000);
    assert.equal(sockets.filter(({ isOpen }) => isOpen).length, 2);
    // The third goes on asking, and has its turn when there is room.
    sockets.find(({ isOpen }) => isOpen)?.abort();
    assert.ok(joined.run(() => sockets.filter(({ isOpen }) => isOpen).length === 2, 30_000));
  });

  test('closed: every connection is reset, and nothing happens any more', () => {
    const joined = new JoinedStacks({}, { onConnection: echo });
    const socket = joined.host.connect({ address: '10.0.2.2', port: 80 });
    const said = recorded(socket);
    joined.run(() => socket.isOpen);
    joined.gateway.close();
    joined.run();
    assert.deepEqual(said, ['open', 'closed reset']);
    assert.equal(joined.gateway.nextTimeout, Number.POSITIVE_INFINITY);
    assert.throws(() => joined.gateway.connect({ address: '10.0.2.100', port: 1 }), /closed/);
  });

  test('DHCP: an address is offered to whoever asks', () => {
    const joined = new JoinedStacks({}, { autoconfigure: true, nameservers: ['192.0.2.53'] });
    const discover = new Uint8Array(14 + 20 + 8 + 244);
    discover.fill(0xff, 0, 6);
    discover.set([2, 0, 0, 0, 0, 9, 8, 0], 6);
    const view = new DataView(discover.buffer);
    discover.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17], 14);
    view.setUint16(16, discover.length - 14);
    discover.fill(0xff, 30, 34);
    let total = 0;
    for (let i = 14; i < 34; i += 2) total += view.getUint16(i);
    view.setUint16(24, ~((total & 0xffff) + (total >>> 16)) & 0xffff);
    view.setUint16(34, 68);
    view.setUint16(36, 67);
    view.setUint16(38, discover.length - 34);
    // RFC 2131: BOOTREQUEST on Ethernet, the client's MAC, the cookie, DHCPDISCOVER.
    discover.set([1, 1, 6], 42);
    discover.set([2, 0, 0, 0, 0, 9], 42 + 28);
    discover.set([99, 130, 83, 99, 53, 1, 1, 255], 42 + 236);
    joined.gateway.receive(discover);
    const offer = joined.frames.at(-1) as Uint8Array;
    assert.deepEqual([...offer.subarray(42 + 16, 42 + 20)], [10, 0, 2, 100]);
    assert.ok(text(offer).includes(text(Uint8Array.of(6, 4, 192, 0, 2, 53))));
  });

  for (const [what, options] of [
    ['ipv4: 10.0.2.2 is not ADDRESS/BITS, with 1 to 32 bits', { ipv4: '10.0.2.2' }],
    ['ipv6 and peer6 go together', { ipv6: 'fd00::2/64', peer6: undefined }],
    ['mtu: 100 is not a whole number from 576 to 65535', { mtu: 100 }],
    ['window: 1.5 is not a whole number from 4096 to 268435456', { window: 1.5 }],
  ] as unknown as [string, Partial<StackOptions>][]) {
    test(`options that cannot be: ${what}`, () => {
      const all = { ipv4: '10.0.2.2/24', peer4: '10.0.2.100', transmit: () => {}, ...options };
      assert.throws(() => new Stack(all as StackOptions), { name: 'RangeError', message: what });
    });
  }
});
