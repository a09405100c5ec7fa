/** The flow beside the attack: what it gets through, and how long it ever has to wait. Runs inside the guest. */
import type { Namespace } from '../support/namespaces.ts';

export interface Measured {
  /** Of a download that runs all the time. */
  megabytesPerSecond: number;
  /** Of 64-byte echoes, one after the other, in milliseconds. */
  p50: number;
  p99: number;
  max: number;
  echoes: number;
}

/** Download and echo for `seconds`. `source` sends for ever, `echo` echoes. */
export function measure(
  guest: Namespace,
  host: string,
  ports: { source: number; echo: number },
  seconds: number,
): Promise<Measured> {
  return guest.evaluate(
    async (to: string, source: number, echo: number, limit: number): Promise<Measured> => {
      const { connect } = await import('node:net');
      let bytes = 0;
      const download = connect({ host: to, port: source });
      download.on('data', (part: Buffer) => {
        bytes += part.length;
      });
      download.on('error', () => undefined);
      const times: number[] = [];
      const talk = connect({ host: to, port: echo });
      await new Promise<void>((resolve, reject) => {
        talk.once('connect', resolve);
        talk.once('error', reject);
      });
      talk.setNoDelay(true);
      const message = Buffer.alloc(64, 1);
      const start = performance.now();
      while (performance.now() - start < limit * 1000) {
        const from = performance.now();
        talk.write(message);
        await new Promise<void>((resolve, reject) => {
          let got = 0;
          const take = (part: Buffer): void => {
            got += part.length;
            if (got < message.length) return;
            talk.off('data', take);
            resolve();
          };
          talk.on('data', take);
          talk.once('close', () => reject(new Error('the echo connection was cut')));
        });
        talk.removeAllListeners('close');
        times.push(performance.now() - from);
      }
      const elapsed = (performance.now() - start) / 1000;
      download.destroy();
      talk.destroy();
      times.sort((a, b) => a - b);
      const at = (share: number): number =>
        times[Math.min(times.length - 1, Math.floor(times.length * share))] as number;
      return {
        megabytesPerSecond: bytes / 1e6 / elapsed,
        p50: at(0.5),
        p99: at(0.99),
        max: times.at(-1) as number,
        echoes: times.length,
      };
    },
    [host, ports.source, ports.echo, seconds],
    (seconds + 30) * 1000,
  );
}
