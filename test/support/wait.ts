/** Waiting in tests: for a condition or a promise, never for a time, and never without a deadline. */

/** How often a condition is looked at, in milliseconds. */
const POLL_MS = 5;
/** When a wait is given up where nobody says otherwise. No test asserts it: a machine with other work takes its time. */
export const PATIENCE_MS = 60_000;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Looks until `holds` is true. Rejects, naming `what`, after `limitMs`. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  limitMs: number = PATIENCE_MS,
  everyMs: number = POLL_MS,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${limitMs} ms`);
    await pause(everyMs);
  }
}

/** `promise`, or a rejection that names `what` after `limitMs`. */
export async function within<T>(
  promise: Promise<T>,
  what: string,
  limitMs: number = PATIENCE_MS,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The least of what `measure` gives in up to `tries`, of which the first that is not beyond `bound` is the last: a fault
 * is there each time, what else the machine does is not.
 */
export async function least(
  bound: number,
  measure: () => number | Promise<number>,
  tries = 3,
): Promise<number> {
  let result = Number.POSITIVE_INFINITY;
  for (let i = 0; i < tries && result > bound; i++) result = Math.min(result, await measure());
  return result;
}
