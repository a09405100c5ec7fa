/**
 * Every way to name a network namespace, for whoever may have it, whomever its user namespace maps, in all front ends.
 * Callers are those of the modes: root, an ordinary user, root inside a user namespace.
 */
import assert from 'node:assert/strict';
import { readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { asOwner, directory, GATEWAY4, mode, programPath, ready } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

const SLEEP = ['sh', '-c', 'echo $$; exec cat'];
const BUBBLEWRAP = ['bwrap', '--unshare-user', '--unshare-net', '--unshare-ipc', '--dev-bind', '/', '/'];

const callerId = Number((await must(asOwner('id', '-u'))).trim());

/** A process in a namespace, and whoever keeps that. */
interface Target {
  pid: number;
  keeper: Running;
}

async function targetOf(keeper: Running): Promise<Target> {
  const pid = Number(await keeper.firstLine());
  return { pid, keeper };
}

/** A user and a network namespace with this map, as lines `INSIDE OUTSIDE COUNT`; the test itself may write any. */
async function mapped(map: string): Promise<Target> {
  // Only once the map is there is the program called: what it may do depends on whom it is then.
  const script = 'echo $$; read -r word; exec cat';
  const target = await targetOf(start(asOwner('unshare', '--user', '--net', 'sh', '-c', script)));
  writeFileSync(`/proc/${target.pid}/setgroups`, 'deny');
  for (const file of ['uid_map', 'gid_map']) writeFileSync(`/proc/${target.pid}/${file}`, map);
  target.keeper.child.stdin?.write('go\n');
  await until(() => readlinkSync(`/proc/${target.pid}/exe`).endsWith('cat'), 'the process in the namespace');
  return target;
}

const maps: Record<string, () => Promise<Target>> = {
  'the caller as root': () => mapped(`0 ${callerId} 1`),
  'the caller as he is': () =>
    targetOf(start(asOwner('unshare', '--user', '--map-current-user', '--net', ...SLEEP))),
  'the caller as somebody else': () => mapped(`1234 ${callerId} 1`),
  nobody: () => targetOf(start(asOwner('unshare', '--user', '--net', ...SLEEP))),
  "bubblewrap's": () => targetOf(start(asOwner(...BUBBLEWRAP, ...SLEEP))),
  'a network that belongs to the parent': async () => {
    const inner = ['unshare', '--user', '--map-user=77', ...SLEEP];
    return targetOf(start(asOwner('unshare', '--user', '--map-root-user', '--net', ...inner)));
  },
};
// In a user namespace of one id there are no others to be mapped.
if (mode !== 'nested') maps['65,536 more'] = () => mapped(`0 ${callerId} 1\n1 100000 65536`);
// What gVisor makes: root is somebody inside, but nobody is root.
if (mode === 'root') maps['all but root'] = () => mapped('1 1 65535');
// Root needs none.
if (mode !== 'user') maps['no user namespace'] = () => targetOf(start(asOwner('unshare', '--net', ...SLEEP)));

type Way =
  | 'process'
  | 'process and user namespace'
  | 'path of a process'
  | 'path'
  | 'path and user namespace';
const ways: readonly Way[] = [
  'process',
  'process and user namespace',
  'path of a process',
  'path',
  'path and user namespace',
];

/** What a way comes to: the namespace as it is named, and the user namespace beside it or empty. */
function name(way: Way, pid: number, mounted: string): { network: string; user: string } {
  const user = way.endsWith('user namespace') ? `/proc/${pid}/ns/user` : '';
  if (way.startsWith('process')) return { network: String(pid), user };
  return { network: way === 'path of a process' ? `/proc/${pid}/ns/net` : mounted, user };
}

function tslirp(network: string, user: string, ...options: string[]): string[] {
  const userns = user === '' ? [] : ['--userns', user];
  return [
    programPath('tslirp'),
    'attach',
    '--log-level',
    'warn',
    '--ready-fd',
    '3',
    ...options,
    ...userns,
    network,
  ];
}

function slirp4netns(network: string, user: string, ...options: string[]): string[] {
  const userns = user === '' ? [] : [`--userns-path=${user}`];
  const type = network.startsWith('/') ? ['--netns-type=path'] : [];
  return [programPath('slirp4netns'), '-r', '3', ...options, ...userns, ...type, network, 'tap0'];
}

/** In the namespace as root of the test's own, whoever is mapped there. */
function inside(pid: number, ...argv: string[]): string[] {
  return ['nsenter', `--net=/proc/${pid}/ns/net`, '--', ...argv];
}

/** Runs a front end until the guest's gateway has answered; without `-c` and the like, the interface is set up here. */
async function serve(pid: number, argv: readonly string[], bareInterface = ''): Promise<void> {
  const service = start(asOwner(...argv), { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
  try {
    if (argv.includes('3')) await ready(service);
    else await until(() => service.stderr.includes('started') || !service.running, 'slirpnetstack');
    const setup = `link set ${bareInterface} up\naddress replace 10.0.2.100/24 dev ${bareInterface}\n`;
    if (bareInterface !== '') await must(inside(pid, 'ip', '-batch', '-'), { input: setup });
    await must(inside(pid, 'ping', '-n', '-c', '1', '-W', '5', GATEWAY4));
  } catch (error) {
    throw new Error(`${argv.join(' ')}: ${(error as Error).message}; it said: ${service.stderr}`);
  } finally {
    await service.stop('SIGTERM');
  }
}

describe(`review O-1, OP-1: a namespace can be had by whoever has the right to it (${mode})`, () => {
  for (const [turn, [map, make]] of Object.entries(maps).entries()) {
    test(`where its user namespace maps ${map}`, async (t) => {
      const { pid, keeper } = await make();
      const mounted = join(directory, `entry-${pid}`);
      writeFileSync(mounted, '');
      await must(['mount', '--bind', `/proc/${pid}/ns/net`, mounted]);
      try {
        // How a namespace is had is the same in both, how it is named is not: they take turns, and each comes to each way.
        for (const [i, way] of ways.entries()) {
          const { network, user } = name(way, pid, mounted);
          if ((turn + i) % 2 === 0)
            await t.test(`tslirp, by ${way}`, () => serve(pid, tslirp(network, user)));
          else await t.test(`slirp4netns, by ${way}`, () => serve(pid, slirp4netns(network, user, '-c')));
        }
        // What else the front ends differ in takes turns with the maps.
        const confined = slirp4netns(mounted, '', '-c', '--enable-sandbox', '--enable-seccomp');
        const others: [string, string[], string?][] = [
          ['tslirp without a sandbox', tslirp(mounted, '', '--no-sandbox')],
          ['slirp4netns in a sandbox', confined],
          ['slirp4netns without -c', slirp4netns(String(pid), ''), 'tap0'],
        ];
        const [title, argv, bare] = others[turn % others.length] ?? assert.fail();
        await t.test(title, () => serve(pid, argv, bare));
        await must(inside(pid, 'ip', 'tuntap', 'add', 'tun0', 'mode', 'tap'));
        const [means, network] =
          turn % 2 === 0 ? ['path of a process', `/proc/${pid}/ns/net`] : ['path', mounted];
        await t.test(`slirpnetstack, by ${means}`, () =>
          serve(pid, [programPath('slirpnetstack'), '-netns', network], 'tun0'),
        );
      } finally {
        await must(['umount', mounted]);
        await keeper.stop();
      }
    });
  }
});
