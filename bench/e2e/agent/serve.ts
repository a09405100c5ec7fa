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
