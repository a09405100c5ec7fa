/** System errors in the words of Go's syscall package (Linux), which callers of slirpnetstack may look for. */
import { getSystemErrorMap } from 'node:util';

/** Where Go and libuv differ; the rest is the same. */
const goTexts: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'cannot assign requested address',
  EAFNOSUPPORT: 'address family not supported by protocol',
  EAGAIN: 'resource temporarily unavailable',
  EBUSY: 'device or resource busy',
  ECONNABORTED: 'software caused connection abort',
  EHOSTUNREACH: 'no route to host',
  EHOSTDOWN: 'host is down',
  EISDIR: 'is a directory',
  ELOOP: 'too many levels of symbolic links',
  EEXIST: 'file exists',
  EFAULT: 'bad address',
  EMFILE: 'too many open files',
  ENAMETOOLONG: 'file name too long',
  ENFILE: 'too many open files in system',
  ENOMEM: 'cannot allocate memory',
  ENOTCONN: 'transport endpoint is not connected',
  ENOTSOCK: 'socket operation on non-socket',
  ENOTTY: 'inappropriate ioctl for device',
  ENXIO: 'no such device or address',
  EOPNOTSUPP: 'operation not supported',
  ENOTSUP: 'operation not supported',
  EROFS: 'read-only file system',
  ETIMEDOUT: 'connection timed out',
  EPROTO: 'protocol error',
  EIO: 'input/output error',
};

/** The text of a positive errno. */
export function goErrorText(errno: number): string {
  const [name, text] = getSystemErrorMap().get(-errno) ?? [];
  if (name === undefined || text === undefined) return `errno ${errno}`;
  return goTexts[name] ?? text;
}

/** The text of an error that Node has thrown for a system call; of another one, its message. */
export function goErrorOf(error: unknown): string {
  const { errno, message = String(error) } = error as NodeJS.ErrnoException;
  return errno === undefined ? message : goErrorText(Math.abs(errno));
}
