/** What the data plane says went wrong, under the code that the embedder knows it by. */
import { ForwardRefused } from '../control/engine-client.ts';
import { DeviceError } from '../device-error.ts';
import { badConfig, type ErrorCode, TslirpError } from './errors.ts';

const EPERM = 1;
const EBADF = 9;
const EACCES = 13;
const EADDRINUSE = 98;

const byErrno: Readonly<Record<number, ErrorCode>> = {
  [EPERM]: 'PERMISSION',
  [EACCES]: 'PERMISSION',
  [EADDRINUSE]: 'ADDRESS_IN_USE',
};

export function failureOf(error: unknown): TslirpError {
  if (error instanceof TslirpError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof ForwardRefused) return withErrno(error.errno, 'forwards', error);
  if (error instanceof DeviceError) {
    if (error.step !== 'descriptor') {
      const isCapture = error.step === 'capture' || error.step === 'captureHeader';
      return withErrno(error.error, isCapture ? 'capture' : 'link', error);
    }
    const code = error.error === EBADF ? 'FD_INVALID' : 'FD_UNSUPPORTED';
    return new TslirpError(code, message, { detail: { path: 'link.fd' }, cause: error });
  }
  return new TslirpError('INTERNAL', message, { cause: error });
}

/** The system said no, or the configuration is of no use. */
function withErrno(errno: number, path: string, error: Error): TslirpError {
  const code = byErrno[errno];
  if (code === undefined) return badConfig(path, error.message, error);
  return new TslirpError(code, error.message, { detail: { path, errno }, cause: error });
}
