/** Times in ms and numbers of messages of the protocol (the WireGuard paper §6.1). */

export const REKEY_AFTER_MS = 120_000;
export const REJECT_AFTER_MS = 180_000;
export const REKEY_ATTEMPT_MS = 90_000;
export const REKEY_TIMEOUT_MS = 5000;
/** Up to so much is added to a repetition, lest both ends go on beginning at once. */
export const JITTER_MS = 334;
export const KEEPALIVE_TIMEOUT_MS = 10_000;
/** All keys are wiped after so long without a new session. */
export const ZERO_KEYS_MS: number = 3 * REJECT_AFTER_MS;
export const COOKIE_MS = 120_000;
/** Between two initiations of one peer. */
export const INITIATION_INTERVAL_MS = 20;
/** Where others have 2^60 and 2^64: a counter is a JavaScript number here. */
export const REKEY_AFTER_MESSAGES: number = 2 ** 48;
export const REJECT_AFTER_MESSAGES: number = 2 ** 52;
