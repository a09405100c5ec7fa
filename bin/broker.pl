# The broker: a process of one thread beside us, with the rights of whoever started us, outside every namespace of ours and
# in sight of all files and processes. It is there as long as we are, and does by order what we cannot do ourselves: a
# process with threads cannot enter a user namespace, and a confined one sees no files.
#
# Orders and answers are messages of one socket, fields with a NUL between them:
#
#   open ID NETWORK USER PID START   `open ID` with a descriptor: a channel to a child that opens a device (open_device)
#   command GO REPORT CLOSE MAP N WORD…
#                                    a child that becomes WORD… and the last N words of our command line, in namespaces of its
#                                    own (command.pl): `report TEXT`, what it writes to descriptor REPORT; `ended STATUS`,
#                                    as wait(2) has it. MAP: `all` ids that are the user's, or his `own` alone
#   isolated CLOSE USER HOSTNAME N PATH WORD…
#                                    the same with PATH as the first process of all kinds of namespaces, of a user namespace if
#                                    USER is `user`; it outlives us
#   scratch DIRECTORY                what was written for it before it begins: removed at our end, if that comes first
#   go                               a line for its descriptor GO
#   signal NUMBER                    for it
#   tree LINE…                       `tree closed`, or why not: our file system is what the lines name (close_tree)
#   watch FOR KIND IDENTITY …        `gone` when a namespace is (is_there); FOR: `inhabitants`, who keep it there beyond its
#                                    `name`, or that alone
#   follow PATH                      `text TEXT` or `unreadable REASON` now and whenever it is different
#   unlink IDENTITY PATH             a socket that is removed at our end, if it is still this very one
#   inside ID NETWORK USER PID START ROUTES
#                                    `inside ID` with a descriptor: a channel to a child that is in that namespace, and makes
#                                    sockets there, as long as the channel is open (be_inside); `sockets ID` from it
#   owners ID INODE…                 `owners`, and `INODE PID NAME` of each that was found: whose sockets they are among the
#                                    processes in the namespace of that child
#   seal                             nothing from now on but `go`, `signal`, `owners` and `end`, whoever asks
#   end                              as the end of the socket: the last of it
#
# A child has no descriptor of ours but its channel, and no capability that it has no use for.
use strict;

BEGIN { require(__FILE__ =~ s{[^/]*$}{kernel.pl}r) }

sub CLONE_NEWNET() { 0x40000000 }
sub MS_RDONLY() { 1 }
sub MS_NOSUID() { 2 }
sub MS_NODEV() { 4 }
sub MS_NOEXEC() { 8 }
sub MS_REMOUNT() { 0x20 }
sub MS_BIND() { 0x1000 }
sub MNT_DETACH() { 2 }
sub AT_FDCWD() { -100 }
sub AT_RECURSIVE() { 0x8000 }
sub CAP_NET_BIND_SERVICE() { 10 }
sub CAP_NET_ADMIN() { 12 }
sub PR_SET_PDEATHSIG() { 1 }
sub PR_SET_DUMPABLE() { 4 }
sub AF_NETLINK() { 16 }
sub SOCK_RAW() { 3 }
sub SOCK_STREAM() { 1 }
sub SOCK_NONBLOCK() { 2048 }
sub NETLINK_SOCK_DIAG() { 4 }
sub SOL_SOCKET() { 1 }
sub SO_REUSEADDR() { 2 }
sub SO_BINDTODEVICE() { 25 }
sub IPPROTO_IPV6() { 41 }
sub IPV6_V6ONLY() { 26 }
sub AF_INET6() { 10 }
sub SCM_RIGHTS() { 1 }
sub MSG_NOSIGNAL() { 0x4000 }
sub O_RDONLY_NONBLOCK() { 2048 }
sub O_RDWR_NONBLOCK() { 2050 }
sub TUNSETIFF() { 0x400454ca }
# IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
sub TAP_FLAGS() { 0x5002 }
sub NS_GET_USERNS() { 0xb701 }
sub NS_GET_NSTYPE() { 0xb703 }
sub ENOENT() { 2 }
sub ENOTDIR() { 20 }
sub EINVAL() { 22 }
sub WNOHANG() { 1 }
sub MESSAGE_MAX() { 65536 }
sub WATCH_SECONDS() { 0.2 }
sub FOLLOW_SECONDS() { 1 }
# At our end we wait so long, at most, for children: nobody else may be there who collects them.
sub FAREWELL_SECONDS() { 1 }
# Clients that wait in the kernel; it cuts this to net.core.somaxconn.
sub BACKLOG() { 4096 }
# Sockets made at a time, which go in one message.
sub SOCKETS_MAX() { 32 }
# RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE and RTM_DELROUTE, and how much of the answer is told.
my %routing = map { $_ => 1 } 18, 20, 21, 24, 25;
sub ROUTING_MAX() { 3072 }
# Looking for the owners of sockets: so many descriptors at most, and so much time.
sub OWNED_MAX() { 2000 }
sub OWNERS_SECONDS() { 0.02 }
# Together with the word in front of it, a message.
sub TEXT_MAX() { MESSAGE_MAX - 16 }

sub close_all_but {
  my (@kept) = @_;
  for my $fd (descriptors()) {
    kernel('close', $fd) if !grep { $_ == $fd } @kept;
  }
  return;
}

# For who enters a user namespace and is of the host in other ways: root inside it could else trace us (ptrace(2)) and be there
# where we are.
sub hide { return kernel('prctl', PR_SET_DUMPABLE, 0, 0, 0, 0) }

sub identity {
  my ($device, $inode) = @_;
  return defined $inode ? "$device:$inode" : '';
}

# Start time of a process that runs, from /proc/PID/stat; the second field may hold anything.
sub start_time {
  my ($pid) = @_;
  open(my $file, '<', "/proc/$pid/stat") or return '';
  my @fields = split / /, (<$file> // '') =~ s/.*\) //sr;
  return @fields > 19 && $fields[0] !~ /[ZX]/ ? $fields[19] : '';
}

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
  socket(my $socket, AF_NETLINK, SOCK_RAW, 0) or fail('namespace', 'no netlink socket in the namespace: %m', $! + 0);
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

# A message with descriptors: struct msghdr, iovec and cmsghdr.
sub send_descriptor {
  my ($socket, $text, @fds) = @_;
  my $vector = pack('P Q', $text, length($text));
  my $control = pack('Q l* x!8', 16 + 4 * @fds, SOL_SOCKET, SCM_RIGHTS, @fds);
  my $header = pack('Q2 P Q P Q2', 0, 0, $vector, 1, $control, length($control), 0);
  return kernel('sendmsg', fileno($socket), $header, MSG_NOSIGNAL);
}

# A setting of IPv6 is written only if it has another value: in containers one can often read them and no more.
sub set {
  my ($setting, $value) = @_;
  my $path = "/proc/sys/net/ipv6/conf/$setting";
  open(my $file, '<', $path) or return 0;
  my $now = <$file> // '';
  return $now eq "$value\n" || put($path, $value);
}

# Opens the device in the namespaces that the first message names, as `open` has them, and sends its descriptor and that of
# a netlink socket; then does what only somebody inside may do: netlink messages pass both ways as they are, by a socket of
# its own, lest we take what comes for the other. An order of ours begins with a word of zero, unlike those: `T` and a
# struct ifreq, `S` and `NAME/SETTING VALUE` of IPv6; the answer is an errno.
#
# With EARLY, a PID and the name of a TAP, that is made before the namespaces are named. What goes wrong with it, or that
# the number is by then another process's, is found out, and told, when they are.
sub open_device {
  my ($channel, @early) = @_;
  my $tun = @early ? eval { open_early(@early) } : undef;
  sysread($channel, my $namespaces, MESSAGE_MAX) or return;
  my ($netlink, $news) = eval {
    my $inside = enter(split /\0/, $namespaces, -1);
    $tun = open_driver() if !$inside || !$tun;
    (netlink_socket(), netlink_socket());
  };
  if (!$news) {
    my ($step, $what, $errno) = @{$@}{qw(step what errno)};
    syswrite($channel, "$step $errno $what");
    return;
  }
  keep_capability(CAP_NET_ADMIN);
  send_descriptor($channel, 'tun', fileno($tun)) && send_descriptor($channel, 'netlink', fileno($news)) or return;
  close($news);
  my $bits = '';
  vec($bits, fileno($_), 1) = 1 for $channel, $netlink;
  while (select(my $readable = $bits, undef, undef, undef)) {
    if (vec($readable, fileno($netlink), 1)) {
      sysread($netlink, my $answer, MESSAGE_MAX) or return;
      syswrite($channel, $answer);
    }
    next if !vec($readable, fileno($channel), 1);
    sysread($channel, my $message, MESSAGE_MAX) or last;
    my ($word, $order, $rest) = unpack('L a a*', $message);
    if ($word) { syswrite($netlink, $message) or return }
    else {
      my $done = $order eq 'T' ? ioctl($tun, TUNSETIFF, $rest) : set(split(/ /, $rest));
      syswrite($channel, pack('l', $done ? 0 : $!));
    }
  }
  # Before the channel: its end says that we have it no more.
  close($tun);
  return;
}

# A socket of the namespace, bound and listening where that is a thing to do; not defined: $! says why.
sub listen_inside {
  my ($family, $type, $v6only, $device, $address) = @_;
  socket(my $socket, $family, $type | SOCK_NONBLOCK, 0) or return;
  # A restart on the same port must not wait for old connections; datagrams have none.
  $type != SOCK_STREAM || setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or return;
  $family != AF_INET6 || setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, $v6only + 0) or return;
  $device eq '' || setsockopt($socket, SOL_SOCKET, SO_BINDTODEVICE, $device) or return;
  bind($socket, pack('H*', $address)) or return;
  $type != SOCK_STREAM || listen($socket, BACKLOG) or return;
  return $socket;
}

# Makes sockets by the wishes that come by CHANNEL, until it ends:
#
#   sockets FAMILY TYPE COUNT                    `sockets FAMILY TYPE ERRNO` with as many as could be made
#   listen ID FAMILY TYPE V6ONLY DEVICE ADDRESS  `listen ID ERRNO` with the socket; ADDRESS is a struct sockaddr in hexadecimal
#   route MESSAGE                                `route ANSWER`, of the netlink socket ROUTES, if there is one; both in hexadecimal.
#                                                Empty: it is not for that
sub make_sockets {
  my ($channel, $routes) = @_;
  while (sysread($channel, my $wish, MESSAGE_MAX)) {
    my ($what, @fields) = split /\0/, $wish, -1;
    my @made;
    $! = 0;
    if ($what eq 'sockets') {
      my ($family, $type, $count) = @fields;
      while (@made < $count && @made < SOCKETS_MAX && socket(my $socket, $family, $type | SOCK_NONBLOCK, 0)) {
        push(@made, $socket);
      }
      @fields = ($family, $type);
    }
    elsif ($what eq 'route') {
      my $message = pack('H*', $fields[0]);
      my $answer = '';
      my (undef, $type) = unpack('L S', $message . "\0" x 6);
      if ($routes && $routing{$type}) { syswrite($routes, $message) && sysread($routes, $answer, MESSAGE_MAX) or return }
      syswrite($channel, "route\0" . unpack('H*', substr($answer, 0, ROUTING_MAX))) or return;
      next;
    }
    else {
      my $socket = listen_inside(@fields[1 .. 5]);
      @made = $socket // ();
      @fields = $fields[0];
    }
    my $answer = join("\0", $what, @fields, @made ? 0 : $! + 0);
    if (@made) { send_descriptor($channel, $answer, map { fileno($_) } @made) or return }
    else { syswrite($channel, $answer) or return }
  }
  return;
}

# Tells what is in the network namespace: sends a socket by which its sockets are asked for to LINK as the answer `sockets ID`,
# or why there is none. Then it stays, to be known by and to make sockets, until CHANNEL ends; also to change addresses and routes
# where the last of what it is told is `routes`.
sub be_inside {
  my ($link, $channel, $id, @namespaces) = @_;
  my $routes = pop(@namespaces) eq 'routes';
  my $diag = eval {
    enter(@namespaces);
    $routes &&= netlink_socket();
    socket(my $socket, AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_SOCK_DIAG) or fail('namespace', '%m', $! + 0);
    $socket;
  };
  if (!$diag) {
    syswrite($link, join("\0", 'sockets', $id, @{$@}{qw(errno what)}));
    return;
  }
  send_descriptor($link, "sockets\0$id", fileno($diag));
  keep_capability(CAP_NET_BIND_SERVICE, $routes ? CAP_NET_ADMIN : ());
  close($link);
  close($diag);
  make_sockets($channel, $routes);
  return;
}

# `INODE PID NAME` of the sockets that processes in the network namespace of MEMBER have open. Those that came last are looked
# at first.
sub owners {
  my ($member, @inodes) = @_;
  my %wanted = map { $_ => 1 } @inodes;
  my $network = identity(stat "/proc/$member/net/dev");
  my ($looked, @found) = (0);
  opendir(my $processes, '/proc') or return;
  for my $pid (sort { $b <=> $a } grep { /^\d+$/ } readdir($processes)) {
    next if $pid == $member || identity(stat "/proc/$pid/net/dev") ne $network;
    opendir(my $directory, "/proc/$pid/fd") or next;
    for my $fd (readdir($directory)) {
      # Of our own time: we began with this.
      return @found if !%wanted || ++$looked > OWNED_MAX || (times)[0] + (times)[1] > OWNERS_SECONDS;
      my ($inode) = (readlink("/proc/$pid/fd/$fd") // '') =~ /^socket:\[(\d+)\]$/ or next;
      next if !delete $wanted{$inode};
      open(my $file, '<', "/proc/$pid/comm") or next;
      push(@found, "$inode $pid " . (<$file> // '') =~ s/\n\z//r);
    }
  }
  return @found;
}

# struct mount_attr: what to set, what to clear, propagation, a user namespace.
sub restrict {
  my ($path, $flags) = @_;
  # MOUNT_ATTR_RDONLY … NOEXEC are the same bits. Before Linux 5.12 only the topmost mount can be had.
  kernel('mount_setattr', AT_FDCWD, $path, AT_RECURSIVE, pack('Q4', $flags, 0, 0, 0), 32)
    or kernel('mount', 'none', $path, 0, MS_REMOUNT | MS_BIND | $flags, 0) or die "$path: $!\n";
  return;
}

sub place {
  my ($path, $target, $flags) = @_;
  my $whole = '';
  for (split m{/}, substr($target, 1)) { mkdir($whole .= "/$_", oct('755')) }
  if (!-d $path) {
    rmdir($target);
    # Nothing may be open for writing there when it becomes read-only.
    put($target, '') or die "$path: $!\n";
  }
  kernel('mount', $path, $target, 0, MS_BIND | MS_REC, 0) or die "$path: $!\n";
  restrict($target, $flags);
  return;
}

# The new tree of process MAIN: what the lines of the order name, `read PATH` (data), `write DIRECTORY`, `load PATH` (code), `link PATH` (a
# symlink as it is), `empty PATH` (a directory with nothing in it), `process PID`
# (what /proc has of it).
sub close_tree {
  my ($main, @lines) = @_;
  for (['user', CLONE_NEWUSER], ['mnt', CLONE_NEWNS]) {
    my ($kind, $type) = @$_;
    open(my $file, '<', "/proc/$main/ns/$kind") or die "/proc/$main/ns/$kind: $!\n";
    next if identity(stat $file) eq identity(stat "/proc/self/ns/$kind");
    kernel('setns', fileno($file), $type) or die "its $kind namespace: $!\n";
  }
  # Something to mount on. What is below it we do not keep.
  my ($root) = grep { -d } qw(/sys/kernel /sys /mnt /tmp);
  kernel('mount', 'tmpfs', $root, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, 'mode=0755') or die "tmpfs: $!\n";
  for (@lines) {
    my ($how, $path) = split / /, $_, 2;
    my $flags = MS_NOSUID | MS_NODEV | ($how eq 'write' ? 0 : MS_RDONLY) | ($how =~ /^(?:read|write)$/ ? MS_NOEXEC : 0);
    if ($how eq 'process') {
      # Not all of /proc: other processes have a root directory too.
      place("/proc/$path", "$root/proc/$path", $flags | MS_NOEXEC);
      symlink($path, "$root/proc/self");
    }
    elsif ($how eq 'link') { symlink(readlink($path), "$root$path") }
    elsif ($how eq 'empty') { mkdir("$root$path", oct('755')) }
    else { place($path, $root . $path, $flags) }
  }
  mkdir("$root/.old", oct('700'));
  chdir($root) && kernel('pivot_root', '.', '.old') or die "pivot_root: $!\n";
  kernel('umount2', '/.old', MNT_DETACH) or die "umount: $!\n";
  rmdir('/.old');
  kernel('mount', 'none', '/', 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)
    or die "/: $!\n";
  return;
}

# Whether a process that is not among OURS is still in the network namespace that this FILE of /proc/PID stands for.
sub is_inhabited {
  my ($identity, $file, @ours) = @_;
  my %is_ours = map { $_ => 1 } @ours, $$;
  opendir(my $directory, '/proc') or return 0;
  for my $other (grep { /^\d+$/ && !$is_ours{$_} } readdir($directory)) {
    return 1 if identity(stat "/proc/$other/$file") eq $identity && start_time($other) ne '';
  }
  return 0;
}

# `process IDENTITY PID START` or `file IDENTITY PATH`. The name may go while there are processes; where only that counts, a file
# is there as long as there is one of its name: who unmounts a namespace from it has not removed it yet.
sub is_there {
  my ($ours, $for, $kind, $identity, $name, $start) = @_;
  return $kind eq 'process' ? start_time($name) eq $start : identity(lstat $name) ne '' if $for eq 'name';
  return $kind eq 'process'
    ? start_time($name) eq $start || is_inhabited($identity, 'net/dev', @$ours)
    : identity(stat $name) eq $identity || is_inhabited($identity, 'ns/net', @$ours);
}

# What is to be said of the text of a file: its beginning as it is now, nothing if it is missing, or why it cannot be read.
sub text_of {
  my ($path) = @_;
  # A FIFO in this place must not block us.
  sysopen(my $file, $path, O_RDONLY_NONBLOCK)
    or return $! == ENOENT || $! == ENOTDIR ? "text\0" : "unreadable\0$!";
  -f $file or return "unreadable\0not a file";
  defined(sysread($file, my $text, TEXT_MAX)) or return "unreadable\0$!";
  # A line cut in two could read as another address.
  $text =~ s/[^\n]*\z// if length($text) == TEXT_MAX;
  return "text\0$text";
}

# The rest is the broker's own: its main process, the signals that were ignored at our start, the handles that a child
# must not have.
my ($main, @ignored);
my %handle;
my ($command, $sealed, $followed, $scratch, @watched, @sockets) = (0, 0);
# Children in namespaces, by the numbers of their orders.
my %inside;
my $told = '';

# A child that does BODY, with those of our handles only that are named.
sub beside {
  my ($body, @kept) = @_;
  my $child = fork;
  return $child if !defined $child || $child;
  for my $name (keys %handle) {
    close($handle{$name}) if !grep { $_ eq $name } @kept;
  }
  $body->();
  exit 0;
}

# A child that opens a device, as the socket that leads to it.
sub opener {
  my (@early) = @_;
  socketpair(my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, 0) or return;
  beside(sub {
    close($ours);
    close_all_but(fileno($theirs));
    hide() or return;
    open_device($theirs, @early);
  });
  return $ours;
}

# A child in a network namespace, as the socket that leads to it.
sub start_inside {
  my ($id, @namespaces) = @_;
  socketpair(my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, 0) or return;
  $inside{$id} = beside(sub {
    close($ours);
    close_all_but(fileno($theirs), fileno($handle{link}));
    hide() or return;
    be_inside($handle{link}, $theirs, $id, @namespaces);
  }, 'link') // 0;
  send_descriptor($handle{link}, "inside\0$id", fileno($ours));
  return;
}

# What we have of our caller's, whoever waits for its end.
sub let_go {
  close_all_but(map { fileno($_) } values %handle);
  open(STDIN, '<', '/dev/null');
  open(STDOUT, '>', '/dev/null');
  open(STDERR, '>', '/dev/null');
  return;
}

# In the child that is to become the command: as our caller has left us.
sub restore {
  my ($close) = @_;
  # To syscall, what is no number is an address.
  kernel('close', $_ + 0) for split /,/, $close;
  $SIG{$_} = 'DEFAULT' for qw(PIPE CHLD);
  my %number = (HUP => 1, INT => 2, QUIT => 3, TERM => 15);
  for my $name (keys %number) { $SIG{$name} = (grep { $_ == $number{$name} } @ignored) ? 'IGNORE' : 'DEFAULT' }
  # sd_listen_fds(3): the descriptors are for whom this names.
  $ENV{LISTEN_PID} = $$ if ($ENV{LISTEN_PID} // '') eq $main;
  return;
}

# The last so many words of our command line.
sub own_words {
  my ($own) = @_;
  return $own > 0 ? @ARGV[-$own .. -1] : ();
}

# The command is there, or the attempt was made.
sub follow_command {
  my $descriptor = $command > 0 ? result_of('pidfd_open', $command, 0) : -1;
  open($handle{ended}, '<&=', $descriptor) if $descriptor >= 0;
  let_go();
  return;
}

sub start_command {
  my ($go, $report, $close, $map, $own, @words) = @_;
  my $broker = $$;
  pipe(my $going, $handle{go}) && pipe($handle{report}, my $reporting) or return;
  $command = beside(sub {
    # Past those that it is to have, which are of one digit.
    my @high = map { fcntl($_, F_DUPFD, 10) } $going, $reporting;
    close($going);
    close($reporting);
    restore($close);
    kernel('dup3', $high[0], $go + 0, 0) && kernel('dup3', $high[1], $report + 0, 0);
    kernel('close', $_ + 0) for @high;
    become_command($broker, $report + 0, $map, @words, own_words($own));
  }) // 0;
  close($going);
  close($reporting);
  return follow_command();
}

sub start_isolated {
  my ($close, $user, $hostname, $own, $path, @words) = @_;
  my $ids = $user eq 'user' ? [$> + 0, $) + 0] : undef;
  pipe(my $going, $handle{go}) && pipe($handle{report}, my $reporting) or return;
  $command = fork_isolated(defined $ids);
  my $errno = $! + 0;
  if ($command == 0) {
    close_all_but(fileno($going), fileno($reporting));
    restore($close);
    become_isolated($going, $reporting, $ids, $hostname, $path, @words, own_words($own));
    exit 1;
  }
  close($going);
  close($reporting);
  if ($command < 0) {
    $command = 0;
    delete @handle{qw(go report)};
    syswrite($handle{link}, "report\0fault clone $errno\n");
    syswrite($handle{link}, "ended\0" . (1 << 8));
  }
  return follow_command();
}

my %order = (
  open => sub {
    my ($id, @namespaces) = @_;
    my $channel = delete $handle{early} // opener();
    syswrite($channel, join("\0", @namespaces));
    send_descriptor($handle{link}, "open\0$id", fileno($channel));
  },
  command => \&start_command,
  isolated => \&start_isolated,
  scratch => sub { ($scratch) = @_ },
  go => sub {
    my $going = delete $handle{go} or return;
    my $changes = keep_covers($command);
    $handle{changes} = $changes if $changes;
    $scratch = undef;
    syswrite($going, "go\n");
  },
  signal => sub { my ($number) = @_; kill($number, $command) if $command },
  tree => sub {
    my (@lines) = @_;
    beside(sub { syswrite($handle{link}, "tree\0" . (eval { close_tree($main, @lines); 1 } ? 'closed' : $@)) }, 'link');
  },
  watch => \&watch,
  follow => sub { ($followed) = @_ },
  unlink => sub { push(@sockets, [@_]) },
  inside => \&start_inside,
  owners => sub {
    my ($id, @inodes) = @_;
    my $inside = $inside{$id};
    beside(sub { syswrite($handle{link}, join("\0", 'owners', $inside ? owners($inside, @inodes) : ())) }, 'link');
  },
  seal => sub { $sealed = 1 },
  end => \&finish,
);

# A process that runs tells of its end by itself (Linux 5.3). What is left of its namespace then is looked for, as where only
# a file is known.
sub watch {
  @watched = @_;
  my (undef, $kind, undef, $pid, $start) = @watched;
  return if $kind ne 'process';
  my $descriptor = result_of('pidfd_open', $pid + 0, 0);
  return if $descriptor < 0;
  open($handle{watched}, '<&=', $descriptor);
  # The number may be another's by now.
  delete $handle{watched} if start_time($pid) ne $start;
  return;
}

sub finish {
  for (@sockets) {
    my ($identity, $path) = @$_;
    unlink($path) if identity(lstat $path) eq $identity && -S _;
  }
  if (defined $scratch) {
    unlink("$scratch/$_") for qw(resolv.conf hosts);
    rmdir($_) for "$scratch/fs", $scratch;
  }
  # Those that open devices end with their channels; of a command the kernel sees to the end.
  delete $handle{early};
  $SIG{ALRM} = sub { exit 0 };
  alarm(FAREWELL_SECONDS);
  while (!$command && waitpid(-1, 0) > 0) { next }
  exit 0;
}

sub obey {
  sysread($handle{link}, my $message, MESSAGE_MAX) or finish();
  my ($name, @fields) = split /\0/, $message, -1;
  return if !exists $order{$name} || $sealed && $name !~ /^(go|signal|owners|end)$/;
  $order{$name}->(@fields);
  return;
}

# What the command has reported and was not passed on yet.
sub report {
  while ($handle{report}) {
    my $bits = '';
    vec($bits, fileno($handle{report}), 1) = 1;
    return if select($bits, undef, undef, 0) <= 0;
    if (sysread($handle{report}, my $text, MESSAGE_MAX - 8)) { syswrite($handle{link}, "report\0$text") }
    else { delete $handle{report} }
  }
  return;
}

# Children that have ended; the command's end is told.
sub collect {
  while ((my $child = waitpid(-1, WNOHANG)) > 0) {
    for (keys %inside) { delete $inside{$_} if $inside{$_} == $child }
    next if $child != $command;
    my $status = $?;
    $command = 0;
    delete @handle{qw(ended go)};
    report();
    syswrite($handle{link}, "ended\0$status");
  }
  return;
}

sub look {
  if (@watched && !$handle{watched} && !is_there([$main, values %inside], @watched)) {
    syswrite($handle{link}, 'gone');
    @watched = ();
  }
  for my $cover ($command ? lost_covers() : ()) {
    watch_directories($handle{changes}) if $handle{changes};
    beside(sub { cover_again($cover) });
  }
  if (defined $followed && (my $now = text_of($followed)) ne $told) {
    syswrite($handle{link}, $told = $now);
  }
  return;
}

# Process PID's broker, which is called NAME, at the end LINK of a socket. KEEPS: it has what our caller has given us until there
# is a command, who is to have it. EARLY is as in launch.pl.
sub serve {
  (my ($link, $name, $keeps, $early), $main, @ignored) = @_;
  $handle{link} = $link;
  # In ps(1), and as far as there is room, in top(1) and pgrep(1).
  $0 = "$name: broker";
  $handle{early} = opener(split / /, $early) if $early ne '';
  if ($keeps) { require(__FILE__ =~ s{[^/]*$}{command.pl}r) }
  else { let_go() }
  $SIG{CHLD} = sub { };
  chdir('/');
  for (;;) {
    collect();
    look();
    my $bits = '';
    for (qw(link report ended watched changes)) { vec($bits, fileno($handle{$_}), 1) = 1 if $handle{$_} }
    # Without pidfd_open(2), Linux 5.3.
    my $blind = $command && !$handle{ended};
    my $seconds = @watched && !$handle{watched} || $blind ? WATCH_SECONDS
      : defined $followed || $command && has_covers() ? FOLLOW_SECONDS : undef;
    next if select($bits, undef, undef, $seconds) <= 0;
    delete $handle{watched} if $handle{watched} && vec($bits, fileno($handle{watched}), 1);
    sysread($handle{changes}, my $events, MESSAGE_MAX) if $handle{changes} && vec($bits, fileno($handle{changes}), 1);
    report();
    obey() if vec($bits, fileno($handle{link}), 1);
  }
}

1;
