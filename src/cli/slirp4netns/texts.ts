/**
 * What `slirp4netns` prints: help and version, whose lines callers search for options (Podman, RootlessKit) and parse, and
 * the summary at the start. The version numbers say which level of that program's interface is provided.
 */
import type { Config } from '../../config.ts';
import { formatIpv4 } from '../../stack/wire/address.ts';

/** The slirp4netns whose interface this is. */
const INTERFACE_VERSION = '1.3.2';
/** Its libslirp, and the number by which scripts tell whether --outbound-addr (2) and --disable-dns (3) exist. */
const LIBSLIRP_VERSION = '4.9.0';
const SLIRP_CONFIG_VERSION_MAX = 6;

/**
 * Short and long name, name of its value (empty: none), description. Every option in here is used by callers that find it:
 * nothing that does not work may be listed.
 */
export const OPTIONS: readonly (readonly [string, string, string, string])[] = [
  ['-c', '--configure', '', 'bring up the interface'],
  ['-e', '--exit-fd', 'FD', 'specify the FD for terminating slirp4netns'],
  ['-r', '--ready-fd', 'FD', 'specify the FD to write to when the network is configured'],
  ['-m', '--mtu', 'MTU', 'specify MTU (default=1500, max=65521)'],
  ['-6', '--enable-ipv6', '', 'enable IPv6 (experimental)'],
  ['-a', '--api-socket', 'PATH', 'specify API socket path'],
  ['', '--cidr', 'CIDR', 'specify network address CIDR (default=10.0.2.0/24)'],
  ['', '--disable-host-loopback', '', 'prohibit connecting to 127.0.0.1:* on the host namespace'],
  ['', '--netns-type', 'TYPE', 'specify network namespace type ([path|pid|tapfd], default=pid)'],
  ['', '--userns-path', 'PATH', 'specify user namespace path'],
  [
    '',
    '--enable-sandbox',
    '',
    'create a new mount namespace (and drop all caps except CAP_NET_BIND_SERVICE if running as the root)',
  ],
  ['', '--enable-seccomp', '', 'enable seccomp to limit syscalls (experimental)'],
  ['', '--outbound-addr', 'IPv4', 'sets outbound ipv4 address to bound to (experimental)'],
  ['', '--outbound-addr6', 'IPv6', 'sets outbound ipv6 address to bound to (experimental)'],
  [
    '',
    '--disable-dns',
    '',
    'disables 10.0.2.3 (or configured internal ip) to host dns redirect (experimental)',
  ],
  ['', '--macaddress', 'MAC', 'specify the MAC address of the TAP (only valid with -c)'],
  ['', '--target-type', 'TYPE', 'specify the target type ([netns|bess], default=netns)'],
  ['', '--print-config', '', 'print what the options make as JSON and exit'],
  ['-h', '--help', '', 'show this help and exit'],
  ['-v', '--version', '', 'show version and exit'],
];
/** Where descriptions begin. */
const TEXT_COLUMN = 25;

export function usage(program: string): string {
  const lines = OPTIONS.map(([short, long, value, text]) => {
    const names = `${short === '' ? '' : `${short}, `}${long}${value === '' ? '' : `=${value}`}`;
    return `${names.padEnd(TEXT_COLUMN - 1)} ${text}\n`;
  });
  return `Usage: ${program} [OPTION]... PID|PATH|FD [TAPNAME]
User-mode networking for unprivileged network namespaces.

${lines.join('')}`;
}

/** @param release our own version, which stands where the original names the commit it was built from */
export function versionText(release: string): string {
  return `slirp4netns version ${INTERFACE_VERSION}
commit: tslirp-${release}
libslirp: ${LIBSLIRP_VERSION}
SLIRP_CONFIG_VERSION_MAX: ${SLIRP_CONFIG_VERSION_MAX}
`;
}

export const warnings = {
  ipv6: 'WARNING: Support for IPv6 is experimental\n',
  seccomp: 'WARNING: Support for seccomp is experimental\n',
  outbound4: 'WARNING: Support for --outbound-addr is experimental\n',
  outbound6: 'WARNING: Support for --outbound-addr6 is experimental\n',
  bess: 'WARNING: BESS mode is experimental\n',
  tooMany: 'WARNING: too many arguments\n',
  deprecated: (option: string, replacement: string): string =>
    `WARNING: --${option} is deprecated and will be removed in future releases, please use --${replacement} instead.\n`,
};

function numeric(address: string): number {
  return address.split('.').reduce((sum, octet) => (sum << 8) | Number(octet), 0);
}

/** The summary of what the guest gets. */
export function summary({ guest, process: { api } }: Config): string {
  const { addresses, behavior, source4, source6 } = guest;
  const { mtu, setup } = guest.interface;
  const mask = -1 << (32 - addresses.prefix4);
  const lines: [string, string][] = [
    ['MTU', String(mtu)],
    ['Network', formatIpv4(numeric(addresses.guest4) & mask)],
    ['Netmask', formatIpv4(mask)],
    ['Gateway', addresses.gateway4],
    ['DNS', addresses.dns4],
    ['DHCP begin', addresses.lease4],
    ['DHCP end', formatIpv4(numeric(addresses.lease4) + 15)],
    ['Recommended IP', addresses.guest4],
  ];
  if (api.path !== '') lines.push(['API Socket', api.path]);
  // One column further to the right in the original too.
  if (source4 !== '') lines.push(['Outbound IPv4', ` ${source4}`]);
  if (source6 !== '') lines.push(['Outbound IPv6', ` ${source6}`]);
  if (setup.mac !== '') lines.push(['MAC address', setup.mac]);
  const text = lines.map(([name, value]) => `* ${`${name}:`.padEnd(16)} ${value}\n`).join('');
  const open = behavior.gatewayIsLoopback
    ? `WARNING: 127.0.0.1:* on the host is accessible as ${addresses.gateway4} (set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)\n`
    : '';
  return `Starting slirp\n${text}${open}`;
}
