/**
 * The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard has it (the WireGuard paper §5.4.2 to §5.4.5), without
 * the two MACs at the end of its messages, which are cookie.ts's. Pure: ephemeral keys, indices and times are arguments.
 */
import { INITIATION_BYTES, MessageType, RESPONSE_BYTES } from './message.ts';
import { type Bytes, hash, KEY_BYTES, kdf, open, type PrivateKey, seal, TAG_BYTES } from './primitives.ts';

const CONSTRUCTION = Buffer.from('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s');
const IDENTIFIER = Buffer.from('WireGuard v1 zx2c4 Jason@zx2c4.com');
const NOTHING = new Uint8Array(0);

/** Chaining key and hash before the first message. */
export const INITIAL_CHAIN: Bytes = hash(CONSTRUCTION);
export const INITIAL_HASH: Bytes = hash(INITIAL_CHAIN, IDENTIFIER);

export const TIMESTAMP_BYTES = 12;
const INITIATION_EPHEMERAL_AT = 8;
const STATIC_AT = 40;
const TIMESTAMP_AT = 88;
const RESPONSE_EPHEMERAL_AT = 12;
const EMPTY_AT = 44;

/** What both ends have agreed on by an initiation. */
export interface HandshakeState {
  chain: Bytes;
  hash: Bytes;
}

/** An initiation of ours that waits for its response. */
export interface SentInitiation extends HandshakeState {
  index: number;
  ephemeral: PrivateKey;
}

/** An initiation that was received, read but for whose it is. */
export interface OpenedInitiation extends HandshakeState {
  index: number;
  ephemeral: Bytes;
  staticKey: Bytes;
}

/** Keys for the packets of a session. */
export interface SessionKeys {
  send: Bytes;
  receive: Bytes;
}

/** The peer, to the handshake. */
export interface RemoteKeys {
  readonly publicKey: Uint8Array;
  /** X25519 of both static keys. */
  readonly shared: Uint8Array;
  /** 32 zero bytes where there is none. */
  readonly presharedKey: Uint8Array;
}

/** TAI64N (the low 24 bits of the nanoseconds are nobody's business) of a time in ms since 1970. */
export function timestamp(unixMs: number): Bytes {
  const out = new Uint8Array(TIMESTAMP_BYTES);
  const view = new DataView(out.buffer);
  const seconds = Math.floor(unixMs / 1000);
  view.setBigUint64(0, 0x400000000000000an + BigInt(seconds));
  view.setUint32(8, (Math.round((unixMs - seconds * 1000) * 1e6) & 0xff000000) >>> 0);
  return out;
}

/** Write an initiation to `out` (`INITIATION_BYTES`, MACs left out); null: the peer's key is none. */
export function createInitiation(
  out: Uint8Array,
  local: PrivateKey,
  remote: RemoteKeys,
  ephemeral: PrivateKey,
  index: number,
  time: Uint8Array,
): SentInitiation | null {
  const state = { chain: INITIAL_CHAIN.slice(), hash: hash(INITIAL_HASH, remote.publicKey) };
  begin(out.subarray(0, INITIATION_BYTES), MessageType.Initiation, index);
  out.set(ephemeral.publicKey, INITIATION_EPHEMERAL_AT);
  mixEphemeral(state, ephemeral.publicKey);
  const secret = ephemeral.agree(remote.publicKey);
  if (secret === null) return null;
  const staticKey = mixKey(state, secret);
  const sealedStatic = seal(staticKey, local.publicKey, state.hash);
  out.set(sealedStatic, STATIC_AT);
  mixHash(state, sealedStatic);
  const timeKey = mixKey(state, remote.shared);
  const sealedTime = seal(timeKey, time, state.hash);
  out.set(sealedTime, TIMESTAMP_AT);
  mixHash(state, sealedTime);
  wipe(secret, staticKey, timeKey);
  return { ...state, index, ephemeral };
}

/** Read an initiation as far as whose it is; null: it is not for us. */
export function openInitiation(message: Uint8Array, local: PrivateKey): OpenedInitiation | null {
  const state = { chain: INITIAL_CHAIN.slice(), hash: hash(INITIAL_HASH, local.publicKey) };
  const ephemeral = message.slice(INITIATION_EPHEMERAL_AT, STATIC_AT) as Bytes;
  mixEphemeral(state, ephemeral);
  const secret = local.agree(ephemeral);
  if (secret === null) return null;
  const key = mixKey(state, secret);
  const sealed = message.subarray(STATIC_AT, TIMESTAMP_AT);
  const staticKey = open(key, sealed, state.hash);
  wipe(secret, key);
  if (staticKey === null) return null;
  mixHash(state, sealed);
  return { ...state, index: indexAt(message, 4), ephemeral, staticKey };
}

/** The time in an initiation of `remote`, which proves that it is the peer's; null: it is not. */
export function openTimestamp(
  message: Uint8Array,
  initiation: OpenedInitiation,
  remote: RemoteKeys,
): Bytes | null {
  const key = mixKey(initiation, remote.shared);
  const sealed = message.subarray(TIMESTAMP_AT, TIMESTAMP_AT + TIMESTAMP_BYTES + TAG_BYTES);
  const time = open(key, sealed, initiation.hash);
  wipe(key);
  if (time !== null) mixHash(initiation, sealed);
  return time;
}

/** Write the response to `out` (`RESPONSE_BYTES`, MACs left out): the keys of the session, or null: a key of theirs is none. */
export function createResponse(
  out: Uint8Array,
  initiation: OpenedInitiation,
  remote: RemoteKeys,
  ephemeral: PrivateKey,
  index: number,
): SessionKeys | null {
  begin(out.subarray(0, RESPONSE_BYTES), MessageType.Response, index);
  putIndex(out, 8, initiation.index);
  out.set(ephemeral.publicKey, RESPONSE_EPHEMERAL_AT);
  mixEphemeral(initiation, ephemeral.publicKey);
  const secret = ephemeral.agree(initiation.ephemeral);
  const staticSecret = ephemeral.agree(remote.publicKey);
  if (secret === null || staticSecret === null) return null;
  mixChain(initiation, secret);
  mixChain(initiation, staticSecret);
  const key = mixPresharedKey(initiation, remote.presharedKey);
  const empty = seal(key, NOTHING, initiation.hash);
  out.set(empty, EMPTY_AT);
  mixHash(initiation, empty);
  const [receive, send] = kdf(2, initiation.chain, NOTHING) as [Bytes, Bytes];
  wipe(secret, staticSecret, key);
  wipeState(initiation);
  return { send, receive };
}

/** Read the response to `sent`: the keys of the session, or null: it is not that, and `sent` waits on. */
export function openResponse(
  message: Uint8Array,
  sent: SentInitiation,
  local: PrivateKey,
  remote: RemoteKeys,
): SessionKeys | null {
  const state = { chain: sent.chain.slice(), hash: sent.hash.slice() };
  const ephemeral = message.subarray(RESPONSE_EPHEMERAL_AT, EMPTY_AT);
  mixEphemeral(state, ephemeral);
  const secret = sent.ephemeral.agree(ephemeral);
  const staticSecret = local.agree(ephemeral);
  if (secret === null || staticSecret === null) return null;
  mixChain(state, secret);
  mixChain(state, staticSecret);
  const key = mixPresharedKey(state, remote.presharedKey);
  const opened = open(key, message.subarray(EMPTY_AT, EMPTY_AT + TAG_BYTES), state.hash);
  wipe(secret, staticSecret, key);
  const [send, receive] = kdf(2, state.chain, NOTHING) as [Bytes, Bytes];
  wipeState(state);
  if (opened !== null) return { send, receive };
  wipe(send, receive);
  return null;
}

/** Forget what an initiation was made with. */
export function wipeState(state: HandshakeState): void {
  wipe(state.chain, state.hash);
}

function begin(out: Uint8Array, type: number, index: number): void {
  out.fill(0);
  out[0] = type;
  putIndex(out, 4, index);
}

function putIndex(out: Uint8Array, at: number, index: number): void {
  for (let i = 0; i < 4; i++) out[at + i] = index >>> (8 * i);
}

function indexAt(message: Uint8Array, at: number): number {
  return new DataView(message.buffer, message.byteOffset).getUint32(at, true);
}

function mixHash(state: HandshakeState, data: Uint8Array): void {
  state.hash = hash(state.hash, data);
}

function mixChain(state: HandshakeState, input: Uint8Array): void {
  const [chain] = kdf(1, state.chain, input) as [Bytes];
  wipe(state.chain);
  state.chain = chain;
}

function mixEphemeral(state: HandshakeState, publicKey: Uint8Array): void {
  mixHash(state, publicKey);
  mixChain(state, publicKey);
}

/** Mix `input` in; the key to seal or open with. */
function mixKey(state: HandshakeState, input: Uint8Array): Bytes {
  const [chain, key] = kdf(2, state.chain, input) as [Bytes, Bytes];
  wipe(state.chain);
  state.chain = chain;
  return key;
}

function mixPresharedKey(state: HandshakeState, presharedKey: Uint8Array): Bytes {
  const [chain, temporary, key] = kdf(3, state.chain, presharedKey) as [Bytes, Bytes, Bytes];
  wipe(state.chain);
  state.chain = chain;
  mixHash(state, temporary);
  wipe(temporary);
  return key;
}

function wipe(...secrets: Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0);
}

/** No preshared key. */
export const NO_PRESHARED_KEY: Uint8Array = new Uint8Array(KEY_BYTES);
