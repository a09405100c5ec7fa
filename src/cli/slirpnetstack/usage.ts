/** What `slirpnetstack -h` says, in the layout of Go's flag package. */

/** Flag, name of its value (empty: a boolean), description. */
export const FLAGS: readonly (readonly [string, string, string])[] = [
  [
    'L',
    'rule',
    'local forward: listen on the host, connect to the guest. [scheme://][[bindip]:][port][:[host]:hostport] with scheme tcp, udp, tcppp, udpspp or udprpc; the host end may be unix:/path. Repeatable',
  ],
  ['R', 'rule', 'remote forward: accept on the guest side, connect on the host. Same form as -L. Repeatable'],
  ['allow', 'rules', 'firewall: let the guest reach [tcp|udp://]host[:port[-port]],... Repeatable'],
  ['deny', 'rules', 'firewall: never let the guest reach these, stronger than -allow. Repeatable'],
  ['dns-ttl', 'duration', 'how long the address of a -R target given by name is used (default 5s)'],
  ['enable-host', '', "let the guest reach the host's addresses and networks"],
  ['enable-routing', '', "let the guest reach all addresses that are not the host's"],
  ['exit-with-parent', '', 'end with SIGTERM when the parent process dies'],
  [
    'fd',
    'int',
    'inherited descriptor to use as the link: a unix datagram socket or a TAP device (default -1)',
  ],
  ['interface', 'string', 'TUN or TAP interface to open (default "tun0")'],
  ['m', 'address', 'serve metrics and health on tcp://host:port or unix:///path'],
  ['maxprocs', 'int', 'accepted and ignored'],
  ['mtu', 'uint', 'MTU of the link given with -fd (default 1500)'],
  ['netns', 'string', 'path of the network namespace that the interface is in'],
  ['pcap', 'string', 'write a capture of all packets to this file'],
  ['print-config', '', 'print what the flags make, as JSON, and end'],
  ['quiet', '', 'do not print forwards and flows'],
  ['source-ipv4', 'address', 'source address of IPv4 sockets towards the outside'],
  ['source-ipv6', 'address', 'source address of IPv6 sockets towards the outside'],
  ['version', '', 'print the version'],
];

export function usage(program: string): string {
  const entries = FLAGS.map(
    ([name, value, text]) => `  -${name}${value === '' ? '' : ` ${value}`}\n    \t${text}\n`,
  );
  return `Usage of ${program}:\n${entries.join('')}`;
}
