/** The library: a network stack for a guest, as an object of this program's. */
import { packageVersion } from './package-root.ts';

export { type ControlHandle, type ServeControlOptions, serveControl } from './daemon/serve-control.ts';
export { type ErrorCode, errorCodes, errorNumber, TslirpError } from './embed/errors.ts';
export {
  type IntegrityReason,
  type Verified,
  type VerifyOptions,
  verifyInstallation,
} from './embed/integrity/verify.ts';
export { openTunnel } from './embed/open-tunnel.ts';
export type * from './embed/tunnel.ts';
export type * from './embed/types.ts';

/** Of this package. */
export const version: string = packageVersion();
