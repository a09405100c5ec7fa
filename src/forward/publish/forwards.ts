/**
 * The forwards of one guest, both directions, by number.
 *
 * Remote forwards are looked up by `findTarget`, before the policy, and reach the flows as `TargetKind.Forward` with
 * `Target.forward`. Local forwards are listeners: for each protocol somebody opens one (`OpenListener`), which owns its
 * descriptor and makes flows of what arrives. Adding is all or nothing; what stands in the way is thrown as a
 * `ForwardError`. Removing closes the listener, or frees the guest-side port, at once; flows that exist go on and keep
 * what they need of the specification themselves; those of a local UDP forward share its socket and end with it.
 *
 * Remote forwards that listen inside the guest's namespace are listeners too, whose socket somebody else has to make.
 */
import type { ForwardSpec, HostEnd, LocalForwardSpec, RemoteForwardSpec } from '../../config.ts';
import { EINVAL } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { Aim } from './aim.ts';
import { ForwardError } from './forward-error.ts';
import { ListenerSpan } from './listener-span.ts';

/** An open local forward. */
export interface Listener {
  /** What was really bound. */
  readonly bound: HostEnd;
  /** Ports that could not be had. */
  readonly missing: number;
  /** Lead elsewhere from now on. */
  aim(aim: Aim): void;
  close(): void;
}

/** Opens the host's end of local forward `id`. Throws `ForwardError`. */
export type OpenListener = (id: number, spec: LocalForwardSpec, aim: Aim) => Listener;

/** Has a socket made inside the guest's namespace for remote forward `id`; `done` gets the listener, or why there is none. */
export type OpenInside = (
  id: number,
  spec: RemoteForwardSpec,
  done: (opened: Listener | ForwardError) => void,
) => void;

/** A forward that is open. */
export interface Added {
  /** What was really bound. */
  readonly listen: HostEnd;
  /** Ports that could not be had. */
  readonly missing: number;
}

export class Forwards {
  readonly #context: FlowContext;
  readonly #openTcp: OpenListener;
  readonly #openUdp: OpenListener;
  readonly #openInside: OpenInside;
  readonly #listeners = new Map<number, Listener>();
  /** Those inside that are not there yet. */
  readonly #opening = new Set<number>();

  constructor(context: FlowContext, openTcp: OpenListener, openUdp: OpenListener, openInside: OpenInside) {
    this.#context = context;
    this.#openTcp = openTcp;
    this.#openUdp = openUdp;
    this.#openInside = openInside;
  }

  /** As `add`, also for what takes a while; `done` gets a `ForwardError` then. Throws `ForwardError`, too. */
  open(id: number, spec: ForwardSpec, done: (result: Added | ForwardError) => void): void {
    if (spec.direction === 'local' || spec.inside === undefined) {
      done(this.add(id, spec));
      return;
    }
    this.#opening.add(id);
    const opens = (opened: Listener | ForwardError): void => {
      const isWanted = this.#opening.delete(id);
      if (opened instanceof ForwardError) {
        done(opened);
        return;
      }
      const { bound: listen, missing } = opened;
      if (isWanted) this.#listeners.set(id, opened);
      // It was taken back meanwhile.
      else opened.close();
      done({ listen, missing });
    };
    try {
      this.#openInside(id, spec, opens);
    } catch (error) {
      this.#opening.delete(id);
      throw asRefusal(error);
    }
  }

  /** Open a forward, or have an open one lead elsewhere. Throws `ForwardError`, and nothing has changed. */
  add(id: number, spec: ForwardSpec): Added {
    try {
      if (spec.direction === 'remote') {
        this.#context.remoteForwards.add(id, spec);
        return { listen: { kind: 'ip', ...spec.bind }, missing: 0 };
      }
      const aim = new Aim(this.#context, spec);
      let listener = this.#listeners.get(id);
      if (listener === undefined) {
        listener = this.#open(id, spec, aim);
        this.#listeners.set(id, listener);
      } else {
        listener.aim(aim);
      }
      const { bound: listen, missing } = listener;
      return { listen, missing };
    } catch (error) {
      throw asRefusal(error);
    }
  }

  /** False: there is no such forward. */
  remove(id: number): boolean {
    if (this.#opening.delete(id)) return true;
    const listener = this.#listeners.get(id);
    if (listener === undefined) return this.#context.remoteForwards.remove(id);
    this.#listeners.delete(id);
    listener.close();
    return true;
  }

  /** Close every listener, at the end of the guest. */
  close(): void {
    this.#opening.clear();
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }

  #open(id: number, spec: LocalForwardSpec, aim: Aim): Listener {
    const open = spec.protocol === 'tcp' ? this.#openTcp : this.#openUdp;
    return spec.span === undefined
      ? open(id, spec, aim)
      : new ListenerSpan(this.#context, open, id, spec, aim, spec.span);
  }
}

/** Text that is no address: the front end should have seen it. */
function asRefusal(error: unknown): unknown {
  return error instanceof RangeError ? new ForwardError(EINVAL, error.message) : error;
}
