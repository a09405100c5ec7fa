/**
 * Runs net-actions.ts inside a guest: a Node process there takes calls on its standard input, a line of JSON each, and
 * answers on its standard output. One process serves all tests of a file.
 */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Namespace } from './namespaces.ts';
import { type Actions, actions } from './net-actions.ts';
import type { Running } from './processes.ts';
import { within } from './wait.ts';

interface Call {
  id: number;
  name: keyof Actions;
  args: unknown[];
}

interface Answer {
  id: number;
  result?: unknown;
  error?: string;
}

const CALL_MS = 15_000;

export class GuestAgent {
  readonly #running: Running;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #next = 1;

  constructor(namespace: Namespace) {
    this.#running = namespace.start([process.execPath, fileURLToPath(import.meta.url)]);
    createInterface({ input: this.#running.child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
  }

  async call<N extends keyof Actions>(
    name: N,
    ...args: Parameters<Actions[N]>
  ): Promise<Awaited<ReturnType<Actions[N]>>> {
    const id = this.#next++;
    const answered = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.#running.child.stdin?.write(`${JSON.stringify({ id, name, args } satisfies Call)}\n`);
    const answer = await within(answered, `${name} in the guest (${this.#running.stderr})`, CALL_MS);
    if (answer.error !== undefined) throw new Error(`${name} in the guest: ${answer.error}`);
    return answer.result as Awaited<ReturnType<Actions[N]>>;
  }

  async stop(): Promise<void> {
    await this.#running.stop();
  }
}

/** The other end, in the guest. */
function serve(): void {
  createInterface({ input: process.stdin }).on('line', async (line) => {
    const { id, name, args } = JSON.parse(line) as Call;
    let answer: Answer;
    try {
      const action = actions[name] as (...args: unknown[]) => Promise<unknown>;
      answer = { id, result: await action(...args) };
    } catch (error) {
      answer = { id, error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve();
