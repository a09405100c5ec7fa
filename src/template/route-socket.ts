/**
 * What the host has, read from NETLINK_ROUTE sockets that were made before there was a Node (bin/launch.pl), so that it can
 * be asked, and followed, from the closed process too. Plain reads and writes: an answer is there at once.
 */
import { readSync, writeSync } from 'node:fs';
import {
  IFINFO_BYTES,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HEADER_BYTES,
  putRequest,
  RTM_GETLINK,
} from '../sys/netlink-message.ts';
import { type HostNetwork, readHostNetwork } from './host-network.ts';

const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const NLM_F_DUMP = 0x300;
const NLM_F_DUMP_INTR = 0x10;
const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
const IFADDR_BYTES = 8;
const RTMSG_BYTES = 12;
/** The kernel gives no longer pieces. */
const PIECE_BYTES = 32768;
/** Answers that were interrupted by a change are asked for again so often. */
const TRIES = 4;

const QUESTIONS = [
  { type: RTM_GETLINK, body: IFINFO_BYTES, family: AF_UNSPEC },
  { type: RTM_GETADDR, body: IFADDR_BYTES, family: AF_UNSPEC },
  { type: RTM_GETROUTE, body: RTMSG_BYTES, family: AF_INET },
  { type: RTM_GETROUTE, body: RTMSG_BYTES, family: AF_INET6 },
] as const;

export class RouteSocket {
  readonly #fd: number;
  readonly #newsFd: number;
  #sequence = 0;
  #answer: Buffer = Buffer.alloc(2 * PIECE_BYTES);
  #length = 0;

  /** `fd` is asked, `newsFd` hears of changes; neither blocks. */
  constructor(fd: number, newsFd: number) {
    this.#fd = fd;
    this.#newsFd = newsFd;
  }

  /** Everything, as it is now. Throws with one line. */
  read(): HostNetwork {
    for (let tries = 1; ; tries++) {
      this.#length = 0;
      let isWhole = true;
      for (const question of QUESTIONS) isWhole = this.#ask(question) && isWhole;
      // So much coming and going that no answer is whole: what there was is as good.
      if (isWhole || tries === TRIES)
        return readHostNetwork(new DataView(this.#answer.buffer, this.#answer.byteOffset), this.#length);
    }
  }

  /** Something may have changed since the last time. */
  hasNews(): boolean {
    let heard = false;
    const piece = Buffer.alloc(PIECE_BYTES);
    for (;;) {
      try {
        readSync(this.#newsFd, piece, 0, PIECE_BYTES, null);
        heard = true;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return heard;
        // News were lost.
        if (code !== 'ENOBUFS') throw error;
        heard = true;
      }
    }
  }

  /** Adds the answer to what there is; false: it is not whole. */
  #ask({ type, body, family }: (typeof QUESTIONS)[number]): boolean {
    this.#sequence += 1;
    const request = new DataView(new ArrayBuffer(NLMSG_HEADER_BYTES + body));
    putRequest(request, 0, type, NLM_F_REQUEST | NLM_F_DUMP, this.#sequence, body);
    request.setUint8(NLMSG_HEADER_BYTES, family);
    writeSync(this.#fd, new Uint8Array(request.buffer));
    let isWhole = true;
    for (;;) {
      if (this.#answer.length < this.#length + PIECE_BYTES)
        this.#answer = Buffer.concat([this.#answer], 2 * this.#answer.length);
      const count = readSync(this.#fd, this.#answer, this.#length, PIECE_BYTES, null);
      const view = new DataView(this.#answer.buffer, this.#answer.byteOffset + this.#length, count);
      const end = lookThrough(view);
      isWhole &&= !end.isInterrupted;
      this.#length += count;
      if (end.isLast) return isWhole;
    }
  }
}

/** A family that the kernel does not have ends with an error, and there is nothing of it. */
function lookThrough(view: DataView): { isLast: boolean; isInterrupted: boolean } {
  let isInterrupted = false;
  let at = 0;
  while (view.byteLength - at >= NLMSG_HEADER_BYTES) {
    const type = view.getUint16(at + 4, true);
    if ((view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) isInterrupted = true;
    if (type === NLMSG_DONE || type === NLMSG_ERROR) return { isLast: true, isInterrupted };
    const size = view.getUint32(at, true);
    if (size < NLMSG_HEADER_BYTES) break;
    at += (size + 3) & ~3;
  }
  return { isLast: view.byteLength === 0, isInterrupted };
}
