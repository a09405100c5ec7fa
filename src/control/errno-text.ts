/**
 * The text of strerror(3) for an error that Node has thrown: its own messages are worded and spelt otherwise. `sys` has
 * the same for the data plane's system calls, but loading it would load the foreign function library.
 */
import { getSystemErrorMap } from 'node:util';

/** Where libuv says something else than the C library. */
const exceptions: Record<string, string> = {
  EISDIR: 'Is a directory',
  ENAMETOOLONG: 'File name too long',
  ELOOP: 'Too many levels of symbolic links',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EIO: 'Input/output error',
  EBUSY: 'Device or resource busy',
  ENOMEM: 'Cannot allocate memory',
  ENFILE: 'Too many open files in system',
};

/** In the words of the C library; of anything else the message it carries. */
export function errnoTextOf(error: unknown): string {
  const { code = '', message = String(error) } = error as NodeJS.ErrnoException;
  const known = exceptions[code];
  if (known !== undefined) return known;
  for (const [name, text] of getSystemErrorMap().values())
    if (name === code) return text.charAt(0).toUpperCase() + text.slice(1);
  return message;
}
