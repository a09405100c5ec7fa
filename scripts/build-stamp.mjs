// Writes dist/src/build-stamp.json: when this was built, and of which commit. SOURCE_DATE_EPOCH, or the time of the commit, so that building
// the same source again gives the same files (but for V8's, see bundle.mjs); without either, now.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

function seconds() {
  if (process.env.SOURCE_DATE_EPOCH) return Number(process.env.SOURCE_DATE_EPOCH);
  try {
    return Number(
      execFileSync('git', ['log', '-1', '--format=%ct'], { stdio: ['ignore', 'pipe', 'ignore'] }),
    );
  } catch {
    return Date.now() / 1000;
  }
}

/** Null: this is no checkout. */
function commit() {
  try {
    const stdio = ['ignore', 'pipe', 'ignore'];
    return String(execFileSync('git', ['rev-parse', 'HEAD'], { stdio })).trim();
  } catch {
    return null;
  }
}

const builtAt = new Date(seconds() * 1000).toISOString();
writeFileSync(
  new URL('../dist/src/build-stamp.json', import.meta.url),
  `${JSON.stringify({ builtAt, commit: commit() })}\n`,
);
