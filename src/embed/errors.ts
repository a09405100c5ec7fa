/** What goes wrong for whoever embeds us, under codes that are a closed list. */

/**
 * In the order of their numbers for callers that know no names: the first is -1. None is ever used for something else, and
 * new ones come at the end.
 *
 * - `BAD_CONFIG`: the configuration cannot be used; `detail.path` names the field, with dots
 * - `FD_INVALID`: a descriptor is not open
 * - `FD_UNSUPPORTED`: a descriptor is nothing that packets come by
 * - `PERMISSION`: the system does not allow it
 * - `ADDRESS_IN_USE`: a port or a socket's path belongs to somebody else
 * - `SETTINGS_REJECTED`: `applySettings` has thrown (`cause`), or has not answered
 * - `START_TIMEOUT`: `startTimeoutMs` is over
 * - `ABORTED`: as the caller's `AbortSignal` says (`cause`)
 * - `NOT_RUNNING`: the tunnel is over, or there is none of that name
 * - `ALREADY_RUNNING`: there is a tunnel on this descriptor
 * - `PROTOCOL`: the other end of the control protocol does not keep to it
 * - `VERSION_MISMATCH`: the two ends have no version in common, or the installation is of another
 * - `INTEGRITY`: the installation is not what its manifest says; `detail.reason`
 * - `CHILD_EXITED`: the stack's process is gone
 * - `LIMIT`: there is too much of something
 * - `INTERNAL`: a defect of ours
 */
export const errorCodes = [
  'BAD_CONFIG',
  'FD_INVALID',
  'FD_UNSUPPORTED',
  'PERMISSION',
  'ADDRESS_IN_USE',
  'SETTINGS_REJECTED',
  'START_TIMEOUT',
  'ABORTED',
  'NOT_RUNNING',
  'ALREADY_RUNNING',
  'PROTOCOL',
  'VERSION_MISMATCH',
  'INTEGRITY',
  'CHILD_EXITED',
  'LIMIT',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** The code's number: −1 …. */
export function errorNumber(code: ErrorCode): number {
  return -1 - errorCodes.indexOf(code);
}

/** Everything that this library throws and rejects with. The message is one line, with nothing in it that was not printable. */
export class TslirpError extends Error {
  override readonly name = 'TslirpError';
  readonly code: ErrorCode;
  readonly detail?: Record<string, unknown>;

  constructor(
    code: ErrorCode,
    message: string,
    { detail, cause }: { detail?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(printable(message), cause === undefined ? undefined : { cause });
    this.code = code;
    if (detail !== undefined) this.detail = detail;
  }
}

/** The configuration is of no use; `path` names the field, as `link.fd`. */
export function badConfig(path: string, fault: string, cause?: unknown): TslirpError {
  return new TslirpError('BAD_CONFIG', `${path}: ${fault}`, { detail: { path }, cause });
}

/** Some of it is the guest's to choose, and it may be read on a terminal. */
function printable(text: string): string {
  return text.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
