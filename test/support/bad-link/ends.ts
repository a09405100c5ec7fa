/** Starting a bad link: a TAP in a namespace for one end, another TAP or a packet socket for the other. Needs root there. */
import { closeSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addressOf, errno, libcFunction } from '../../../src/sys/libc.ts';
import { Memory } from '../../../src/sys/memory.ts';
import { attachRequest, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR } from '../../../src/sys/netns/tun.ts';
import { type Running, start } from '../processes.ts';
import type { BadLinkOptions } from './direction.ts';

const CLONE_NEWNET = 0x40000000;
const TUNSETIFF = 0x400454ca;
const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
/** A window's worth of frames, so that the socket is never what limits. */
const SOCKET_BYTES = 8 * 1024 * 1024;

const cIoctl = libcFunction('ioctl', 'int', ['int', 'ulong', 'uintptr_t']);
const cSetns = libcFunction('setns', 'int', ['int', 'int']);
const cSocketpair = libcFunction('socketpair', 'int', ['int', 'int', 'int', 'uintptr_t']);
const cSetsockopt = libcFunction('setsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uint']);

function check(result: number, what: string): void {
  if (result < 0) throw new Error(`${what}: errno ${result < -1 ? -result : errno()}`);
}

/** Do something in the network namespace of a process: a socket or device opened there stays there. */
export function inNetwork<T>(pid: number, body: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r');
  const theirs = openSync(`/proc/${pid}/ns/net`, 'r');
  try {
    check(cSetns(theirs, CLONE_NEWNET), 'setns');
    try {
      return body();
    } finally {
      check(cSetns(own, CLONE_NEWNET), 'setns');
    }
  } finally {
    closeSync(theirs);
    closeSync(own);
  }
}

/** Create TAP `name` in the network namespace of a process, with or without offloads; the descriptor is ours. */
export function openTap(pid: number, name: string, offload = false): number {
  return inNetwork(pid, () => {
    const fd = openSync('/dev/net/tun', 'r+');
    check(
      cIoctl(
        fd,
        TUNSETIFF,
        addressOf(attachRequest(name, IFF_TAP | IFF_NO_PI | (offload ? IFF_VNET_HDR : 0))),
      ),
      'TUNSETIFF',
    );
    return fd;
  });
}

/** Two ends of a connection that keeps packets apart. */
export function packetSockets(): [number, number] {
  const memory = new Memory(new ArrayBuffer(4096));
  check(cSocketpair(AF_UNIX, SOCK_SEQPACKET, 0, memory.address(0, 8)), 'socketpair');
  const pair: [number, number] = [memory.view.getInt32(0, true), memory.view.getInt32(4, true)];
  memory.view.setInt32(8, SOCKET_BYTES, true);
  // Only root of the first user namespace may have so much; others do with less.
  for (const fd of pair) cSetsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, memory.address(8, 4), 4);
  return pair;
}

/**
 * Start carrying frames between two descriptors, which become the link's. `first`: before all other programs, for
 * measurements, because a link that has to wait for the processor adds delays and bursts of its own. Takes real root.
 */
export async function startBadLink(
  a: number,
  b: number,
  options: BadLinkOptions,
  { first = false }: { first?: boolean } = {},
): Promise<Running> {
  const here = fileURLToPath(import.meta.url);
  const program = join(dirname(here), `main${here.slice(here.lastIndexOf('.'))}`);
  const loader = program.endsWith('.ts') ? ['--import', 'tsx'] : [];
  const priority = first ? ['chrt', '--fifo', '10'] : [];
  const link = start([...priority, process.execPath, ...loader, program, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'pipe', a, b],
  });
  closeSync(a);
  closeSync(b);
  await link.firstLine();
  return link;
}
