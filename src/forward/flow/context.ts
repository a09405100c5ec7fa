/** What every flow of a guest needs: its stack, its policy, and the engine's services behind small interfaces. */
import type { Limits } from '../../config.ts';
import type { Policy } from '../../firewall/verdict.ts';
import type { Clock, Poller, Timers } from '../../loop.ts';
import type { GuestBehavior } from '../../profiles.ts';
import type { Slab } from '../../stack/buffer/slab.ts';
import type { Counters } from '../../stack/counters.ts';
import type { HalfSipHash } from '../../stack/half-sip-hash.ts';
import type { Icmp } from '../../stack/icmp/icmp.ts';
import type { OwnAddresses } from '../../stack/ip/own-addresses.ts';
import type { Egress } from '../../stack/link/egress.ts';
import type { Link } from '../../stack/link/link.ts';
import type { Solicitor } from '../../stack/neighbor/solicitor.ts';
import type { Rng } from '../../stack/rng.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import type { Memory } from '../../sys/memory.ts';
import type { InsideSockets } from '../splice/inside-sockets.ts';
import type { AddressMappings } from '../target/address-mappings.ts';
import type { HostNames } from '../target/name-questions.ts';
import type { RemoteForwards } from '../target/remote-forwards.ts';
import type { Resolvers } from '../target/resolvers.ts';
import type { Denials } from './denials.ts';
import type { DescriptorBudget } from './descriptor-budget.ts';
import type { GuestPages } from './page-pool.ts';
import type { FlowReports } from './reports.ts';
import type { FlowScratch } from './scratch.ts';

export interface FlowContext {
  readonly memory: Memory;
  readonly slab: Slab;
  /** The guest's part of it. */
  readonly pages: GuestPages;
  readonly scratch: FlowScratch;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly hash: HalfSipHash;
  readonly limits: Limits;
  readonly counters: Counters;
  readonly descriptors: DescriptorBudget;
  readonly link: Link;
  readonly own: OwnAddresses;
  readonly mappings: AddressMappings;
  readonly egress: Egress;
  readonly icmp: Icmp;
  readonly solicitor: Solicitor;
  readonly policy: Policy;
  readonly resolvers: Resolvers;
  readonly names: HostNames;
  /** Sockets in the guest's own namespace. */
  readonly inside: InsideSockets;
  readonly remoteForwards: RemoteForwards;
  readonly behavior: GuestBehavior;
  /** Source of host sockets by the user's choice, see `bindSource`; null = the kernel's. */
  readonly source4: IpAddress | null;
  readonly source6: IpAddress | null;
  /** Interfaces by the user's choice; empty = where routes lead. */
  readonly outboundInterface4: string;
  readonly outboundInterface6: string;
  /** DNS is offered at the DNS addresses. */
  readonly dnsEnabled: boolean;
  /**
   * Bring what is known of the host's addresses up to date, once in a turn, before the verdict that opens a flow. False:
   * they are not known completely, and nothing may be opened.
   */
  refreshHostRoutes(): boolean;
  /** A number for a flow, never used again. */
  newFlowId(): number;
  readonly reports: FlowReports;
  readonly denials: Denials;
  /** There is something to settle at the end of the turn. */
  touched(): void;
  /** An exception that must not end more than the flow that met it: it is logged once for each place. */
  onError(error: unknown): void;
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>): void;
}
