/**
 * What passes between the control plane (main thread) and the data plane (worker thread). Plain data only; structured
 * clone is the serialiser. Commands go through the mailbox: `postMessage` and then one write to the wake-up eventfd,
 * because the data plane blocks in epoll_wait(2) and sees no JavaScript event while it does.
 */
import type { GuestSpec, Limits } from '../config.ts';

/** `workerData` of the data-plane thread. */
export interface EngineOptions {
  limits: Limits;
  /**
   * Int32Array of two elements over shared memory. [0] is set by the control plane: non-zero = leave the loop at the next
   * turn. [1] is set by the data plane (Atomics.store) as soon as its eventfd exists and before it looks at [0] or
   * blocks: the descriptor + 1. A process that ends before `started` is delivered finds the eventfd there.
   */
  stop: SharedArrayBuffer;
  /** Post `log` events of level debug and below. */
  debug: boolean;
}

export type Command =
  | { type: 'addGuest'; id: number; guest: GuestSpec }
  | { type: 'setResolvers'; servers: string[] }
  /** End with an event when this descriptor becomes readable or its other end closes. */
  | { type: 'watchFd'; fd: number; name: string }
  | { type: 'snapshot'; id: number };

export type Event =
  /** First message: commands may be posted, followed by an 8-byte little-endian 1 written to this descriptor. */
  | { type: 'started'; wakeFd: number }
  | { type: 'guestReady'; id: number }
  | { type: 'guestFailed'; id: number; message: string }
  /** The link is gone for good (device deleted, namespace destroyed). */
  | { type: 'linkGone'; reason: string }
  | { type: 'fdEvent'; fd: number; name: string }
  | {
      type: 'log';
      level: 'debug' | 'info' | 'warn' | 'error';
      message: string;
      fields?: Record<string, unknown>;
    }
  | { type: 'snapshot'; id: number; counters: Record<string, number>; gauges: Record<string, number> }
  | { type: 'failed'; message: string };
