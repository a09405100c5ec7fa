/** What the loop of the data plane does for whoever has descriptors or deadlines: events, the time, and a turn's shares. */

/** Something that owns a descriptor. */
export interface IoHandler {
  /** Asked for another turn; kept by the poller, starts as false. */
  waiting: boolean;
  /** epoll(7) events, edge-triggered; 0 when the handler asked for another turn with `ready`. */
  onIo(events: number): void;
}

/** The engine's epoll set. */
export interface Poller {
  /** Watch `fd`; a token to stop with, or `-errno`. `first`: its events come before all others of a turn. */
  add(fd: number, events: number, handler: IoHandler, first?: boolean): number;
  /** Watch for other events. 0 or `-errno`. */
  modify(token: number, events: number): number;
  /** Stop watching. Events already fetched for it are not delivered any more. */
  remove(token: number): void;
  /** As `remove`, for a descriptor that is closed at once: close(2) takes it out of the epoll set by itself. */
  forget(token: number): void;
  /** Call `handler.onIo(0)` again in the next turn: it has more to do than its share of this one. */
  ready(handler: IoHandler): void;
  /** Read the clock again within the turn. */
  readClock(): void;
}

/** Something with a deadline. */
export abstract class TimerNode {
  /** Place in the engine's heap, -1 when not in it. Only the engine touches this and the next. */
  heapIndex = -1;
  heapDeadline: number = Number.POSITIVE_INFINITY;
  /** When `onTimer` is wanted; may be moved later at any time without telling the engine. */
  deadline: number = Number.POSITIVE_INFINITY;
  abstract onTimer(nowMs: number): void;
}

/** The engine's timers. */
export interface Timers {
  /** `node.deadline` may have moved to an earlier time: make sure it is kept. */
  update(node: TimerNode): void;
  cancel(node: TimerNode): void;
}

/** Monotonic time, read once a turn, and again for each frame from a link whose round trips matter (`readClock`). */
export interface Clock {
  nowMs: number;
  /** Number of the turn. */
  turn: number;
  /** Host bytes that flows may still move towards guests in this turn. */
  bytesLeft: number;
  /** What flows may still send to guests in this turn, in bytes, what a frame costs by itself included. */
  sendLeft: number;
  /** Frames that a device may hand over in one go. */
  batchFrames: number;
}
