/**
 * Links that are no interface in a namespace: perl programs that make the sockets and descriptors by which callers hand
 * packets to us. A guest for a packet socket is an ordinary namespace with a TAP, and a bridge between the two.
 */
import { type Namespace, ready, tslirpCommand } from './namespaces.ts';
import { type Running, start } from './processes.ts';

/**
 * Opens a TAP, says which descriptor it has, and passes packets between it and descriptor $ARGV[0] (-1: none). A line of
 * input makes it send an empty packet. It ends with its parent: tslirp, whom Landlock lets signal nobody, so that no
 * parent-death signal comes.
 */
const BRIDGE = `
sysopen TAP, "/dev/net/tun", 2 or die "tun: $!";
ioctl TAP, 0x400454ca, pack("a16 s x22", $ARGV[1], 0x1002 | $ARGV[2]) or die "TUNSETIFF: $!";
$| = 1; print fileno(TAP), "\\n";
if ($ARGV[0] < 0) { <STDIN>; exit }
open LINK, "+<&=", $ARGV[0] or die "link: $!";
my $frame;
my $parent = getppid();
while (getppid() == $parent) {
  my $in = ""; vec($in, fileno($_), 1) = 1 for TAP, LINK, ($ended ? () : STDIN);
  select($in, undef, undef, 0.2);
  if (!$ended && vec($in, 0, 1)) { sysread(STDIN, $frame, 100) ? send(LINK, "", 0) : ($ended = 1) }
  if (vec($in, fileno(TAP), 1)) { sysread(TAP, $frame, 70000) and syswrite(LINK, $frame) }
  if (vec($in, fileno(LINK), 1)) { sysread(LINK, $frame, 70000) ? syswrite(TAP, $frame) : exit }
}
`;

/** The same between a TAP and a stream, frames behind lengths that pack() has as $ARGV[1]: N (32 bits), v (16, little-endian). */
const STREAM_BRIDGE = `
sysopen TAP, "/dev/net/tun", 2 or die "tun: $!";
my $request = pack("a16 s x22", "tap0", 0x1002);
ioctl TAP, 0x400454ca, $request or die "TUNSETIFF: $!";
open LINK, "+<&=", $ARGV[0] or die "link: $!";
my ($template, $frame, $stream) = ($ARGV[1], "", "");
my $head = length pack($template, 0);
my $parent = getppid();
while (getppid() == $parent) {
  my $in = ""; vec($in, fileno($_), 1) = 1 for TAP, LINK;
  select($in, undef, undef, 0.2);
  if (vec($in, fileno(TAP), 1) && sysread(TAP, $frame, 70000)) {
    my $out = pack($template, length $frame) . $frame;
    while (length $out) { my $n = syswrite(LINK, $out); defined $n or exit; substr($out, 0, $n, "") }
  }
  next if !vec($in, fileno(LINK), 1);
  sysread(LINK, $stream, 70000, length $stream) or exit;
  while (length $stream >= $head) {
    my $length = unpack($template, $stream);
    last if length $stream < $head + $length;
    syswrite(TAP, substr($stream, $head, $length));
    substr($stream, 0, $head + $length, "");
  }
}
`;

/** Connects a socket of type $ARGV[0] to path $ARGV[1], and becomes the rest of the command line; LINK = the descriptor. */
const CONNECT = `
$^F = 255; my ($type, $path) = splice @ARGV, 0, 2;
socket(LINK, 1, $type, 0) and connect(LINK, pack("S a*", 1, $path)) or die "connect: $!";
exec map { $_ eq "LINK" ? fileno LINK : $_ } @ARGV or die;
`;

/** A pair of sockets of type $ARGV[0]: one for the command before the word AND, one for the command behind it. */
const PAIR = `
$^F = 255; my $type = shift;
socketpair(A, B, 1, $type, 0) or die "socketpair: $!";
my @one; push @one, shift while $ARGV[0] ne "AND"; shift;
if (fork) { close B; exec map { $_ eq "LINK" ? fileno A : $_ } @one or die }
close A; open READY, "<&=", 3; close READY; exec map { $_ eq "LINK" ? fileno B : $_ } @ARGV or die;
`;

/** Takes descriptor $ARGV[1] of process $ARGV[0] with pidfd_getfd(2), and becomes the rest of the command line. */
const TAKE = `
$^F = 255; my ($pid, $fd) = splice @ARGV, 0, 2;
my $taken = syscall(438, syscall(434, $pid + 0, 0), $fd + 0, 0); $taken < 0 and die "pidfd_getfd: $!";
open LINK, "+<&=", $taken; fcntl LINK, 2, 0;
exec map { $_ eq "LINK" ? $taken : $_ } @ARGV or die;
`;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const IFF_VNET_HDR = 0x4000;

/** Entering a user namespace clears the parent-death signal, so it is set behind that. */
const GUARD = ['setpriv', '--pdeathsig', 'KILL', '--'];

export function bridgeCommand(namespace: Namespace, link: string, flags = 0): string[] {
  return namespace.command([...GUARD, 'perl', '-e', BRIDGE, '--', link, 'tap0', String(flags)]);
}

/** To a stream; `template` is how pack() of perl has a length. */
export function streamBridgeCommand(namespace: Namespace, link: string, template = 'N'): string[] {
  return namespace.command([...GUARD, 'perl', '-e', STREAM_BRIDGE, '--', link, template]);
}

/** A command line that connects to a socket and hands it on as the word LINK. */
export function connecting(type: number, path: string, command: readonly string[]): string[] {
  return ['perl', '-e', CONNECT, '--', String(type), path, ...command];
}

async function started(stack: Running): Promise<Running> {
  try {
    await ready(stack);
    return stack;
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

/** tslirp on one end of a pair of packet sockets; on the other a bridge to `tap0` of the namespace. */
export function attachToPair(namespace: Namespace, type: number, ...options: string[]): Promise<Running> {
  const tslirp = tslirpCommand(
    'attach',
    '--log-level',
    'warn',
    '--ready-fd',
    '3',
    ...options,
    '--fd',
    'LINK',
  );
  const bridge = bridgeCommand(namespace, 'LINK');
  return started(
    start(['perl', '-e', PAIR, '--', String(type), ...tslirp, 'AND', ...bridge], {
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    }),
  );
}

/** tslirp with a TAP of the namespace that another process has opened, as descriptor `fd` of `holder`. */
export function attachToTap(holder: Running, fd: string, ...options: string[]): Promise<Running> {
  const tslirp = tslirpCommand('attach', '--log-level', 'warn', '--ready-fd', '3', ...options);
  return started(
    start(['perl', '-e', TAKE, '--', String(holder.pid), fd, ...tslirp, '--fd', 'LINK'], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    }),
  );
}
