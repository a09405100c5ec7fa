# Opening the device of a guest, by a process of one thread beside us that may enter what Node, which has several, cannot.
# Part of launcher.pl.
#
# All of it is one process and one program: capabilities in the namespace come with entering it, and would go with exec(2)
# where we are nobody's root.
use strict;

sub TUNSETIFF() { 0x400454ca }
# IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
sub TAP_FLAGS() { 0x5002 }
sub NS_GET_USERNS() { 0xb701 }
sub NS_GET_NSTYPE() { 0xb703 }
sub O_RDWR_NONBLOCK() { 2050 }
sub EINVAL() { 22 }
sub AF_NETLINK() { 16 }
sub SOCK_RAW() { 3 }
sub NETLINK_ROUTE() { 0 }
sub SOL_SOCKET() { 1 }
sub SCM_RIGHTS() { 1 }
sub MSG_NOSIGNAL() { 0x4000 }

# What has gone wrong: STEP, errno, and a text in which %m stands for the name of the errno.
sub fail {
  my ($step, $what, $errno) = @_;
  die { step => $step, what => $what, errno => $errno };
}

sub namespace_file {
  my ($kind, $path, $type) = @_;
  open(my $file, '<', $path) or fail('namespace', "the $kind namespace $path cannot be opened: %m", $! + 0);
  return $file if (ioctl($file, NS_GET_NSTYPE, 0) // 0) == $type;
  fail('namespace', "$path is not a $kind namespace", EINVAL);
}

# Only the network namespace is entered, by whoever may as he is. Whoever may not is the owner of the user namespace that
# the network belongs to, or nobody there: inside that one he may. It need not be the user namespace of the process by which
# the network was named, nor the one that was named beside it. Nobody becomes another user, so it does not matter who is
# mapped. True if we were there before.
sub enter {
  my ($network, $user, $pid, $start) = @_;
  my $file = namespace_file('network', $network, CLONE_NEWNET);
  namespace_file('user', $user, CLONE_NEWUSER) if $user ne '';
  # What is entered is what was opened, and that was the process's if it runs still.
  fail('namespace', "there is no process $pid any more", 0) if $pid && start_time($pid) ne $start;
  return 1 if identity(stat $file) eq identity(stat '/proc/self/ns/net');
  return 0 if kernel('setns', fileno($file), CLONE_NEWNET);
  my $errno = $! + 0;
  if (my $number = ioctl($file, NS_GET_USERNS, 0)) {
    open(my $owner, '<&=', $number);
    return 0 if kernel('setns', $number, CLONE_NEWUSER) && kernel('setns', fileno($file), CLONE_NEWNET);
  }
  fail('namespace', "the network namespace $network cannot be entered: %m", $errno);
}

sub open_driver {
  sysopen(my $tun, '/dev/net/tun', O_RDWR_NONBLOCK)
    or fail('tun', '/dev/net/tun cannot be opened for reading and writing: %m', $! + 0);
  return $tun;
}

sub netlink_socket {
  socket(my $socket, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
    or fail('namespace', 'no netlink socket in the namespace: %m', $! + 0);
  return $socket;
}

# The TAP NAME in the namespace of process PID.
sub open_early {
  my ($pid, $name) = @_;
  enter("/proc/$pid/ns/net", '', $pid, start_time($pid));
  my $tun = open_driver();
  my $request = pack('a16 S x22', $name, TAP_FLAGS);
  return ioctl($tun, TUNSETIFF, $request) ? $tun : undef;
}

# One byte with a descriptor: struct msghdr, iovec and cmsghdr.
sub send_descriptor {
  my ($fd) = @_;
  my $byte = '.';
  my $vector = pack('P Q', $byte, 1);
  my $control = pack('Q l3 x4', 20, SOL_SOCKET, SCM_RIGHTS, $fd);
  my $header = pack('Q2 P Q P Q2', 0, 0, $vector, 1, $control, length($control), 0);
  kernel('sendmsg', 0, $header, MSG_NOSIGNAL) or exit 1;
}

# A setting of IPv6 is written only if it has another value: in containers one can often read them and no more.
sub set {
  my ($setting, $value) = @_;
  my $path = "/proc/sys/net/ipv6/conf/$setting";
  open(my $file, '<', $path) or return 0;
  my $now = <$file> // '';
  return $now eq "$value\n" || put($path, $value);
}

# Opens the device in the namespaces `NETWORK USER PID START` (a NUL between them) and sends its descriptor and that of a
# netlink socket; then does what only somebody inside may do: netlink messages pass both ways as they are, by a socket of
# its own, lest we take what comes for the other. An order of ours begins with a word of zero, unlike those: `T` and a
# struct ifreq, `S` and `NAME/SETTING VALUE` of IPv6; the answer is an errno.
#
# With EARLY, a PID and the name of a TAP, that is made before the namespaces are named. What goes wrong with it, or that
# the number is by then another process's, is found out, and told, when they are.
sub open_device {
  my (@early) = @_;
  my $tun = @early ? eval { open_early(@early) } : undef;
  my @namespaces = split /\0/, receive(), -1;
  my ($netlink, $news) = eval {
    my $inside = enter(@namespaces);
    $tun = open_driver() if !$inside || !$tun;
    (netlink_socket(), netlink_socket());
  };
  if (!$news) {
    my ($step, $what, $errno) = @{$@}{qw(step what errno)};
    syswrite(STDIN, "$step $errno $what");
    exit 0;
  }
  syswrite(STDIN, 'open');
  send_descriptor(fileno($_)) for $tun, $news;
  close($news);
  my $bits = '';
  vec($bits, $_, 1) = 1 for 0, fileno($netlink);
  while (select(my $readable = $bits, undef, undef, undef)) {
    if (vec($readable, fileno($netlink), 1)) {
      sysread($netlink, my $answer, MESSAGE_MAX) or exit 1;
      syswrite(STDIN, $answer);
    }
    next if !vec($readable, 0, 1);
    sysread(STDIN, my $message, MESSAGE_MAX) or last;
    my ($word, $order, $rest) = unpack('L a a*', $message);
    if ($word) { syswrite($netlink, $message) or exit 1 }
    else {
      my $done = $order eq 'T' ? ioctl($tun, TUNSETIFF, $rest) : set(split(/ /, $rest));
      syswrite(STDIN, pack('l', $done ? 0 : $!));
    }
  }
  # First of all: the end of the socket says that we have it no more.
  close($tun);
}

1;
