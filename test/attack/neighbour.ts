/**
 * What the same guest does beside the attack: what it gets through, and how long it ever has to wait. Two programs inside
 * the guest, so that moving bulk data does not disturb the clock of the other.
 */
import type { Namespace } from '../support/namespaces.ts';
import { type OwnTime, ownTime } from '../support/own-time.ts';
import type { Ports } from './floods.ts';

/** Of things done one after the other, in milliseconds of own-time.ts. What was not there after a second has failed. */
export interface Waits {
  count: number;
  failed: number;
  p50: number;
  p99: number;
  max: number;
}

export interface Measured {
  /** MB/s of a download and of an upload that run all the time. */
  down: number;
  up: number;
  /** 64-byte echoes over one connection, every 5 ms; datagrams, every 20 ms; a new connection, every 100 ms. */
  tcp: Waits;
  udp: Waits;
  connect: Waits;
}

export function waits(times: number[], failed: number): Waits {
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
  return { count: times.length + failed, failed, p50: at(0.5), p99: at(0.99), max: at(1) };
}

async function bulk(
  host: string,
  source: number,
  sink: number,
  seconds: number,
): Promise<{ down: number; up: number }> {
  const { connect } = await import('node:net');
  let down = 0;
  const download = connect({ host, port: source });
  download.on('data', (part: Buffer) => {
    down += part.length;
  });
  const upload = connect({ host, port: sink });
  const block = Buffer.alloc(65_536, 3);
  const pour = (): void => {
    while (!upload.destroyed && upload.write(block));
  };
  upload.on('connect', pour).on('drain', pour);
  for (const socket of [download, upload]) socket.on('error', () => undefined);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const up = upload.bytesWritten - upload.writableLength;
  download.destroy();
  upload.destroy();
  return { down: down / 1e6 / seconds, up: up / 1e6 / seconds };
}

type Times = { times: number[]; failed: number };

async function talk(
  host: string,
  echo: number,
  udpEcho: number,
  seconds: number,
  ownTimeText: string,
): Promise<{ tcp: Times; udp: Times; connect: Times }> {
  const net = await import('node:net');
  const dgram = await import('node:dgram');
  const time = new Function(`return (${ownTimeText})()`)() as OwnTime;
  const limit = 1000;
  const end = performance.now() + seconds * 1000;
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  const size = 64;

  /** Do `action` every `interval` ms, or as soon as the last one is over. */
  const repeat = async (interval: number, action: () => Promise<boolean>): Promise<Times> => {
    const result: Times = { times: [], failed: 0 };
    while (performance.now() < end) {
      const from = time.now();
      if (await action()) result.times.push(time.now() - from);
      else result.failed++;
      await sleep(Math.max(0, interval - (time.now() - from)));
    }
    return result;
  };

  const line = net.connect({ host, port: echo });
  await new Promise<void>((resolve, reject) => {
    line.once('connect', resolve);
    line.once('error', reject);
  });
  line.setNoDelay(true);
  line.on('error', () => undefined);
  let got = 0;
  let wanted = 0;
  let arrived: (() => void) | null = null;
  line.on('data', (part: Buffer) => {
    got += part.length;
    if (got >= wanted) arrived?.();
  });
  const echoOnce = async (): Promise<boolean> => {
    wanted += size;
    line.write(Buffer.alloc(size, 1));
    // Late is late, not lost: the time is taken when it is there.
    const from = time.now();
    await Promise.race([
      new Promise<void>((resolve) => {
        arrived = resolve;
      }),
      sleep(10_000),
    ]);
    return time.now() - from < limit;
  };

  const datagrams = dgram.createSocket('udp4');
  datagrams.on('error', () => undefined);
  let number = 0;
  let answered: (() => void) | null = null;
  datagrams.on('message', (data: Buffer) => {
    if (data.readUInt32BE() === number) answered?.();
  });
  const datagramOnce = (): Promise<boolean> =>
    new Promise((resolve) => {
      const data = Buffer.alloc(size);
      data.writeUInt32BE(++number);
      const cancel = time.after(limit, () => resolve(false));
      answered = () => {
        cancel();
        resolve(true);
      };
      datagrams.send(data, udpEcho, host);
    });

  const connectOnce = (): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = net.connect({ host, port: echo });
      const cancel = time.after(limit, () => {
        socket.destroy();
        resolve(false);
      });
      socket.on('connect', () => {
        cancel();
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => {
        cancel();
        resolve(false);
      });
    });

  const [tcp, udp, connect] = await Promise.all([
    repeat(5, echoOnce),
    repeat(20, datagramOnce),
    repeat(100, connectOnce),
  ]);
  line.destroy();
  datagrams.close();
  time.stop();
  return { tcp, udp, connect };
}

/** All of it for `seconds`. */
export async function measure(
  guest: Namespace,
  host: string,
  ports: Ports & { sink: number },
  seconds: number,
): Promise<Measured> {
  const limitMs = (seconds + 40) * 1000;
  const [moved, spoken] = await Promise.all([
    guest.evaluate(bulk, [host, ports.source, ports.sink, seconds], limitMs),
    guest.evaluate(talk, [host, ports.echo, ports.udpEcho, seconds, String(ownTime)], limitMs),
  ]);
  return {
    ...moved,
    tcp: waits(spoken.tcp.times, spoken.tcp.failed),
    udp: waits(spoken.udp.times, spoken.udp.failed),
    connect: waits(spoken.connect.times, spoken.connect.failed),
  };
}
