/**
 * The one door to the C library. Every other file of `sys` declares its functions here, so that there is a single
 * library handle and a single place that knows how errors come back.
 *
 * Pointer arguments are declared `uintptr_t` and passed as plain numbers: koffi then allocates nothing per call.
 * Only `sys/memory` turns an arena offset into such a number.
 */
import koffi from 'koffi';

// null = the running program itself, which has libc mapped already: works on glibc and musl alike.
const library = koffi.load(null);

/** A foreign function taking and returning numbers (or strings for `str` arguments, lists that end in null for `char **`). */
export type LibcFunction = (...args: (number | string | readonly (string | null)[])[]) => number;

/** Declare `name` with C types as koffi spells them; throws at start-up when the symbol does not exist. */
export function libcFunction(name: string, result: string, args: readonly string[]): LibcFunction {
  return library.func(name, result, args as string[]) as unknown as LibcFunction;
}

/**
 * As `libcFunction`, of functions that may not be there: of those of the running program, or of the library with this name.
 * Throws when there is no such library.
 */
export function functionsOf(library: string | null): typeof libcFunction {
  const loaded = koffi.load(library);
  return (name, result, args) => loaded.func(name, result, args as string[]) as unknown as LibcFunction;
}

/** The calling thread's `errno` as the last foreign call left it. */
export function errno(): number {
  return koffi.errno();
}

/** The machine address of the first byte of `buffer`; valid while the caller keeps the buffer alive. */
export function addressOf(buffer: ArrayBufferLike | ArrayBufferView): number {
  return Number(koffi.address(buffer));
}
