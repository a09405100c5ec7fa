/**
 * DNS over UDP at the stack's own DNS addresses: every query of the guest is asked again, by the host, at the host's
 * resolvers. RFC 1035, RFC 5452 (what makes an answer believable), RFC 5625 (how a forwarder behaves), RFC 2181 §9.
 *
 * Limits: `dnsMaxOutstanding` queries, each with one descriptor of the flows' budget and at most 4 KiB of query.
 *
 * Left out on purpose: a cache; taking turns between resolvers on their SERVFAIL or REFUSED (the guest gets the answer as
 * it is); opcodes other than QUERY (NOTIMP: a resolver might trust the host's address with an UPDATE or NOTIFY).
 */
import { Counter } from '../stack/counters.ts';
import type { Packet } from '../stack/packet.ts';
import { RateLimit } from '../stack/rate-limit.ts';
import {
  DNS_PORT,
  DNS_RCODE_FORMERR,
  DNS_RCODE_NOTIMP,
  DNS_RCODE_SERVFAIL,
  DnsHeader,
  emitDnsServfail,
  parseDnsHeader,
  questionEnd,
} from '../stack/wire/dns.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../stack/wire/udp.ts';
import type { FlowContext } from './context.ts';
import { DnsQuery, type DnsQueryOwner, MAX_ANSWER } from './dns-query.ts';
import { FlowTable } from './flow-table.ts';

/** Bytes of a query. Real ones have less than 300; also the size of `HostScratch.message`. */
const MAX_QUERY = 4096;
/** Queries that are passed on in a second, and at once: a socket each, for every resolver that is tried (U-04). */
const MAX_QUERIES_PER_SECOND = 4096;

/** Filled and used within one call; shared by all guests. */
const header = new DnsHeader();

export class DnsFlows implements DnsQueryOwner {
  readonly context: FlowContext;
  readonly answer: number;
  readonly serverPort: number;
  readonly #table: FlowTable<DnsQuery>;
  readonly #rate = new RateLimit(MAX_QUERIES_PER_SECOND, MAX_QUERIES_PER_SECOND);

  /** Takes 64 KiB of the slab's fixed regions. A `serverPort` other than 53 is for tests without privileges. */
  constructor(context: FlowContext, serverPort: number = DNS_PORT) {
    this.context = context;
    this.serverPort = serverPort;
    this.answer = context.slab.region(MAX_ANSWER);
    this.#table = new FlowTable(context.hash, PROTOCOL_UDP);
  }

  /** Queries that wait for an answer. */
  get size(): number {
    return this.#table.size;
  }

  /** A datagram of the guest to port 53 of a DNS address. Everything passed is borrowed. */
  onQuery(p: Packet, h: UdpHeader): void {
    const { counters, limits, memory, descriptors, clock } = this.context;
    const view = memory.view;
    const at = p.offset + UDP_HEADER_LEN;
    const length = h.length - UDP_HEADER_LEN;
    if (parseDnsHeader(view, at, length, header) < 0) {
      counters.drop(DropReason.DnsMalformed);
      return;
    }
    // An answer to an answer would be the beginning of a loop (U-06).
    if (header.isResponse) {
      counters.drop(DropReason.DnsResponse);
      return;
    }
    if (header.opcode !== 0) {
      this.#refuse(p, h, DNS_RCODE_NOTIMP);
      return;
    }
    if (length > MAX_QUERY || questionEnd(view, at, length) < 0) {
      counters.drop(DropReason.DnsMalformed);
      this.#refuse(p, h, DNS_RCODE_FORMERR);
      return;
    }
    counters.add(Counter.DnsQueries, 1);
    const key = ((h.srcPort << 16) | header.id) >>> 0;
    const earlier = this.#table.find(p.src, p.dst, key);
    if (earlier !== null) {
      if (earlier.asksSame(view, at, length)) return;
      // The guest has used its id again, so it does not wait for that answer any more.
      earlier.end();
    }
    if (
      this.#table.size >= limits.dnsMaxOutstanding ||
      descriptors.used >= descriptors.limit ||
      !this.#rate.allow(clock.nowMs)
    ) {
      counters.drop(DropReason.DnsLimit);
      counters.add(Counter.DnsFailures, 1);
      this.#refuse(p, h, DNS_RCODE_SERVFAIL);
      return;
    }
    const query = new DnsQuery(this, p.src, p.dst, key, at, length);
    this.#table.add(query);
    query.ask();
  }

  ended(query: DnsQuery): void {
    this.#table.remove(query);
  }

  /** Answer the query in `p` with an error. */
  #refuse(p: Packet, h: UdpHeader, rcode: number): void {
    const { egress, memory, scratch } = this.context;
    const at = p.offset + UDP_HEADER_LEN;
    // Header and question at most, whatever the length of the query.
    const length = emitDnsServfail(memory.view, at, h.length - UDP_HEADER_LEN, scratch.message, rcode);
    egress.sendUdp(p.dst, h.dstPort, p.src, h.srcPort, scratch.message, length);
  }
}
