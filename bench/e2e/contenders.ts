/**
 * The stacks that are compared, each started as its users start it, and a kernel veth pair as the limit.
 *
 * All give the guest an interface `tap0` with 10.0.2.100/24 and a default route by 10.0.2.2. A stack runs in the host
 * namespace and attaches to the guest's.
 */
import { openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { call, socketPath } from './control-socket.ts';
import { DNS_ADDRESS, GUEST_ADDRESS, ip, type Lab, onHost, SERVER_ADDRESS } from './namespaces.ts';
import { manyDescriptors, monotonicMs, type Owned, start, stop } from './processes.ts';

/** Names of the contenders, in the order of the tables. */
export const CONTENDER_NAMES = ['tslirp', 'slirp4netns', 'pasta', 'veth'] as const;
/** One of {@link CONTENDER_NAMES}. */
export type ContenderName = (typeof CONTENDER_NAMES)[number];

/** How to start a stack. */
export interface StartOptions {
  readonly mtu: number;
  /** Pin the stack to this CPU. */
  readonly cpu?: number;
  /** Wait for the stack's own ready signal (default true). */
  readonly awaitReady?: boolean;
  /** Publish this TCP port of the guest at the same port of SERVER_ADDRESS; veth needs nothing for that. */
  readonly forward?: number;
  /** tslirp in the place of slirp4netns: bin/slirp4netns with that program's arguments. */
  readonly inPlace?: boolean;
  /** An API socket, which only slirp4netns has and tslirp in its place. */
  readonly api?: boolean;
  /** Arguments besides, for tslirp under its own name. */
  readonly extra?: readonly string[];
}

/** A running stack. */
export interface Stack {
  readonly name: ContenderName;
  /** Its process, or undefined for veth, which is in the kernel. */
  readonly pid: number | undefined;
  /** CLOCK_MONOTONIC in ms just before the contender's own exec; undefined for veth. */
  readonly execAtMs: Promise<number> | undefined;
  /** CLOCK_MONOTONIC in ms when its ready signal came; undefined where there is none. */
  readonly readyAtMs: Promise<number> | undefined;
  /** Path of its API socket; undefined where there is none. */
  readonly api: string | undefined;
  /** Throws when the process has ended by itself. */
  assertAlive(): void;
  /** Rejects when the process ends, wanted or not; undefined for veth. */
  readonly death: Promise<never> | undefined;
  stop(): Promise<void>;
}

/** Name of the guest's interface with every contender. */
export const GUEST_INTERFACE = 'tap0';

const READY_TIMEOUT_MS = 10_000;

// Both dist/bench/e2e (built) and bench/e2e (sources) are below the project's root.
const fromHere = fileURLToPath(new URL('.', import.meta.url));
const root = fromHere.includes('/dist/')
  ? new URL('../../../', import.meta.url)
  : new URL('../../', import.meta.url);
const TSLIRP = fileURLToPath(new URL('bin/tslirp', root));
const IN_PLACE = fileURLToPath(new URL('bin/slirp4netns', root));

function command(
  name: Exclude<ContenderName, 'veth'>,
  lab: Lab,
  options: StartOptions,
  api: string | undefined,
): string[] {
  const pid = String(lab.guestPid);
  const mtu = String(options.mtu);
  const { forward, extra = [] } = options;
  switch (name) {
    case 'tslirp':
      if (options.inPlace === true) return slirp4netns(IN_PLACE, pid, mtu, api);
      return [
        TSLIRP,
        'attach',
        ...['--ready-fd', '3', '--mtu', mtu, '--enable-routing', '--enable-host', ...extra],
        ...(forward === undefined
          ? []
          : ['-L', `tcp://${SERVER_ADDRESS}:${forward}:${GUEST_ADDRESS}:${forward}`]),
        ...['--interface', GUEST_INTERFACE, '--configure', pid],
      ];
    case 'slirp4netns':
      return slirp4netns('slirp4netns', pid, mtu, api);
    case 'pasta':
      // Its own addresses and no spliced ports: otherwise it copies the host's address and traffic to the servers never
      // leaves the guest.
      return [
        'pasta',
        ...['--foreground', '--quiet', '--runas', '0', '--config-net', '-4', '-I', GUEST_INTERFACE],
        ...['-a', GUEST_ADDRESS, '-n', '255.255.255.0', '-g', '10.0.2.2', '-m', mtu],
        // A client that is not on loopback is not spliced either.
        ...['-t', forward === undefined ? 'none' : `${SERVER_ADDRESS}/${forward}`],
        ...['-u', 'none', '-T', 'none', '-U', 'none', '--dns-forward', DNS_ADDRESS, pid],
      ];
  }
}

function slirp4netns(program: string, pid: string, mtu: string, api: string | undefined): string[] {
  const socket = api === undefined ? [] : ['-a', api];
  return [program, '-c', '-m', mtu, '-r', '3', ...socket, pid, GUEST_INTERFACE];
}

function publish(api: string, port: number): Promise<unknown> {
  return call(api, {
    execute: 'add_hostfwd',
    arguments: {
      proto: 'tcp',
      host_addr: SERVER_ADDRESS,
      host_port: port,
      guest_addr: GUEST_ADDRESS,
      guest_port: port,
    },
  });
}

// Writes the time of its own end to descriptor 4 and becomes the contender; perl-base is part of every Debian.
const STAMP_AND_EXEC =
  'use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC); open(my $f, ">&=", 4); ' +
  'syswrite($f, sprintf("%.6f\\n", 1000 * clock_gettime(CLOCK_MONOTONIC))); close($f); exec { $ARGV[0] } @ARGV; exit 127';

/** Start contender `name` between the namespaces of `lab`. */
export async function startContender(name: ContenderName, lab: Lab, options: StartOptions): Promise<Stack> {
  if (name === 'veth') return await startVeth(lab, options.mtu);
  const pin = options.cpu === undefined ? [] : ['taskset', '--cpu-list', String(options.cpu)];
  // slirp4netns takes forwards by its API only.
  const wantsApi = options.api === true || (options.forward !== undefined && name === 'slirp4netns');
  const api = wantsApi ? socketPath() : undefined;
  const owned = start(
    onHost(lab.hostPid, [
      ...[...manyDescriptors(), ...pin],
      ...['perl', '-e', STAMP_AND_EXEC, ...command(name, lab, options, api)],
    ]),
    // A line for each API call, which a pipe would have us wake up for: like Podman, have them in a file.
    ['ignore', 'ignore', options.api === true ? openSync(`${api}.log`, 'w') : 'pipe', 'pipe', 'pipe'],
  );
  const assertAlive = (): void => {
    if (owned.child.exitCode !== null || owned.child.signalCode !== null) {
      throw new Error(`${name} ended by itself: ${owned.complaints() || `exit ${owned.child.exitCode}`}`);
    }
  };
  // pasta has no ready descriptor: the first connect that succeeds tells (see session.ts).
  const readyAtMs = name === 'pasta' ? undefined : firstData(owned, 3).then(() => monotonicMs());
  const death = owned.ended.then((): never => {
    throw new Error(`${name} ended by itself: ${owned.complaints()}`);
  });
  death.catch(() => undefined);
  const stack: Stack = {
    name,
    pid: owned.pid,
    death,
    execAtMs: firstData(owned, 4).then(Number),
    readyAtMs,
    api,
    assertAlive,
    stop: () => stop(owned),
  };
  if (readyAtMs === undefined || options.awaitReady === false) return stack;
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      readyAtMs,
      new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${name}: no ready signal`)), READY_TIMEOUT_MS);
      }),
      death,
    ]);
    if (options.forward !== undefined && name === 'slirp4netns')
      await publish(api as string, options.forward);
    return stack;
  } catch (error) {
    await stop(owned);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function startVeth(lab: Lab, mtu: number): Promise<Stack> {
  await ip(lab.hostPid, [
    `link add veth0 mtu ${mtu} type veth peer name ${GUEST_INTERFACE} mtu ${mtu} netns ${lab.guestPid}`,
    'addr add 10.0.2.2/24 dev veth0',
    'link set veth0 up',
  ]);
  await ip(lab.guestPid, [
    `addr add ${GUEST_ADDRESS}/24 dev ${GUEST_INTERFACE}`,
    `link set ${GUEST_INTERFACE} up`,
    'route add default via 10.0.2.2',
  ]);
  // Goes away with its namespaces.
  return {
    name: 'veth',
    pid: undefined,
    execAtMs: undefined,
    readyAtMs: undefined,
    api: undefined,
    death: undefined,
    assertAlive: () => undefined,
    stop: () => Promise.resolve(),
  };
}

function firstData(owned: Owned, fd: number): Promise<string> {
  return new Promise((resolve) => {
    (owned.child.stdio[fd] as Readable).once('data', (chunk: Buffer) =>
      resolve(chunk.toString('utf8').trim()),
    );
  });
}
