/**
 * How the networks of the programs that we stand for differ beyond addresses and policy: one profile each, complete, so that
 * nothing of one leaks into another. What a user may choose is set on top by the front end.
 */

/** What sets the front ends' networks apart beyond addresses and policy. */
export interface GuestBehavior {
  /** TCP and UDP to the gateway address reach the host's loopback, 127.0.0.1 and ::1. */
  gatewayIsLoopback: boolean;
  /**
   * How a port of our own addresses where nobody listens answers: as a closed port, with "net unreachable", or as the
   * policy denies (TCP is reset, UDP gets no answer).
   */
  ownPorts: 'closed' | 'unreachable' | 'denied';
  /** Without a DNS service its addresses are still ours, or destinations on the host's side like any other. */
  dnsAddressesWithoutDns: 'own' | 'outside';
  /** Echo requests to other addresses go out through ping sockets, or the stack answers them all by itself. */
  echo: 'relay' | 'local';
  /**
   * The guest's network is the host's too, as is its address: neither the gateway nor the DNS addresses are ours, and who is
   * in that network is outside like any other.
   */
  sharedNetwork: boolean;
  /** We are a router on the way: a hop limit is one less behind us. */
  isHop: boolean;
  /** ARP and neighbour discovery are answered for every address that is not the guest's, not only for our own. */
  proxyNeighbors: boolean;
  /** UDP to the outside: one host socket per guest port (RFC 4787), or one connected socket per destination. */
  udpMapping: 'endpointIndependent' | 'connected';
  /** Post a `flow` event when a flow opens, closes or fails. */
  flowEvents: boolean;
  /** Tell what is refused: never, one of each kind a second, or all (as many as flows are told of). */
  denials: 'never' | 'sampled' | 'all';
  /** Our MAC address as text, or empty: made from the gateway's address. */
  mac: string;
  /** MAC addresses say nothing, as on a link between programs: frames from ours and to any other are taken as well. */
  sharedMac: boolean;
  /** Packets from any address that a host can have are taken and answered, not only from the guest's network. */
  anySource: boolean;
  /** Ask the link for the guest's MAC address (ARP) as soon as it is there. */
  askForGuest: boolean;
  /** The chosen source address counts towards the host's loopback too (not for DNS). */
  sourceTowardsLoopback: boolean;
  /** TCP to a remote forward whose name cannot be resolved: refused, or accepted and ended at once. */
  unresolved: 'refuse' | 'end';
  /** A local forward may be on an address that the host does not have yet; otherwise that is an error. */
  listenAhead: boolean;
}

/** The network of `tslirp` itself. */
const tslirp: GuestBehavior = {
  gatewayIsLoopback: false,
  ownPorts: 'closed',
  dnsAddressesWithoutDns: 'own',
  echo: 'relay',
  sharedNetwork: false,
  isHop: true,
  proxyNeighbors: false,
  udpMapping: 'endpointIndependent',
  flowEvents: false,
  denials: 'sampled',
  mac: '',
  sharedMac: false,
  anySource: false,
  askForGuest: false,
  unresolved: 'refuse',
  listenAhead: true,
  sourceTowardsLoopback: false,
};

export const profiles: Readonly<Record<'tslirp' | 'slirp4netns' | 'slirpnetstack' | 'pasta', GuestBehavior>> =
  {
    tslirp,
    slirp4netns: {
      ...tslirp,
      gatewayIsLoopback: true,
      ownPorts: 'unreachable',
      dnsAddressesWithoutDns: 'outside',
      sourceTowardsLoopback: true,
      listenAhead: false,
    },
    slirpnetstack: {
      ...tslirp,
      ownPorts: 'denied',
      echo: 'local',
      proxyNeighbors: true,
      udpMapping: 'connected',
      flowEvents: true,
      // The original says nothing of those.
      denials: 'never',
      mac: '70:71:aa:4b:29:aa',
      sharedMac: true,
      anySource: true,
      askForGuest: true,
      unresolved: 'end',
      listenAhead: false,
      sourceTowardsLoopback: true,
    },
    pasta: {
      ...tslirp,
      sharedNetwork: true,
      isHop: false,
      proxyNeighbors: true,
      anySource: true,
      askForGuest: true,
      mac: '9a:55:9a:55:9a:55',
      // The original has no policy.
      denials: 'never',
      listenAhead: false,
    },
  };
