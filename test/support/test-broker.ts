/** A broker (bin/broker.pl) of a process that is not ours, and our end of its socket. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { close } from '../../src/sys/io.ts';
import { MessageSocket } from '../../src/sys/pass-descriptor.ts';
import { takeDescriptor } from './pidfd.ts';
import { programPath } from './program-path.ts';
import { until } from './wait.ts';

const MESSAGE_BYTES = 65536;
const EAGAIN = 11;

export class TestBroker {
  readonly pid: number;
  readonly socket: MessageSocket;
  readonly #main: ChildProcess;

  private constructor(main: ChildProcess, pid: number, fd: number) {
    this.#main = main;
    this.pid = pid;
    this.socket = new MessageSocket(fd, MESSAGE_BYTES);
  }

  /** `args` are the words that the main process was started with. */
  static async start(args: readonly string[] = [], prefix: readonly string[] = []): Promise<TestBroker> {
    const program = `$| = 1; require "${programPath('launch.pl')}"; my ($end, $pid) = start_broker('test', 1, '');
      print fileno($end), " $pid\\n"; <STDIN>`;
    const [file = '', ...words] = [...prefix, 'perl', '-e', program, '--', ...args];
    const main = spawn(file, words, { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(main.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    const [fd, pid] = line.toString().split(' ').map(Number);
    return new TestBroker(main, pid as number, takeDescriptor(main.pid ?? 0, fd as number));
  }

  get mainPid(): number {
    return this.#main.pid ?? 0;
  }

  order(...fields: (string | number)[]): void {
    this.socket.send(Buffer.from(fields.join('\0'), 'latin1'));
  }

  /** The next message, NUL as `|`; empty: it has ended. */
  async next(): Promise<string> {
    let length = 0;
    await until(() => {
      length = this.socket.receive();
      return length !== -EAGAIN;
    }, 'a message of the broker');
    return length > 0 ? this.socket.text.replaceAll('\0', '|') : '';
  }

  /** Messages until one fits. */
  async nextLike(pattern: RegExp): Promise<string> {
    for (;;) {
      const message = await this.next();
      if (pattern.test(message)) return message;
      if (message === '') throw new Error(`the broker has ended without ${pattern}`);
    }
  }

  /** As if our process had ended. */
  async stop(): Promise<void> {
    close(this.socket.fd);
    this.#main.stdin?.end();
    if (this.#main.exitCode === null) await once(this.#main, 'exit');
  }
}
