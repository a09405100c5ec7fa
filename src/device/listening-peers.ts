/**
 * Peers that connect to us, one at a time: a second one is accepted and closed at once, so that it knows (L-8).
 *
 * A unix socket's file is ours alone (mode 0600), unless other users are allowed: then each peer is asked who it is. Inside
 * the sandbox of an ordinary user other users have no number, and cannot be told apart; whoever gets past the file's mode
 * all the same is root, who is let in.
 */
import { chmodSync, fchmodSync } from 'node:fs';
import { getuid } from 'node:process';
import type { ListenTarget } from '../device-spec.ts';
import type { IoHandler } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLET, EPOLLIN } from '../sys/epoll.ts';
import { ECONNABORTED, EINTR } from '../sys/errno.ts';
import { close } from '../sys/io.ts';
import {
  accept,
  bind,
  IPPROTO_TCP,
  listen,
  peerCredentials,
  SO_REUSEADDR,
  SOL_SOCKET,
  setsockoptInt,
  TCP_NODELAY,
} from '../sys/socket.ts';
import { bindUnix, fileIdentity, removeSocketFile } from '../sys/unix-path.ts';
import type { PeerFound, PeerServices, PeerSource } from './peer-source.ts';
import { enlarge, placeError, placeText, putPlace, socketFor, typeNumber } from './socket-place.ts';

const BACKLOG = 8;
/** Peers that are looked at in a turn. */
const PEERS_PER_TURN = 8;
/** What a user is who has no number in our user namespace (/proc/sys/kernel/overflowuid). */
const OVERFLOW_UID = 65534;

/** What a listening socket is made of. `fd`: one that listens already, which is ours then. */
export type Listening = Pick<ListenTarget, 'at' | 'type' | 'allowUids'> & { fd?: number };

export class ListeningPeers implements PeerSource, IoHandler {
  waiting = false;
  readonly #services: PeerServices;
  readonly #spec: Listening;
  readonly #descriptor: Descriptor;
  readonly #identity: string;
  #token = -1;
  #found: PeerFound | null = null;
  #hasPeer = false;

  /** Bound and listening when it is made. @throws DeviceError */
  constructor(services: PeerServices, spec: Listening) {
    this.#services = services;
    this.#spec = spec;
    const { memory, frames } = services;
    const { at, type, allowUids } = spec;
    this.#descriptor = new Descriptor(spec.fd ?? socketFor(memory, frames.scratch, at, type));
    const { fd } = this.#descriptor;
    this.#identity = '';
    if (spec.fd !== undefined) return;
    // bind(2) gives the file the mode that the socket has.
    if (fd >= 0 && at.family === 'unix') fchmodSync(fd, 0o600);
    const result = fd < 0 ? fd : this.#listen(fd);
    if (result < 0) {
      this.#descriptor.close();
      throw placeError('listen on', at, result);
    }
    // Not by the socket's mode, of which the umask takes away what others may.
    if (at.family === 'unix' && allowUids.length > 0) chmodSync(at.path, 0o666);
    this.#identity = at.family === 'unix' ? fileIdentity(at.path) : '';
  }

  start(found: PeerFound): void {
    this.#found = found;
    // Refused only where there is no memory for it: then nobody is heard of.
    this.#token = this.#services.poller.add(this.#descriptor.fd, EPOLLIN | EPOLLET, this);
  }

  again(): void {
    this.#hasPeer = false;
  }

  onIo(): void {
    const { memory, frames, poller, log } = this.#services;
    for (let i = 0; i < PEERS_PER_TURN; i++) {
      if (this.#descriptor.fd < 0) return;
      const fd = accept(memory, this.#descriptor.fd, frames.scratch);
      if (fd === -ECONNABORTED || fd === -EINTR) continue;
      // Nobody, or no descriptor for it: it waits, and is looked at when another one comes.
      if (fd < 0) return;
      const who = this.#admit(fd);
      if (who === '') close(fd);
      else if (this.#hasPeer) {
        log('warn', `${placeText(this.#spec.at)}: there is a peer already: another one was closed`);
        close(fd);
      } else {
        this.#hasPeer = true;
        // A client does not have what the listening socket was given.
        if (this.#spec.at.family === 'unix') enlarge(memory, frames.scratch, fd);
        if (this.#spec.at.family === 'ip')
          setsockoptInt(memory, fd, IPPROTO_TCP, TCP_NODELAY, 1, frames.scratch);
        this.#found?.(fd, who);
      }
    }
    poller.ready(this);
  }

  close(): void {
    if (this.#descriptor.fd < 0) return;
    this.#found = null;
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#descriptor.close();
    if (this.#spec.at.family === 'unix') removeSocketFile(this.#spec.at.path, this.#identity);
  }

  #listen(fd: number): number {
    const { memory, frames } = this.#services;
    const { at, type } = this.#spec;
    if (at.family !== 'unix') setsockoptInt(memory, fd, SOL_SOCKET, SO_REUSEADDR, 1, frames.scratch);
    const bound =
      at.family === 'unix'
        ? bindUnix(memory, frames.scratch, fd, typeNumber(type), at.path)
        : bind(memory, fd, frames.scratch, putPlace(memory, frames.scratch, at));
    return bound < 0 ? bound : listen(fd, BACKLOG);
  }

  /** Who it is; empty: it may not. */
  #admit(fd: number): string {
    const { at, allowUids } = this.#spec;
    const { memory, frames, log } = this.#services;
    if (at.family !== 'unix') return placeText(at);
    if (peerCredentials(memory, fd, frames.scratch) < 0) return '';
    const pid = memory.view.getInt32(frames.scratch, true);
    const uid = memory.view.getUint32(frames.scratch + 4, true);
    const isHidden = uid === OVERFLOW_UID && allowUids.length === 0;
    if (uid === 0 || uid === getuid?.() || isHidden || allowUids.includes(uid))
      return `pid ${pid}, uid ${uid}`;
    log(
      'warn',
      `${placeText(at)}: a peer of uid ${uid} (pid ${pid}) was refused; allow-uid=${uid} lets it in`,
    );
    return '';
  }
}
