/**
 * Starts the data-plane thread, carries commands to it and events from it, and above all ends it.
 *
 * A thread blocked in epoll_wait(2) cannot be terminated: neither process.exit nor an uncaught error gets past it. So
 * there is a stop flag in shared memory that the loop reads at every turn, and the wake-up eventfd, written with plain
 * `fs`; an exit handler uses both, so every way out of the process works, also before the thread has said that it is up
 * (the descriptor is then found in the shared memory as well).
 */
import { closeSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { Command, EngineOptions, Event } from '../engine/messages.ts';
import { packageRoot } from '../package-root.ts';
import { Numbers } from './numbers.ts';

const STOP_FLAG = 0;
const WAKE_FD_PLUS_ONE = 1;

/** A thread that has not loaded by then has failed; `exit` handlers cannot hear of that. */
const LOAD_TIMEOUT_MS = 1000;
const LOAD_POLL_MS = 5;

/** An eventfd counts in 8-byte integers of host order. */
const wakeUp: Uint8Array = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

/** One handler for all threads, because the runtime warns of more than ten. */
const running = new Set<Supervisor>();

function endAll(): void {
  for (const supervisor of running) supervisor.endWithProcess();
}

export interface SupervisorOptions extends Omit<EngineOptions, 'stop' | 'flowBlocks'> {
  /** Entry point of the thread; tests put their own here. */
  workerUrl?: URL;
}

/**
 * Bound of the data plane's young heap. It allocates next to nothing per packet, and what a burst of connections makes
 * the young heap grow to would stay with the process.
 */
const YOUNG_GENERATION_MB = 6;

export interface SupervisorHandlers {
  event: (event: Event) => void;
  /** The thread ended by itself, with its error if it had one. Called at most once, and not after `stop`. */
  ended: (error: Error | undefined) => void;
}

export class Supervisor {
  readonly numbers: Numbers = new Numbers();
  private readonly worker: Worker;
  private readonly shared = new Int32Array(new SharedArrayBuffer(8));
  /** Commands were posted before the descriptor to wake the thread with was known. */
  private unheard = false;
  private readonly exited: Promise<void>;
  private handlers: SupervisorHandlers | undefined;
  private readonly early: Event[] = [];
  private failure: Error | undefined;
  private wakeFd = -1;
  private stopping = false;
  private ended = false;

  constructor(options: SupervisorOptions) {
    const workerUrl = options.workerUrl ?? new URL('dist/bundle/worker.cjs', packageRoot);
    const workerData: EngineOptions = {
      limits: options.limits,
      debug: options.debug,
      wireguard: options.wireguard === true,
      tunnel: options.tunnel === true,
      flowBlocks: this.numbers.flowBlocks,
      isVisitor: options.isVisitor === true,
      broker: options.broker,
      stop: this.shared.buffer as SharedArrayBuffer,
    };
    this.worker = new Worker(workerUrl, {
      workerData,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    if (running.size === 0) process.on('exit', endAll);
    running.add(this);
    this.worker.on('message', (event: Event) => this.receive(event));
    this.worker.on('error', (error) => {
      this.failure = error;
    });
    this.exited = new Promise((resolve) => {
      this.worker.on('exit', () => {
        this.ended = true;
        running.delete(this);
        if (running.size === 0) process.removeListener('exit', endAll);
        this.closeWakeFd();
        resolve();
        if (!this.stopping) this.handlers?.ended(this.failure);
      });
    });
  }

  /** The thread is started before anybody knows what to do with its events; they are kept until this is called. */
  listen(handlers: SupervisorHandlers): void {
    this.handlers = handlers;
    for (const event of this.early.splice(0)) handlers.event(event);
    if (this.ended && !this.stopping) handlers.ended(this.failure);
  }

  /** Post a command. Those given before the thread is up wait in its mailbox, which it looks into first of all. */
  send(command: Command): void {
    if (this.stopping || this.ended) return;
    this.worker.postMessage(command);
    if (this.wakeFd < 0) this.unheard = true;
    else this.wake(this.wakeFd);
  }

  /** End the thread; resolves when it is gone. May be called again. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.requestStop();
    await this.exited;
  }

  /** The thread does not keep the process alive. */
  unref(): void {
    this.worker.unref();
  }

  /** The process ends, whatever the thread is at. */
  endWithProcess(): void {
    this.awaitLoaded();
    this.requestStop();
  }

  private receive(event: Event): void {
    if (event.type === 'started') {
      this.wakeFd = event.wakeFd;
      if (this.stopping) this.requestStop();
      // It may have looked just before they came.
      if (this.unheard) this.wake(this.wakeFd);
      this.unheard = false;
    }
    if (this.handlers === undefined) this.early.push(event);
    else this.handlers.event(event);
  }

  private requestStop(): void {
    if (this.ended) return;
    Atomics.store(this.shared, STOP_FLAG, 1);
    const fd = this.wakingFd();
    if (fd >= 0) this.wake(fd);
  }

  /** -1: the thread has not come that far. */
  private wakingFd(): number {
    return this.wakeFd >= 0 ? this.wakeFd : Atomics.load(this.shared, WAKE_FD_PLUS_ONE) - 1;
  }

  /** Not by the thread: as long as it may be written to, nobody else is to have the number. */
  private closeWakeFd(): void {
    const fd = this.wakingFd();
    if (fd >= 0) closeSync(fd);
  }

  /**
   * The runtime ends a thread at any point of its code, and the foreign function library aborts the whole process when
   * that falls into its initialisation. So let a thread that is just starting get past that.
   */
  private awaitLoaded(): void {
    const deadline = performance.now() + LOAD_TIMEOUT_MS;
    while (!this.ended && this.wakeFd < 0 && performance.now() < deadline) {
      if (Atomics.wait(this.shared, WAKE_FD_PLUS_ONE, 0, LOAD_POLL_MS) === 'not-equal') return;
    }
  }

  private wake(fd: number): void {
    try {
      writeSync(fd, wakeUp);
    } catch {
      // EAGAIN: the counter is full, so the thread is awake already.
    }
  }
}
