/**
 * A reporter of the test runner for what stands at the end of a long run: totals, and of each test that failed its name
 * and what its error says. Whoever sees only the end of the output has to know what happened.
 */
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

/** Of an error's message, and of what a program said that ended badly. */
const MOST_LINES = 6;
const MOST_COLUMNS = 200;

interface Failure {
  failureType?: string;
  message?: string;
  cause?: unknown;
  exitCode?: number | null;
  signal?: string | null;
}

function shortened(lines: string[]): string {
  return lines.map((line) => `    ${line.slice(0, MOST_COLUMNS)}\n`).join('');
}

function printed(text: string): string[] {
  return text.split('\n').filter((line) => line.trim() !== '' && !line.includes('(node:internal/'));
}

/** What went wrong, and where in a test. */
function explanation({ message = '', cause, exitCode, signal }: Failure): string[] {
  const text = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause ?? message);
  // A file, of which the process is all that is known.
  if (exitCode !== undefined) return [`its process ended: ${signal ?? `status ${exitCode}`}`];
  const lines = printed(text);
  const frames = lines.filter((line) => /^\s+at /.test(line));
  const where = frames.find((line) => /\/test\/|\.test\./.test(line));
  const said = lines.filter((line) => !frames.includes(line)).slice(0, MOST_LINES);
  return where === undefined ? said : [...said, where.trim()];
}

// biome-ignore lint/style/noDefaultExport: the form of a reporter.
export default async function* failures(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const stderr = new Map<string, string>();
  for await (const { type, data } of events) {
    if (type === 'test:diagnostic' && data.nesting === 0) {
      if (/^(tests|pass|fail|cancelled|skipped|todo) \d+$/.test(data.message)) yield `# ${data.message}\n`;
    } else if (type === 'test:stderr') {
      stderr.set(data.file, (stderr.get(data.file) ?? '').slice(-8192) + data.message);
    } else if (type === 'test:fail') {
      const error = data.details.error as Failure;
      // A suite fails with its tests, and they have said why.
      if (error.failureType === 'subtestsFailed') continue;
      const file = relative(process.cwd(), data.file ?? '');
      const name = data.name === data.file ? '' : `${data.name}, `;
      yield `✖ ${name}${file}\n${shortened(explanation(error))}`;
      const said = name === '' ? stderr.get(data.name) : undefined;
      if (said !== undefined) yield shortened(printed(said).slice(-MOST_LINES));
    }
  }
}
