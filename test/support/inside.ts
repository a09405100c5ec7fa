/**
 * Code of ours inside a confined process: what it could do that somebody has taken over. A copy of the programs, whose main
 * thread, once it is confined, runs a function and says what it returns.
 */
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { directory, programPath } from './namespaces.ts';
import type { Running } from './processes.ts';
import { until } from './wait.ts';

export interface Tools {
  fs: typeof import('node:fs');
  /** A system call by its numbers on x86-64 and arm64: its result, or `-errno`. Buffers are passed by address. */
  call: (numbers: readonly [x64: number, arm64: number], ...args: (number | Buffer)[]) => number;
  /** What the test hands over. */
  given: string;
}

const LOADER = (probe: string, given: string, filtered: boolean): string => `
{
  const fs = require('node:fs');
  const koffi = require('koffi');
  const syscall = koffi.load(null).func('long syscall(long, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t)');
  const call = (numbers, ...args) => {
    const words = args.map((arg) => (typeof arg === 'number' ? arg : koffi.address(arg)));
    while (words.length < 6) words.push(0);
    const result = Number(syscall(numbers[process.arch === 'arm64' ? 1 : 0], ...words));
    return result < 0 ? -koffi.errno() : result;
  };
  const timer = setInterval(() => {
    if (fs.existsSync('/dev') || (${filtered} && !/^Seccomp_filters:\\t2$/m.test(fs.readFileSync('/proc/self/status', 'latin1')))) return;
    clearInterval(timer);
    let result;
    try {
      result = (${probe})({ fs, call, given: ${JSON.stringify(given)} });
    } catch (error) {
      result = String(error.stack);
    }
    fs.writeSync(2, '\\nPROBE ' + JSON.stringify(result) + '\\n');
  }, 10);
}
`;

export interface ProbeOptions {
  given?: string;
  /** Wait for the system call filter as well, not only for the closed file system. */
  filtered?: boolean;
}

/** A copy of program `name` that runs `body` inside; its path. `body` sees its argument and nothing else. */
export function probing(
  name: 'tslirp' | 'slirp4netns',
  body: (tools: Tools) => unknown,
  { given = '', filtered = true }: ProbeOptions = {},
): string {
  const bin = dirname(programPath(name));
  const copy = mkdtempSync(join(directory, 'inside-'));
  cpSync(bin, join(copy, 'bin'), { recursive: true });
  mkdirSync(join(copy, 'dist'));
  cpSync(join(bin, '../dist/bundle'), join(copy, 'dist/bundle'), { recursive: true });
  cpSync(join(bin, '../package.json'), join(copy, 'package.json'));
  symlinkSync(join(bin, '../node_modules'), join(copy, 'node_modules'));
  const main = join(copy, `dist/bundle/${name}.cjs`);
  writeFileSync(main, LOADER(body.toString(), given, filtered) + readFileSync(main, 'latin1'));
  // Whoever runs it may be another user.
  chmodSync(copy, 0o755);
  return join(copy, 'bin', name);
}

/** What the probe has said. */
export async function probed<T>(stack: Running): Promise<T> {
  const said = (): string | undefined => /^PROBE (.*)$/m.exec(stack.stderr + stack.stdout)?.[1];
  await until(() => said() !== undefined || !stack.running, 'the probe');
  const text = said();
  if (text === undefined) throw new Error(`the probe has said nothing: ${stack.stderr}`);
  const result = JSON.parse(text) as T | string;
  if (typeof result === 'string') throw new Error(result);
  return result;
}
