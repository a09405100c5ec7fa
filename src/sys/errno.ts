/** Linux error numbers (asm-generic/errno.h: the same on x86-64 and arm64). System calls here return `-errno`. */
export const EPERM = 1;

export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EROFS = 30;
export const EPIPE = 32;
export const ENAMETOOLONG = 36;
export const EBADFD = 77;
export const ENOTSOCK = 88;
export const EMSGSIZE = 90;
export const EPROTO = 71;
export const ENOPROTOOPT = 92;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ENETUNREACH = 101;
export const ECONNABORTED = 103;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
export const EINPROGRESS = 115;

const texts: Record<number, string> = {
  [EPERM]: 'Operation not permitted',
  [ENOENT]: 'No such file or directory',
  [EINTR]: 'Interrupted system call',
  [EIO]: 'Input/output error',
  [EBADF]: 'Bad file descriptor',
  [EAGAIN]: 'Resource temporarily unavailable',
  [ENOMEM]: 'Cannot allocate memory',
  [EACCES]: 'Permission denied',
  [ENODEV]: 'No such device',
  [EINVAL]: 'Invalid argument',
  [ENFILE]: 'Too many open files in system',
  [EMFILE]: 'Too many open files',
  [EPIPE]: 'Broken pipe',
  [ENAMETOOLONG]: 'File name too long',
  [ENOTSOCK]: 'Socket operation on non-socket',
  [EBADFD]: 'File descriptor in bad state',
  [EMSGSIZE]: 'Message too long',
  [EPROTO]: 'Protocol error',
  [EOPNOTSUPP]: 'Operation not supported',
  [EAFNOSUPPORT]: 'Address family not supported by protocol',
  [EADDRINUSE]: 'Address already in use',
  [EADDRNOTAVAIL]: 'Cannot assign requested address',
  [ENETDOWN]: 'Network is down',
  [ENETUNREACH]: 'Network is unreachable',
  [ECONNABORTED]: 'Software caused connection abort',
  [ECONNRESET]: 'Connection reset by peer',
  [ENOBUFS]: 'No buffer space available',
  [ENOTCONN]: 'Transport endpoint is not connected',
  [ETIMEDOUT]: 'Connection timed out',
  [ECONNREFUSED]: 'Connection refused',
  [EHOSTUNREACH]: 'No route to host',
  [EINPROGRESS]: 'Operation now in progress',
};

/** The text strerror(3) gives, for messages. Takes `errno` or `-errno`. */
export function errnoText(code: number): string {
  const number = Math.abs(code);
  return texts[number] ?? `Error ${number}`;
}
