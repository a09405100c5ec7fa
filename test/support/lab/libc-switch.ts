/**
 * What tests run instead of `src/sys/libc` (see libc-hooks.ts): the same functions, with a `System` in between once one
 * was put there. Until then, and for what the system passes through, the C library is called as ever.
 */
import {
  type LibcFunction,
  addressOf as realAddressOf,
  errno as realErrno,
  libcFunction as realLibcFunction,
} from '../../../src/sys/libc.ts';

/** Something that answers system calls: a fake kernel, or faults in front of the real one. */
export interface System {
  /** The result of `name`, or `-errno`. `real` makes the call and returns in the same form. */
  call(name: string, args: readonly number[], real: () => number): number;
}

let system: System | null = null;
let lastErrno = 0;

export function setSystem(next: System | null): void {
  system = next;
}

export type { LibcFunction };

export function libcFunction(name: string, result: string, args: readonly string[]): LibcFunction {
  const real = realLibcFunction(name, result, args);
  return (...values) => {
    if (system === null) return real(...values);
    const n = system.call(name, values as number[], () => {
      const m = real(...values);
      return m < 0 ? -realErrno() : m;
    });
    if (n >= 0) return n;
    lastErrno = -n;
    return -1;
  };
}

export function errno(): number {
  return system === null ? realErrno() : lastErrno;
}

export function addressOf(buffer: ArrayBufferLike | ArrayBufferView): number {
  return realAddressOf(buffer);
}
