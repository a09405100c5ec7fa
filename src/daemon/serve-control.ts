/** The control protocol of a program that offers it itself: what `tslirp daemon` does, on any pair of streams. */
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { manifestDigest } from '../embed/integrity/manifest.ts';
import { openTunnel } from '../embed/open-tunnel.ts';
import type { LogOptions } from '../embed/types.ts';
import { packageRoot, packageVersion } from '../package-root.ts';
import { ControlServer, type OpenTunnel, type ServingEnd } from './control-server.ts';
import { formatVersion, versions } from './handshake.ts';

/** Versions of the protocol. */
const spoken = versions.map(formatVersion).join(',');

export interface ServeControlOptions {
  /** Where the tunnels' log goes. Not given: to the embedder. */
  log?: LogOptions;
  /** Opens what is asked for: `openTunnel`, in a thread of this process, unless given. */
  open?: OpenTunnel;
}

export interface ControlHandle {
  /**
   * Resolves when the connection is over, and all tunnels with it. `stopped`: as was asked; `gone`: nobody is there any more;
   * `fault`: the other end did not keep to the protocol.
   */
  readonly ended: Promise<ServingEnd>;
  /** Stops all tunnels, and closes the connection. */
  end(): Promise<void>;
}

/** What this installation is, as whoever pings is told. */
export function installation(): { version: string; manifest: string | null } {
  return { version: packageVersion(), manifest: manifestDigest(fileURLToPath(packageRoot)) };
}

/** For programs that look at it before they start it. `commit`: of the source, where that was known. */
export function describeInstallation(): Record<string, string | null> {
  const { version, manifest } = installation();
  return { version, commit: builtCommit(), node: process.versions.node, protocol: spoken, manifest };
}

function builtCommit(): string | null {
  const stamp = readFileSync(new URL('dist/src/build-stamp.json', packageRoot), 'utf8');
  return (JSON.parse(stamp) as { commit: string | null }).commit;
}

/** Serves an embedder at the other end of `streams` (docs/daemon.md). */
export function serveControl(
  streams: { input: Readable; output: Writable },
  { log, open = openTunnel }: ServeControlOptions = {},
): ControlHandle {
  const server = new ControlServer(streams, {
    open,
    installation: installation(),
    ...(log === undefined ? {} : { log }),
  });
  return { ended: server.ended, end: () => server.end({ kind: 'stopped' }) };
}
