/** The ports of one local forward that has several: a socket each, one forward for whoever asks. Set-up only. */
import type { HostEnd, LocalForwardSpec, PortSpan } from '../../config.ts';
import { EMFILE } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import type { Aim } from './aim.ts';
import { ForwardError } from './forward-error.ts';
import type { Listener, OpenListener } from './forwards.ts';

/** Ports that are taken as far as they can be had leave as much of all descriptors to traffic. */
const LEFT_TO_TRAFFIC = 1 / 2;

export class ListenerSpan implements Listener {
  readonly #listeners: Listener[] = [];
  /** Ports that could not be had. */
  readonly missing: number;

  /** Throws `ForwardError`: of the first port, where all are to be had or none could. */
  constructor(
    context: FlowContext,
    open: OpenListener,
    id: number,
    spec: LocalForwardSpec,
    aim: Aim,
    { ports, leniently }: PortSpan,
  ) {
    const { descriptors } = context;
    const { listen } = spec;
    const first = listen.kind === 'ip' ? listen.port : 0;
    let fault: ForwardError | null = null;
    for (let i = 0; i < ports; i++) {
      const port = first + i;
      try {
        if (leniently && descriptors.used >= descriptors.limit * LEFT_TO_TRAFFIC)
          throw new ForwardError(EMFILE, 'too many ports for the descriptors that there are');
        this.#listeners.push(open(id, { ...spec, listen: { ...listen, port } as HostEnd }, aim));
      } catch (error) {
        if (!(error instanceof ForwardError)) {
          this.close();
          throw error;
        }
        fault ??= new ForwardError(error.errno, error.message, port);
        if (!leniently) break;
      }
    }
    if (fault !== null && (!leniently || this.#listeners.length === 0)) {
      this.close();
      throw fault;
    }
    this.missing = ports - this.#listeners.length;
  }

  /** The first of them. */
  get bound(): HostEnd {
    return (this.#listeners[0] as Listener).bound;
  }

  aim(aim: Aim): void {
    for (const listener of this.#listeners) listener.aim(aim);
  }

  close(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }
}
