/**
 * Follows the MTU of a guest's interface while it is in use.
 *
 * The guest may change it, and any other link of its namespace, as often as it likes: a turn takes a few messages, and
 * only the last MTU among them counts. News that were lost (ENOBUFS) are made good by asking, once everything is read:
 * before that there may be no room for the answer.
 */
import type { IoHandler, Poller } from '../loop.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { EAGAIN, EINTR, ENOBUFS } from '../sys/errno.ts';
import type { LinkNews } from '../sys/netns/link-news.ts';

const MESSAGES_PER_TURN = 16;

export class LinkWatch implements IoHandler {
  waiting = false;
  readonly #news: LinkNews;
  readonly #poller: Poller;
  readonly #onMtu: (mtu: number) => void;
  #token = -1;
  /** The link is to be asked about: at the start, and when news were lost. */
  #unsure = true;

  /** `onMtu` is told the MTU at the start and whenever something about the link has changed. */
  constructor(news: LinkNews, poller: Poller, onMtu: (mtu: number) => void) {
    this.#news = news;
    this.#poller = poller;
    this.#onMtu = onMtu;
  }

  /** 0 or `-errno`; it is to be closed whatever the outcome. */
  start(): number {
    const result = this.#news.join();
    if (result < 0) return result;
    // As early as the device's: the frames that come with a new MTU are judged by it.
    this.#token = this.#poller.add(this.#news.fd, EPOLLIN, this, true);
    if (this.#token < 0) return this.#token;
    this.onIo();
    return 0;
  }

  /** Take what news there are. */
  onIo(): void {
    if (this.#token < 0) return;
    let mtu = 0;
    let result = 0;
    for (let i = 0; i < MESSAGES_PER_TURN; i++) {
      result = this.#news.receive();
      if (result > 0) mtu = result;
      else if (result === -ENOBUFS) this.#unsure = true;
      else if (result < 0 && result !== -EINTR) break;
    }
    if (mtu > 0) this.#onMtu(mtu);
    if (result >= 0 || result === -ENOBUFS || result === -EINTR) this.#poller.ready(this);
    else if (result === -EAGAIN && this.#unsure) this.#unsure = this.#news.ask() < 0;
  }

  close(): void {
    if (this.#token >= 0) this.#poller.remove(this.#token);
    this.#token = -1;
    this.#news.close();
  }
}
