// Writes tslirp-manifest.json: what the package is made of, when it has been built. With TSLIRP_SIGNING_KEY, the file of an
// Ed25519 key in PEM, tslirp-manifest.sig too.
import { sign } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MANIFEST, makeManifest, SIGNATURE } from '../dist/src/embed/integrity/manifest.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const bytes = Buffer.from(`${JSON.stringify(makeManifest(root), null, 1)}\n`);
writeFileSync(`${root}${MANIFEST}`, bytes);
rmSync(`${root}${SIGNATURE}`, { force: true });
const { TSLIRP_SIGNING_KEY: key = '' } = process.env;
if (key !== '') writeFileSync(`${root}${SIGNATURE}`, sign(null, bytes, readFileSync(key)));
