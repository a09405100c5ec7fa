/** A forward could not be opened: the errno for programs, one line for people. Set-up only, never thrown for a packet. */
import { EACCES, errnoText } from '../../sys/errno.ts';

export class ForwardError extends Error {
  /** Positive errno. */
  readonly errno: number;
  /** Of several ports, the one that it is about; 0: there is but one. */
  readonly port: number;

  constructor(errno: number, message: string, port = 0) {
    super(message);
    this.errno = errno;
    this.port = port;
  }
}

/** `-errno` of listening on `where`. */
export function listenError(where: string, result: number): ForwardError {
  const hint =
    -result === EACCES ? ' (for ports below net.ipv4.ip_unprivileged_port_start a privilege is needed)' : '';
  return new ForwardError(-result, `cannot listen on ${where}: ${errnoText(result)}${hint}`);
}
