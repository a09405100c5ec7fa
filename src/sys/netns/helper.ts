/**
 * A program of its own, run inside a network namespace (by way of nsenter(1), because a process with threads cannot join
 * a user namespace, setns(2)): it opens the TAP, creates and configures it where asked, prints one line of JSON and then
 * holds the descriptor open until its standard input ends. By then the data plane has taken the device over with
 * pidfd_getfd(2).
 *
 *     node helper.js '{"name":"tap0","mode":"auto",…}'
 *
 * It loads nothing but koffi: its start is part of the time until the guest has a network.
 * Whatever is only an improvement (queue length, offloads, IPv6) fails into `notes`; the rest into `error`.
 */
import { readSync, writeFileSync, writeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { type LinkInfo, LOOPBACK_INDEX, Rtnetlink } from './rtnetlink.ts';
import {
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_TUN,
  IFF_VNET_HDR,
  offloadChoices,
  TapDevice,
  TUN_F_CSUM,
  TUN_F_TSO4,
  TUN_F_USO4,
} from './tap.ts';

/** One family of addresses to configure, in network order. */
export interface HelperAddress {
  address: number[];
  prefix: number;
  gateway: number[];
}

export interface HelperRequest {
  name: string;
  /** Create and configure: always, never (only create when missing), or when the interface is missing. */
  mode: 'yes' | 'no' | 'auto';
  /** MTU asked for by the user, in bytes of IP packet; 0 = keep what an existing interface has. */
  mtu: number;
  /** MTU of an interface that is created when none was asked for. */
  defaultMtu: number;
  /** Least transmit queue of the device, in packets. */
  txQueueLen: number;
  addresses: HelperAddress[];
}

export interface HelperResult {
  fd: number;
  medium: 'ethernet' | 'ip';
  mtu: number;
  vnetHeader: boolean;
  checksumOffload: boolean;
  tso: boolean;
  uso: boolean;
  txQueueLen: number;
  notes: string[];
}

const ARPHRD_NONE = 0xfffe;
const EBUSY = 16;
const EINVAL = 22;
const EPERM = 1;

class HelperError extends Error {}

function reason(result: number): string {
  return getSystemErrorName(result);
}

function check(result: number, what: string): void {
  if (result < 0) throw new HelperError(`${what}: ${reason(result)}`);
}

function openTap(): TapDevice {
  try {
    return new TapDevice();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new HelperError(`/dev/net/tun cannot be opened for reading and writing: ${code}`);
  }
}

/** Attach with the richest flags that the device takes; returns the flags in force. */
function attach(tap: TapDevice, name: string, link: LinkInfo | null, notes: string[]): number {
  const queues = link?.tunMultiQueue === true ? IFF_MULTI_QUEUE : 0;
  const types =
    link === null
      ? [IFF_TAP]
      : link.tunType !== 0
        ? [link.tunType]
        : link.hardwareType === ARPHRD_NONE
          ? [IFF_TUN]
          : [IFF_TAP, IFF_TUN];
  let result = 0;
  for (const type of types) {
    for (const header of [IFF_VNET_HDR, 0]) {
      result = tap.attach(name, type | header | IFF_NO_PI | queues);
      if (result === 0) {
        if (header === 0) notes.push('the device does not take virtio-net headers: no offloads');
        const flags = tap.flags();
        check(flags, 'TUNGETIFF');
        return flags;
      }
      if (result !== -EINVAL) break;
    }
  }
  if (result === -EBUSY) throw new HelperError(`interface ${name} is in use by another process`);
  if (result === -EPERM)
    throw new HelperError(`no permission to ${link === null ? 'create' : 'open'} interface ${name}`);
  throw new HelperError(`cannot ${link === null ? 'create' : 'open'} interface ${name}: ${reason(result)}`);
}

function setOffloads(tap: TapDevice, flags: number, notes: string[]): number {
  if ((flags & IFF_VNET_HDR) === 0) return 0;
  check(tap.setVnetHeaderSize(), 'TUNSETVNETHDRSZ');
  let refused = 0;
  for (const bits of offloadChoices) {
    const result = tap.setOffload(bits);
    if (result >= 0) {
      if (refused !== 0)
        notes.push(`offloads 0x${refused.toString(16)} are not supported here, using 0x${bits.toString(16)}`);
      return bits;
    }
    refused |= refused === 0 ? bits : 0;
  }
  // A former owner's offloads must not stay in force.
  check(tap.setOffload(0), 'TUNSETOFFLOAD');
  notes.push('no offloads are supported here');
  return 0;
}

function writeSetting(path: string, value: string, notes: string[]): void {
  try {
    writeFileSync(path, value);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    // Without IPv6 in the kernel there is nothing to set.
    if (code !== 'ENOENT') notes.push(`${path} cannot be set to ${value}: ${code}`);
  }
}

function configure(netlink: Rtnetlink, index: number, request: HelperRequest, notes: string[]): void {
  check(netlink.setLink(LOOPBACK_INDEX, { up: true }), 'cannot bring lo up');
  // We set addresses and routes ourselves; a router advertisement would add a second default route.
  const settings = `/proc/sys/net/ipv6/conf/${request.name}`;
  writeSetting(`${settings}/accept_ra`, '0', notes);
  writeSetting(`${settings}/autoconf`, '0', notes);
  if (request.mtu > 0)
    check(netlink.setLink(index, { mtu: request.mtu }), `cannot set the MTU to ${request.mtu}`);
  for (const { address, prefix } of request.addresses) {
    const result = netlink.addAddress(index, address, prefix);
    if (address.length === 4) check(result, 'cannot set the IPv4 address');
    else if (result < 0) notes.push(`cannot set the IPv6 address: ${reason(result)}`);
  }
  check(netlink.setLink(index, { up: true }), `cannot bring ${request.name} up`);
  for (const { gateway } of request.addresses) {
    const result = netlink.setDefaultRoute(index, gateway);
    if (gateway.length === 4) check(result, 'cannot set the IPv4 default route');
    else if (result < 0) notes.push(`cannot set the IPv6 default route: ${reason(result)}`);
  }
}

function getLink(netlink: Rtnetlink, name: string): LinkInfo | null {
  const link = netlink.linkByName(name);
  if (typeof link === 'number') throw new HelperError(`cannot look up interface ${name}: ${reason(link)}`);
  return link;
}

function run(request: HelperRequest): HelperResult {
  const notes: string[] = [];
  const { name } = request;
  const netlink = new Rtnetlink();
  const before = getLink(netlink, name);
  if (before !== null && before.kind !== 'tun' && before.kind !== '') {
    throw new HelperError(`interface ${name} exists but is no TAP or TUN device (it is a ${before.kind})`);
  }
  const tap = openTap();
  const flags = attach(tap, name, before, notes);
  const offloads = setOffloads(tap, flags, notes);

  const created = before ?? getLink(netlink, name);
  if (created === null) throw new HelperError(`interface ${name} vanished`);
  if (created.txQueueLen < request.txQueueLen) {
    const result = netlink.setLink(created.index, { txQueueLen: request.txQueueLen });
    if (result < 0)
      notes.push(`the transmit queue stays at ${created.txQueueLen} packets: ${reason(result)}`);
  }
  const mtu = request.mtu > 0 || before !== null ? request.mtu : request.defaultMtu;
  if (mtu > 0) check(netlink.setLink(created.index, { mtu }), `cannot set the MTU to ${mtu}`);
  if (request.mode === 'yes' || (request.mode === 'auto' && before === null)) {
    configure(netlink, created.index, request, notes);
  }

  const link = getLink(netlink, name);
  if (link === null) throw new HelperError(`interface ${name} vanished`);
  netlink.close();
  return {
    fd: tap.fd,
    medium: (flags & IFF_TUN) !== 0 ? 'ip' : 'ethernet',
    mtu: link.mtu,
    vnetHeader: (flags & IFF_VNET_HDR) !== 0,
    checksumOffload: (offloads & TUN_F_CSUM) !== 0,
    tso: (offloads & TUN_F_TSO4) !== 0,
    uso: (offloads & TUN_F_USO4) !== 0,
    txQueueLen: link.txQueueLen,
    notes,
  };
}

/** Blocks until the parent closes its end: this process has nothing else to do. */
function waitForEnd(): void {
  const byte = new Uint8Array(1);
  for (;;) {
    try {
      if (readSync(0, byte) === 0) return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      else if (code !== 'EINTR') return;
    }
  }
}

function main(): void {
  let answer: HelperResult | { error: string };
  try {
    answer = run(JSON.parse(process.argv[2] ?? '') as HelperRequest);
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  writeSync(1, `${JSON.stringify(answer)}\n`);
  if ('error' in answer) process.exitCode = 1;
  else waitForEnd();
}

main();
