/** A forward could not be opened: the errno for programs, one line for people. Set-up only, never thrown for a packet. */
export class ForwardError extends Error {
  /** Positive errno. */
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}
