/** The benchmark's side of an agent: starts it inside a namespace and asks it things, each with a time limit. */
import { fileURLToPath } from 'node:url';
import type { Operation, Reply, Request } from './agent/protocol.ts';
import { inside } from './namespaces.ts';
import { kill, manyDescriptors, type Owned, start } from './processes.ts';

// Runs from dist (.js) or, in development, from the sources (.ts) under the same loader as we do.
const suffix = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const PROGRAM = fileURLToPath(new URL(`./agent/main.${suffix}`, import.meta.url));

/** A program at one end of the stack. */
export class Agent {
  readonly #process: Owned;
  #text = '';
  #deliver: ((line: string) => void) | undefined;
  #fail: ((error: Error) => void) | undefined;

  /** Start an agent in the network namespace of `pid`, pinned to `cpu` if given. */
  constructor(pid: number, cpu?: number) {
    const pin = cpu === undefined ? [] : ['taskset', '--cpu-list', String(cpu)];
    const node = [process.execPath, ...process.execArgv, PROGRAM];
    this.#process = start(inside(pid, [...manyDescriptors(), ...pin, ...node]), ['pipe', 'pipe', 'pipe']);
    this.#process.child.stdin?.on('error', () => undefined);
    this.#process.child.stdout?.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('utf8');
      const end = this.#text.indexOf('\n');
      if (end < 0) return;
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      this.#deliver?.(line);
    });
    void this.#process.ended.then((code) => {
      this.#fail?.(new Error(`agent ended with ${code}: ${this.#process.complaints()}`));
    });
  }

  /** One request, one reply; rejects when the agent fails, ends, or does not answer within `timeoutMs`. */
  async ask<O extends Operation>(operation: O, request: Request<O>, timeoutMs = 10_000): Promise<Reply<O>> {
    let timer: NodeJS.Timeout | undefined;
    const line = await new Promise<string>((resolve, reject) => {
      this.#deliver = resolve;
      this.#fail = reject;
      timer = setTimeout(
        () => reject(new Error(`${operation}: no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      this.#process.child.stdin?.write(`${JSON.stringify({ operation, request })}\n`);
    }).finally(() => clearTimeout(timer));
    const reply = JSON.parse(line) as Reply<O> & { error?: string };
    if (reply.error !== undefined) throw new Error(`${operation}: ${reply.error}`);
    return reply;
  }

  /** End it. */
  async stop(): Promise<void> {
    await kill(this.#process);
  }
}
