/**
 * The forwards of one guest, both directions, by number.
 *
 * Remote forwards are looked up by `findTarget`, before the policy, and reach the flows as `TargetKind.Forward` with
 * `Target.forward`. Local forwards are listeners: for each protocol somebody opens one (`OpenListener`), which owns its
 * descriptor and makes flows of what arrives. Adding is all or nothing; what stands in the way is thrown as a
 * `ForwardError`. Removing closes the listener, or frees the guest-side port, at once; flows that exist go on and keep
 * what they need of the specification themselves; those of a local UDP forward share its socket and end with it.
 */
import type { ForwardSpec, HostEnd, LocalForwardSpec } from '../../config.ts';
import { EINVAL } from '../../sys/errno.ts';
import type { RemoteForwards } from '../target/remote-forwards.ts';
import { ForwardError } from './forward-error.ts';

/** An open local forward. */
export interface Listener {
  /** What was really bound. */
  readonly bound: HostEnd;
  /** Lead elsewhere from now on, as `spec` says. Throws `ForwardError`, and nothing has changed. */
  aim(spec: LocalForwardSpec): void;
  close(): void;
}

/** Opens the host's end of local forward `id`. Throws `ForwardError`. */
export type OpenListener = (id: number, spec: LocalForwardSpec) => Listener;

export class Forwards {
  readonly #remote: RemoteForwards;
  readonly #openTcp: OpenListener;
  readonly #openUdp: OpenListener;
  readonly #listeners = new Map<number, Listener>();

  constructor(remote: RemoteForwards, openTcp: OpenListener, openUdp: OpenListener) {
    this.#remote = remote;
    this.#openTcp = openTcp;
    this.#openUdp = openUdp;
  }

  /** Open a forward, or have an open one lead elsewhere; the address really bound. Throws `ForwardError`. */
  add(id: number, spec: ForwardSpec): HostEnd {
    try {
      const open = this.#listeners.get(id);
      if (open !== undefined && spec.direction === 'local') {
        open.aim(spec);
        return open.bound;
      }
      if (spec.direction === 'remote') {
        this.#remote.add(id, spec);
        return { kind: 'ip', ...spec.bind };
      }
      const listener = (spec.protocol === 'tcp' ? this.#openTcp : this.#openUdp)(id, spec);
      this.#listeners.set(id, listener);
      return listener.bound;
    } catch (error) {
      // Text that is no address: the front end should have seen it.
      if (error instanceof RangeError) throw new ForwardError(EINVAL, error.message);
      throw error;
    }
  }

  /** False: there is no such forward. */
  remove(id: number): boolean {
    const listener = this.#listeners.get(id);
    if (listener === undefined) return this.#remote.remove(id);
    this.#listeners.delete(id);
    listener.close();
    return true;
  }

  /** Close every listener, at the end of the guest. */
  close(): void {
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }
}
