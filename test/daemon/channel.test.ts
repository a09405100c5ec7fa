import assert from 'node:assert/strict';
import { Duplex, PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { Channel, type ChannelEnd, type ChannelHandlers } from '../../src/daemon/channel.ts';
import type { Role } from '../../src/daemon/handshake.ts';
import { RawPeer } from './support/raw-peer.ts';

const quiet: ChannelHandlers = {
  request: async () => ({}),
  notice: () => undefined,
  ended: () => undefined,
};

interface Setup {
  channel: Channel;
  peer: RawPeer;
  ended: Promise<ChannelEnd>;
}

function open(role: Role = 'embedder', handlers: Partial<ChannelHandlers> = {}): Setup {
  const [input, output] = [new PassThrough(), new PassThrough()];
  let tell: (why: ChannelEnd) => void = () => undefined;
  const ended = new Promise<ChannelEnd>((resolve) => {
    tell = resolve;
  });
  const channel = new Channel(role, { input, output }, { ...quiet, ended: tell, ...handlers });
  return { channel, peer: new RawPeer(output, input), ended };
}

/** Two ends of a connection that holds one byte at a time in each direction. */
function narrowPair(): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const waiting: ((() => void) | undefined)[] = [undefined, undefined];
  for (const i of [0, 1]) {
    ends.push(
      new Duplex({
        readableHighWaterMark: 1,
        writableHighWaterMark: 1,
        read() {
          const more = waiting[1 - i];
          waiting[1 - i] = undefined;
          more?.();
        },
        write(chunk: Buffer, _encoding, done) {
          let at = 0;
          const next = (): void => {
            if (at === chunk.length) {
              done();
              return;
            }
            const isRoom = ends[1 - i]?.push(chunk.subarray(at, ++at));
            if (isRoom === true) setImmediate(next);
            else waiting[i] = next;
          };
          next();
        },
      }),
    );
  }
  return ends as [Duplex, Duplex];
}

describe('Channel', () => {
  it('M-26: answers come in any order', async () => {
    const { channel, peer } = open();
    await peer.greet('tslirp-control stack 1.0\n');
    assert.deepEqual(await channel.opened, { major: 1, minor: 0 });
    const calls = [channel.call('a', { n: 1 }), channel.call('b', {}), channel.call('c', {})];
    assert.deepEqual(await peer.receive(), { id: 1, type: 'a', n: 1 });
    peer.send({ re: 3, ok: true, x: 3 }, { re: 1, ok: true, x: 1 });
    peer.send({ re: 2, ok: false, code: 'LIMIT', message: 'no', detail: { path: 'x' } });
    assert.deepEqual(await calls[2], { re: 3, x: 3 });
    assert.deepEqual(await calls[0], { re: 1, x: 1 });
    await assert.rejects(calls[1] as Promise<object>, {
      code: 'LIMIT',
      message: 'no',
      detail: { path: 'x' },
    });
  });

  it('M-26: the answer to a call that was given up is ignored', async () => {
    const { channel, peer } = open();
    await peer.greet('tslirp-control stack 1.0\n');
    const abort = new AbortController();
    const given = channel.call('a', {}, abort.signal);
    const other = channel.call('b', {});
    const reason = new Error('enough');
    abort.abort(reason);
    await assert.rejects(given, { code: 'ABORTED', cause: reason });
    peer.send({ re: 1, ok: true }, { re: 2, ok: true });
    await other;
    await assert.rejects(channel.call('c', {}, AbortSignal.abort(reason)), { code: 'ABORTED' });
  });

  it('M-26: with the other end gone, all calls are CHILD_EXITED, and so are later ones', async () => {
    const { channel, peer, ended } = open();
    await peer.greet('tslirp-control stack 1.0\n');
    const calls = Promise.allSettled(['a', 'b', 'c'].map((type) => channel.call(type, {})));
    peer.end();
    for (const result of await calls)
      assert.equal(result.status === 'rejected' && (result.reason as { code: string }).code, 'CHILD_EXITED');
    assert.equal(await ended, 'eof');
    await assert.rejects(channel.call('d', {}), { code: 'CHILD_EXITED' });
  });

  it('M-23: two ends that hold one byte each do not wait for each other for ever', async () => {
    const [one, other] = narrowPair();
    const stack = new Channel(
      'stack',
      { input: one, output: one },
      { ...quiet, request: async () => ({ x: 1 }) },
    );
    const embedder = new Channel('embedder', { input: other, output: other }, quiet);
    const both = ['a', 'b'].map((type) => embedder.call(type, {}));
    assert.deepEqual(
      (await Promise.all(both)).map(({ x }) => x),
      [1, 1],
    );
    await Promise.all([stack.opened, embedder.opened]);
    one.destroy();
    other.destroy();
  });

  it('what is too long for a frame is LIMIT, as a request and as an answer', async () => {
    const long = { text: 'x'.repeat(1_048_576) };
    const { channel, peer } = open('stack', { request: async () => long });
    await peer.greet();
    await assert.rejects(channel.call('settings', long), { code: 'LIMIT' });
    assert.equal((await peer.ask({ id: 1, type: 'a' }))['code'], 'LIMIT');
    channel.notify('event', { type: 'event', ...long });
    assert.equal((await peer.ask({ id: 2, type: 'a' }))['code'], 'LIMIT');
  });

  it('an error that has no code is INTERNAL, in one line that can be printed', async () => {
    const failing = async (): Promise<never> => {
      throw new Error('a\nb');
    };
    const { peer } = open('stack', { request: failing });
    await peer.greet();
    const { code, message } = await peer.ask({ id: 1, type: 'a' });
    assert.deepEqual([code, message], ['INTERNAL', 'Error: a\\u000ab']);
  });

  it('the output is closed behind the last frame', async () => {
    const { channel, peer } = open('stack');
    await peer.greet();
    channel.notify('log', { type: 'log' });
    const closed = channel.finish();
    channel.notify('call', { type: 'late' });
    await closed;
    assert.deepEqual(await peer.rest(), [{ type: 'log' }]);
  });
});
