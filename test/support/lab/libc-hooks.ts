/**
 * Module hook (node:module `register`): every import of `src/sys/libc` gets `libc-switch` instead, except the one that
 * the switch itself makes. So a test puts a system of its own under the whole program, and the program has no seam
 * for it: not one instruction on the packet path knows that there are tests.
 */

interface Resolved {
  url: string;
}
type NextResolve = (specifier: string, context: { parentURL?: string }) => Promise<Resolved>;

let target = '';

export function initialize(data: { target: string }): void {
  target = data.target;
}

export async function resolve(
  specifier: string,
  context: { parentURL?: string },
  next: NextResolve,
): Promise<Resolved> {
  const found = await next(specifier, context);
  if (!/\/src\/sys\/libc\.[jt]s$/.test(found.url) || context.parentURL === target) return found;
  return { ...found, url: target };
}
