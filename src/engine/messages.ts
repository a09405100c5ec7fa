/**
 * What passes between the control plane (main thread) and the data plane (worker thread). Plain data only; structured
 * clone is the serialiser. Commands go through the mailbox: `postMessage` and then one write to the wake-up eventfd,
 * because the data plane blocks in epoll_wait(2) and sees no JavaScript event while it does.
 *
 * `guest` is a guest's number: chosen by the control plane, from 1, and never used again. So are those of forwards and
 * requests; flows have theirs from the data plane. Each is one sequence for all guests of a server (control/numbers.ts).
 */
import type {
  AddressMapping,
  AddressPlan,
  Endpoint,
  ForwardSpec,
  GuestSpec,
  HostEnd,
  Limits,
  ProcessLimits,
  ResolverOptions,
} from '../config.ts';
import type { EndReason, PeerEvent } from '../device/device-link.ts';
import type { LinkInfo } from '../device/open-link.ts';
import type { DeviceStep } from '../device-error.ts';
import type { InterfaceNetwork } from '../device-spec.ts';
import type { PolicySpec } from '../firewall/verdict.ts';
import type { FlowInfo, FlowReport } from '../forward/flow/info.ts';

export type { EndReason, PeerEvent } from '../device/device-link.ts';
export type { LinkInfo } from '../device/open-link.ts';
export type { FlowEvent, FlowInfo, FlowReport, Refusal, RefusalReason } from '../forward/flow/info.ts';

/** `workerData` of the data-plane thread. */
export interface EngineOptions {
  limits: ProcessLimits;
  /**
   * Int32Array of two elements over shared memory. [0] is set by the control plane: non-zero = leave the loop at the next
   * turn. [1] is set by the data plane (Atomics.store) as soon as its eventfd exists and before it looks at [0] or
   * blocks: the descriptor + 1. A process that ends before `started` is delivered finds the eventfd there.
   */
  stop: SharedArrayBuffer;
  /** Where blocks of numbers for flows come from, see FlowNumbers; shared by all data planes of a server. */
  flowBlocks: SharedArrayBuffer;
  /** The process is somebody else's: its limit of open files stays as it is. */
  isVisitor?: boolean;
  /** Post `log` events of level debug and below. */
  debug: boolean;
  /** A guest may be a peer of WireGuard: what that takes is loaded. */
  wireguard?: boolean;
  /** The same of a plain tunnel. */
  tunnel?: boolean;
  /** Rehearse (rehearsed-guest.ts) and end: what that compiles, the build keeps (scripts/bundle.mjs). */
  rehearseOnly?: boolean;
  /** Our end of the socket to the broker, which is a child of ours; null where there is none. */
  broker: { fd: number; pid: number } | null;
}

/** What of a guest may be otherwise while it is there. */
export interface GuestChange {
  policy?: PolicySpec;
  limits?: Partial<Limits>;
  /** Flows that the policy does not allow any more end. */
  revoke?: boolean;
  /** See `GuestBehavior.flowEvents`. */
  areTold?: boolean;
  /** Where the guest's network is the host's, and that has changed. Families stay. */
  network?: { addresses: AddressPlan; mappings: AddressMapping[] };
}

export type Command =
  | { type: 'addGuest'; guest: number; spec: GuestSpec }
  /**
   * What is given holds from now on, also for what is open; flows go on, but for `revoke`. Limits are those of what is opened
   * from now on.
   */
  | ({ type: 'updateGuest'; guest: number } & GuestChange)
  /** The addresses and routes of its interface; whoever is inside has been told that he changes them (`GuestConfig.changesRoutes`). */
  | {
      type: 'changeInterface';
      guest: number;
      name: string;
      before: InterfaceNetwork;
      after: InterfaceNetwork;
    }
  /** Its flows are reset to both sides, and everything it had is given back. */
  | { type: 'removeGuest'; guest: number }
  /** Sockets inside the guest's namespace come by this channel, which is the data plane's from now on. May come before the guest. */
  | { type: 'enterGuest'; guest: number; channel: number }
  /** May come before the guest. */
  | { type: 'setResolvers'; guest: number; servers: string[]; options: ResolverOptions; search: string[] }
  /** Post one event when the other end of this descriptor closes, or, with `data`, when it becomes readable. */
  | { type: 'watchFd'; fd: number; name: string; data: boolean }
  | { type: 'snapshot'; guest: number; request: number }
  /** Have the kernel send this process a signal when its parent ends. Not answered; in force before the next command. */
  | { type: 'parentDeathSignal'; signal: number }
  /**
   * Put the system call filter in force, for all threads and for good. `unixSockets`, `vsockets`: such are still made.
   */
  | { type: 'confine'; unixSockets: boolean; vsockets: boolean }
  /**
   * Open a forward; `forward` is its number from now on. With the number of a local one that is open: lead where `spec` says
   * from now on. It goes on listening where it does, connections stay, flows of datagrams end.
   */
  | { type: 'addForward'; guest: number; forward: number; spec: ForwardSpec }
  /** Close its listener (or guest-side port) at once; flows that exist go on, but those of a local UDP forward share its socket. */
  | { type: 'removeForward'; guest: number; forward: number }
  /**
   * Connect to the guest for somebody in this process, as a flow of the local forward with this number, of which there is no
   * other.
   */
  | { type: 'dialGuest'; guest: number; forward: number; target: Endpoint }
  /** The machine has slept: what is followed is looked at. */
  | { type: 'wake' }
  /** Answer to `resolveHost`. `reason` is one line, empty on success. */
  | { type: 'hostResolved'; guest: number; request: number; target: HostEnd | null; reason: string }
  | { type: 'listFlows'; guest: number; request: number }
  /**
   * Whether the client of the accepted unix socket with this inode is in our network namespace. With inode 0, whether that
   * can be found out at all, from now on.
   */
  | { type: 'judgePeer'; request: number; inode: number }
  /** Have a NETLINK_SOCK_DIAG socket of the host's network. */
  | { type: 'openSockets'; guest: number; request: number }
  /** Cut a flow: RST to both sides. */
  | { type: 'closeFlow'; guest: number; request: number; flow: number };

export type Event =
  /** First message: commands may be posted, followed by an 8-byte little-endian 1 written to this descriptor. */
  | { type: 'started'; wakeFd: number }
  /** A guest's socket is there; `guestReady` follows when its peer has connected. */
  | { type: 'guestWaiting'; guest: number; path: string }
  /** `notes`: what could not be had, or stands in the way, one sentence each. `networks`: those of the host, as text. */
  | { type: 'guestReady'; guest: number; link: LinkInfo; notes: string[]; networks: string[] }
  /** `error` is a positive errno, or 0; `message` one line. */
  | { type: 'guestFailed'; guest: number; step: DeviceStep; error: number; message: string }
  /** Answers to `updateGuest` and `removeGuest`. `reason`: one line, empty when it was done. */
  | { type: 'guestUpdated'; guest: number; reason: string }
  | { type: 'guestRemoved'; guest: number; existed: boolean }
  /** The link is gone for good (device deleted, namespace destroyed). */
  | { type: 'linkGone'; guest: number; reason: EndReason; text: string }
  /** Its other end has gone, and is waited for; and has come. */
  | { type: 'linkDown'; guest: number; reason: EndReason; text: string }
  | { type: 'linkUp'; guest: number; peer: string }
  /** What became of a peer of WireGuard or of a tunnel. */
  | { type: 'peer'; guest: number; event: PeerEvent }
  | { type: 'fdEvent'; fd: number; name: string }
  /** What the broker says, in its words (bin/broker.pl); none: it has ended. */
  | { type: 'broker'; text: string }
  | {
      type: 'log';
      /** 0: it is about the data plane itself. */
      guest: number;
      level: 'debug' | 'info' | 'warn' | 'error';
      message: string;
      fields?: Record<string, unknown>;
    }
  /** Of one guest; the gauges also of what all have in common. */
  | {
      type: 'snapshot';
      guest: number;
      request: number;
      counters: Record<string, number>;
      gauges: Record<string, number>;
    }
  | { type: 'failed'; message: string }
  /** Answer to `confine`: 0, or a positive errno. */
  | { type: 'confined'; error: number }
  /** The forward is open; `listen` is what was really bound (local forwards with port 0), `missing` how many ports were not. */
  | { type: 'forwardAdded'; guest: number; forward: number; listen: HostEnd; missing?: number }
  /** `error` is a positive errno; `message` one line. `port`: of several, the one that it is about; 0: there is but one. */
  | { type: 'forwardFailed'; guest: number; forward: number; error: number; message: string; port?: number }
  | { type: 'forwardRemoved'; guest: number; forward: number; existed: boolean }
  /**
   * Answer to `dialGuest`. `fd`: the other end of the flow, a connected stream socket that belongs to whoever asked; or -1, and
   * `error` is a positive errno.
   */
  | { type: 'guestDialed'; guest: number; forward: number; fd: number; error: number }
  /** A flow of a remote forward waits for its target's address. */
  | {
      type: 'resolveHost';
      guest: number;
      request: number;
      label: string;
      port: number;
      protocol: 'tcp' | 'udp';
    }
  /** Answer to `listFlows`, in pieces; `more` of them follow. */
  | { type: 'flows'; guest: number; request: number; flows: FlowInfo[]; more: boolean }
  | { type: 'flowClosed'; guest: number; request: number; existed: boolean }
  /** The descriptor, which is the receiver's, or `-errno`. */
  | { type: 'socketsOpened'; guest: number; request: number; fd: number }
  /** `near`: it was (inode 0: it can). */
  | { type: 'peerJudged'; request: number; near: boolean }
  /** What became of a flow, unasked. */
  | { type: 'report'; guest: number; report: FlowReport };
