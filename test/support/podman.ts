/**
 * Rootless Podman and RootlessKit in the "host" of mode `user`: an ordinary user with subordinate ids, a home of its own, and
 * one small image made of this machine's busybox. Nothing is pulled, and what is changed is mounts of the lab's namespace.
 *
 * Paths are short on purpose: Podman puts an API socket of 76 bytes and more below its run directory.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { asOwner, programPath } from './namespaces.ts';
import { type Ended, must, type Running, type RunOptions, run, start } from './processes.ts';
import { PATIENCE_MS } from './wait.ts';

const BASE = '/mnt';
const home = join(BASE, 'home');
const runtime = join(BASE, 'run');
export const IMAGE = 'localhost/box';

const APPLETS = ['sh', 'cat', 'echo', 'httpd', 'ip', 'nslookup', 'sleep', 'wget'];

/** A busybox with the libraries that it has, and a page that names the client. */
async function makeImage(): Promise<string> {
  const root = join(BASE, 'image');
  const busybox = (await must(['sh', '-c', 'command -v busybox'])).trim();
  // One that is linked statically has none, which ldd calls a failure.
  const libraries = (await run(['ldd', busybox])).stdout.match(/\/\S+/g) ?? [];
  for (const file of libraries) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    copyFileSync(file, join(root, file));
  }
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'www/cgi-bin'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(busybox, join(root, 'bin/busybox'));
  for (const name of APPLETS) symlinkSync('busybox', join(root, 'bin', name));
  const page = join(root, 'www/cgi-bin/client');
  writeFileSync(page, '#!/bin/sh\necho\necho "$REMOTE_ADDR"\n');
  chmodSync(page, 0o755);
  const archive = join(BASE, 'image.tar');
  await must(['tar', '-C', root, '-cf', archive, '.']);
  return archive;
}

const settings: Record<string, string> = {
  'containers.conf': `[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
network_cmd_path = "${programPath('slirp4netns')}"
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
`,
  'storage.conf': '[storage]\ndriver = "vfs"\n',
};

/** Once, as root of the lab. */
export async function preparePodman(user: string): Promise<void> {
  await must(['mount', '-t', 'tmpfs', '-o', 'mode=0755', 'podman', BASE]);
  const ids = join(BASE, 'subid');
  writeFileSync(ids, `${user}:500000:65536\n`);
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    if (!existsSync(file)) throw new Error(`${file} does not exist: install uidmap`);
    await must(['mount', '--bind', ids, file]);
  }
  // crun takes neither the two versions side by side nor a hierarchy that is not the kernel's.
  await must(['mount', '-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
  mkdirSync(join(home, '.config/containers'), { recursive: true });
  for (const [name, text] of Object.entries(settings))
    writeFileSync(join(home, '.config/containers', name), text);
  mkdirSync(runtime, { mode: 0o700 });
  await must(['chown', '-R', user, home, runtime]);
  await podman(['import', '--quiet', await makeImage(), IMAGE]);
}

function asUser(argv: readonly string[]): string[] {
  const { PATH = '/usr/bin:/bin' } = process.env;
  const places = [`HOME=${home}`, `TMPDIR=${runtime}`, `XDG_RUNTIME_DIR=${runtime}`];
  const env = ['env', '-i', '-C', home, `PATH=${PATH}`, ...places];
  return asOwner(...env, ...argv);
}

/** Run Podman; a status other than 0 is an error. */
export function podman(args: readonly string[], limitMs: number = PATIENCE_MS): Promise<string> {
  return must(asUser(['podman', ...args]), { limitMs });
}

/** A container with a network of ours, gone after its command; what it printed. */
export function inContainer(network: string, script: string): Promise<string> {
  return podman(['run', '--rm', '--network', network, IMAGE, 'sh', '-c', script]);
}

export function userRun(argv: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return run(asUser(argv), options);
}

export function userStart(argv: readonly string[]): Running {
  return start(asUser(argv));
}

/** Ends what Podman leaves running for its user on purpose. */
export async function endPodman(): Promise<void> {
  await podman(['rm', '--all', '--force', '--time=0']);
  await userRun(['sh', '-c', `kill "$(cat ${runtime}/libpod/tmp/pause.pid)"`]);
}
