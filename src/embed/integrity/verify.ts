/**
 * Whether an installation is the one that somebody has signed. Nothing of it is run or loaded meanwhile, and what was read to be
 * compared can be had, so that it is what runs (snapshot.ts).
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { lstatSync, readFileSync, realpathSync, type Stats } from 'node:fs';
import { dirname, join } from 'node:path';
import { TslirpError } from '../errors.ts';
import { codeFiles } from './code-files.ts';
import { hashOf, MANIFEST, type Manifest, SIGNATURE } from './manifest.ts';

/** A 32-byte Ed25519 key in DER: what comes before it (RFC 8410). */
const ED25519_DER = Buffer.from('302a300506032b6570032100', 'hex');
const [GROUP_WRITES, OTHERS_WRITE, STICKY] = [0o020, 0o002, 0o1000];

/** Why an installation is not what it should be; `detail.reason` of the error. */
export type IntegrityReason =
  | 'key'
  | 'manifest'
  | 'signature'
  | 'platform'
  | 'writable'
  | 'symlink'
  | 'missing'
  | 'changed'
  | 'extra'
  | 'version';

export interface VerifyOptions {
  /** Directory of the package. */
  root: string;
  /** Ed25519: a key object, PEM, or 32 bytes. */
  publicKey: KeyObject | string | Uint8Array;
  /** The version has to be exactly this one. */
  expectVersion?: string;
}

export interface Verified {
  version: string;
  /** SHA-256 of the manifest, in hexadecimal digits. */
  manifest: string;
}

/** What was compared, by its name in the manifest, and the manifest. */
export type Contents = ReadonlyMap<string, Buffer>;

function fault(reason: IntegrityReason, message: string, path?: string): TslirpError {
  return new TslirpError('INTEGRITY', message, {
    detail: { reason, ...(path === undefined ? {} : { path }) },
  });
}

/** Rejects with INTEGRITY; `detail.reason` says why. */
export async function verifyInstallation(options: VerifyOptions): Promise<Verified> {
  return verifyContents(options).verified;
}

/** @throws TslirpError */
export function verifyContents({ root: given, publicKey, expectVersion }: VerifyOptions): {
  verified: Verified;
  contents: Contents;
} {
  const key = keyOf(publicKey);
  const root = realpathSync(given);
  const { bytes, manifest } = readManifest(root, key);
  checkParents(root);
  if (manifest.platform !== process.platform || manifest.arch !== process.arch)
    throw fault('platform', `it is for ${manifest.platform} on ${manifest.arch}`);
  const contents = readContents(root, manifest);
  contents.set(MANIFEST, bytes);
  const { version } = manifest;
  if (expectVersion !== undefined && version !== expectVersion)
    throw fault('version', `it is version ${version}; expected ${expectVersion}`);
  return { verified: { version, manifest: createHash('sha256').update(bytes).digest('hex') }, contents };
}

function keyOf(key: VerifyOptions['publicKey']): KeyObject {
  try {
    const isRaw = key instanceof Uint8Array && key.length === 32;
    const object = isRaw
      ? createPublicKey({ key: Buffer.concat([ED25519_DER, key]), format: 'der', type: 'spki' })
      : key instanceof Uint8Array || typeof key === 'string'
        ? createPublicKey(Buffer.from(key))
        : key;
    if (object.asymmetricKeyType === 'ed25519') return object;
  } catch {
    // Whatever it is, it is not that.
  }
  throw fault('key', 'the public key is no Ed25519 key');
}

function readManifest(root: string, key: KeyObject): { bytes: Buffer; manifest: Manifest } {
  for (const name of [MANIFEST, SIGNATURE]) checkFile(name, join(root, name));
  const bytes = readFileSync(join(root, MANIFEST));
  const signature = readFileSync(join(root, SIGNATURE));
  if (!verify(null, bytes, key, signature))
    throw fault('signature', 'its manifest was not signed with that key');
  return { bytes, manifest: JSON.parse(bytes.toString()) as Manifest };
}

function readContents(root: string, { files }: Manifest): Map<string, Buffer> {
  const contents = new Map<string, Buffer>();
  const folders = new Set<string>();
  for (const { name, path } of codeFiles(root)) {
    const expected = Object.hasOwn(files, name) ? files[name] : undefined;
    const folder = dirname(path);
    if (!folders.has(folder)) {
      folders.add(folder);
      checkOwner(folder, lstatSync(folder));
    }
    checkFile(name, path);
    if (expected === undefined) throw fault('extra', `${name} does not belong there`, name);
    const content = readFileSync(path);
    if (hashOf(content) !== expected) throw fault('changed', `${name} is not what it was`, name);
    contents.set(name, content);
  }
  for (const name of Object.keys(files))
    if (!contents.has(name)) throw fault('missing', `${name} is missing`, name);
  return contents;
}

function checkFile(name: string, path: string): void {
  let stat: Stats;
  try {
    stat = lstatSync(path);
  } catch {
    throw fault(name === MANIFEST || name === SIGNATURE ? 'manifest' : 'missing', `${name} is missing`, name);
  }
  if (!stat.isFile()) throw fault('symlink', `${name} is no plain file`, name);
  checkOwner(path, stat);
}

/** Whoever may write to a directory above can put another one in its place; not where it is sticky. */
function checkParents(root: string): void {
  let path = root;
  do {
    const stat = lstatSync(path);
    if ((stat.mode & STICKY) === 0 || path === root) checkOwner(path, stat);
    path = dirname(path);
  } while (path !== dirname(path));
}

function checkOwner(path: string, { uid, mode }: Stats): void {
  const isOurs = uid === 0 || uid === process.getuid?.();
  if (isOurs && (mode & (GROUP_WRITES | OTHERS_WRITE)) === 0) return;
  throw fault('writable', `others can write to ${path}`, path);
}
