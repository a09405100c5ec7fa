/**
 * Time in which this program ran: a machine that is busy elsewhere and lets it wait is not taken for a stack that does. A
 * timer ticks; of the time between two ticks no more counts than three should take.
 */
export interface OwnTime {
  /** Milliseconds since the beginning. */
  now(): number;
  /** Call `action` after `ms`, unless what is returned is called before. */
  after(ms: number, action: () => void): () => void;
  stop(): void;
}

/** A function by itself, so that its text can be a part of a guest's program. */
export function ownTime(): OwnTime {
  const tickMs = 10;
  let counted = 0;
  let last = performance.now();
  const now = (): number => counted + Math.min(performance.now() - last, 3 * tickMs);
  const timer = setInterval(() => {
    counted = now();
    last = performance.now();
  }, tickMs);
  return {
    now,
    after: (ms, action) => {
      const end = now() + ms;
      let waiting: NodeJS.Timeout;
      const look = (): void => {
        const left = end - now();
        if (left <= 0) action();
        else waiting = setTimeout(look, left);
      };
      waiting = setTimeout(look, ms);
      return () => clearTimeout(waiting);
    },
    stop: () => clearInterval(timer),
  };
}
