/** The servers in the host namespace. Each announces itself through `ready` and then serves until it is killed. */
import * as net from './sockets.ts';

/** TCP echo for any number of connections, edge-triggered. */
export function serveConnections(port: number, ready: () => void): never {
  const listener = net.serve(net.STREAM | net.NONBLOCK, port);
  const epoll = net.epollOpen();
  net.epollAdd(epoll, listener, net.EPOLLIN);
  const at = net.base + net.AT_BYTE;
  ready();
  for (;;) {
    const count = net.epollWait(epoll, -1);
    for (let i = 0; i < count; i++) {
      const fd = net.eventFd(i);
      if (fd === listener) {
        for (let taken = 0; taken < net.MAX_EVENTS; taken++) {
          const accepted = net.accept(listener, net.NONBLOCK);
          if (accepted < 0) break;
          net.epollAdd(epoll, accepted, net.EPOLLIN | net.EPOLLRDHUP | net.EPOLLET);
        }
        continue;
      }
      const mask = net.eventMask(i);
      const length = net.receive(fd, at, 64, 0);
      if (length > 0) net.send(fd, at, length, 0);
      const ended = length === 0 || (mask & (net.EPOLLRDHUP | net.EPOLL_BROKEN)) !== 0;
      if (ended || (length < 0 && !net.wouldWait())) net.close(fd);
    }
  }
}

/** TCP echo, one connection after the other, with blocking calls. */
export function serveStream(port: number, ready: () => void): never {
  const listener = net.serve(net.STREAM, port);
  const at = net.base + net.AT_BYTE;
  ready();
  for (;;) {
    const fd = net.accept(listener, 0);
    if (fd < 0) continue;
    net.noDelay(fd);
    for (let length = net.receive(fd, at, 64, 0); length > 0; length = net.receive(fd, at, 64, 0)) {
      net.send(fd, at, length, 0);
    }
    net.close(fd);
  }
}

const DNS_PORT = 53;
/** A compressed name that is the question's, type A, class IN, 60 s, four bytes: 192.0.2.1. */
const ANSWER = Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1);

/** A connection begins with `u` or `d` and a number of bytes (decimal, ten digits): take them and say so, or give them. */
export function serveBytes(port: number, ready: () => void): never {
  const listener = net.serve(net.STREAM, port);
  const text = net.base + net.AT_TEXT;
  ready();
  for (;;) {
    const fd = net.accept(listener, 0);
    if (fd < 0 || net.receive(fd, text, 11, 0) !== 11) continue;
    const [way, bytes] = [net.text(1), Number(net.text(11).slice(1))];
    let left = bytes;
    while (left > 0) {
      const count = Math.min(net.BLOCK, left);
      const moved =
        way === 'u' ? net.receive(fd, net.blockAt, count, 0) : net.send(fd, net.blockAt, count, 0x4000);
      if (moved <= 0) break;
      left -= moved;
    }
    if (left === 0) net.send(fd, text, 1, 0x4000);
    net.close(fd);
  }
}

/** A resolver that knows every name at once. */
export function serveNames(address: string, ready: () => void): never {
  const fd = net.serve(net.DATAGRAM, DNS_PORT, address);
  const text = net.base + net.AT_TEXT;
  const bytes = new Uint8Array(net.scratch, net.AT_TEXT, 4096);
  ready();
  for (;;) {
    const length = net.receiveFrom(fd, text, 1024);
    if (length < 12) continue;
    // What follows the question (EDNS) is left out. Names are not compressed in a question.
    let end = 12;
    while (end < length && bytes[end] !== 0) end += (bytes[end] as number) + 1;
    end += 5;
    bytes.set([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], 2);
    bytes.set(ANSWER, end);
    net.answer(fd, text, end + ANSWER.length);
  }
}

/** UDP echo at one address. */
export function serveDatagrams(address: string, port: number, ready: () => void): never {
  const fd = net.serve(net.DATAGRAM, port, address);
  const at = net.base + net.AT_BYTE;
  ready();
  for (;;) {
    const length = net.receiveFrom(fd, at, 64);
    if (length >= 0) net.answer(fd, at, length);
  }
}
