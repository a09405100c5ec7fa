# What is done before Node starts, because a process with threads cannot do it any more, or to have it done sooner.
# `require`d by the programs here.
#
# have_opener(PID, NAME) has the device opened (opener.pl) by a process beside us; with a PID, before Node is there.
#
# confine(MAIN, ATTACH) makes this process one that can become `node MAIN …`:
#
#   - in a mount namespace of our own (without the right to that: inside a user namespace of our own that maps only us),
#     in which nothing is changed yet;
#   - of all capabilities with CAP_NET_BIND_SERVICE only, and for ATTACH with no_new_privs, in an IPC namespace of our own,
#     and where Landlock can do it (Linux 6.12), with no signals and abstract unix sockets but to those who come after us: a
#     command would inherit these three;
#   - and at the other ends of sockets, gone when we are: the opener, who keeps all rights and opens the device; not ATTACH:
#     he is also the holder of the namespaces for the command; the janitor, who removes socket files; and the builder, who
#     closes the file system at our word.
#
# A mount namespace can be had only before there are threads, but pivot_root(2), called by anybody inside, moves the root
# of all its processes and threads. So we start with all files in sight, and the tree is closed when everything is open.
#
# Where the namespace is not to be had, Node starts with an opener only, and tells if it must. The descriptors are in the
# variable TSLIRP_LAUNCHER, as `NAME=NUMBER …`. Perl, because it is there on every Debian (perl-base is essential), starts
# in 2 ms and can make any system call. No modules, to keep it so.
use strict;

sub CLONE_NEWNS() { 0x20000 }
sub CLONE_NEWIPC() { 0x08000000 }
sub CLONE_NEWUSER() { 0x10000000 }
sub CLONE_NEWNET() { 0x40000000 }
sub MS_RDONLY() { 1 }
sub MS_NOSUID() { 2 }
sub MS_NODEV() { 4 }
sub MS_NOEXEC() { 8 }
sub MS_REMOUNT() { 0x20 }
sub MS_BIND() { 0x1000 }
sub MS_REC() { 0x4000 }
sub MS_SLAVE() { 0x80000 }
sub MNT_DETACH() { 2 }
sub AT_FDCWD() { -100 }
sub AT_RECURSIVE() { 0x8000 }
sub CAP_NET_BIND_SERVICE() { 10 }
sub CAP_SYS_ADMIN() { 21 }
sub PR_CAPBSET_DROP() { 24 }
sub PR_SET_NO_NEW_PRIVS() { 38 }
sub AF_UNIX() { 1 }
sub SOCK_SEQPACKET() { 5 }
sub F_DUPFD() { 0 }
sub O_RDONLY_NONBLOCK() { 2048 }
sub ENOENT() { 2 }
sub ENOTDIR() { 20 }
sub LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET() { 1 }
sub LANDLOCK_SCOPE_SIGNAL() { 2 }
# Above what callers commonly hand us, and below 16: those Node does not pass on to programs that it starts.
sub OUR_DESCRIPTORS() { 10 }
sub MESSAGE_MAX() { 65536 }
sub WATCH_SECONDS() { 0.2 }
sub FOLLOW_SECONDS() { 1 }
# Together with the word in front of it, a message.
sub TEXT_MAX() { MESSAGE_MAX - 16 }

# Numbers of x86-64, and of arm64 and riscv64.
my %number = (
  mount => [165, 40], umount2 => [166, 39], pivot_root => [155, 41], unshare => [272, 97], prctl => [157, 167],
  setns => [308, 268], capset => [126, 91], close_range => [436, 436], mount_setattr => [442, 442], sendmsg => [46, 211],
  landlock_create_ruleset => [444, 444], landlock_restrict_self => [446, 446],
);
my %column = (62 => 0, 183 => 1, 243 => 1);
my $column;

# A system call by name: its result, and whether it succeeded.
sub result_of {
  my ($name, @arguments) = @_;
  return syscall($number{$name}[$column], @arguments);
}

sub kernel { return result_of(@_) >= 0 }

# The processor, from e_machine of the program that we are.
sub processor {
  open(my $exe, '<', '/proc/self/exe') or return;
  read($exe, my $header, 20) == 20 or return;
  return $column{unpack('x18 v', $header)};
}

sub put {
  my ($path, $text) = @_;
  open(my $file, '>', $path) or return 0;
  my $written = defined(syswrite($file, $text));
  return close($file) && $written;
}

# A user namespace in which we are root and nobody else is anybody.
sub enter_user_namespace {
  my ($flags) = @_;
  my ($uid, $gid) = ($> + 0, $) + 0);
  return kernel('unshare', CLONE_NEWUSER | $flags) && put('/proc/self/setgroups', 'deny')
    && put('/proc/self/uid_map', "0 $uid 1") && put('/proc/self/gid_map', "0 $gid 1");
}

sub has_capability {
  my ($capability) = @_;
  open(my $status, '<', '/proc/self/status') or return 0;
  my ($word) = map { /^CapEff:\s*(\w+)/ ? $1 : () } <$status>;
  return hex(substr($word, -8)) >> $capability & 1;
}

# A process beside us that runs BODY with the other end of the socket as descriptor 0 and no other descriptor of ours.
# It is nobody's child: Node would not collect it. Returns the number of our end.
sub aside {
  my ($name, $body) = @_;
  socketpair(my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, 0) or return;
  my $child = fork;
  return if !defined $child;
  if ($child == 0) {
    # Its end is the end of the socket, not a signal that the terminal sends to all of us.
    $SIG{$_} = 'IGNORE' for qw(INT QUIT HUP TERM);
    open(STDIN, '+<&', $theirs) or exit 1;
    open(STDOUT, '>', '/dev/null');
    # Perl counts its handles: one that only the kernel has closed would keep the next of that number open.
    close($ours) && close($theirs);
    kernel('close_range', 3, 0x7fffffff, 0) or close_slowly();
    my $second = fork;
    # In ps(1), and as far as there is room, in top(1) and pgrep(1).
    $0 = $0 =~ s{.*/}{}sr . ": $name";
    $body->() if defined $second && $second == 0;
    exit 0;
  }
  waitpid($child, 0);
  return fcntl($ours, F_DUPFD, OUR_DESCRIPTORS);
}

# Before Linux 5.9.
sub close_slowly {
  opendir(my $directory, '/proc/self/fd') or return;
  for my $fd (grep { /^\d+$/ && $_ > 2 } readdir($directory)) {
    open(my $file, '<&=', $fd);
  }
}

sub receive {
  sysread(STDIN, my $message, MESSAGE_MAX) or exit 0;
  return $message;
}

# Keeps the namespaces of the command to come until somebody is in them; tells its number. Then opens the device there.
sub hold {
  enter_user_namespace(CLONE_NEWNET | CLONE_NEWNS) or exit 1;
  kernel('mount', 'none', '/', 0, MS_REC | MS_SLAVE, 0) or exit 1;
  syswrite(STDIN, $$);
  open_device();
}

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

# Whether a process, but not our main one, is still in the network namespace that this FILE of /proc/PID stands for.
sub is_inhabited {
  my ($identity, $file, $main) = @_;
  opendir(my $directory, '/proc') or return 0;
  for my $other (grep { /^\d+$/ && $_ != $main && $_ != $$ } readdir($directory)) {
    return 1 if identity(stat "/proc/$other/$file") eq $identity && start_time($other) ne '';
  }
  return 0;
}

sub is_there {
  my ($what, $identity, $rest) = @_;
  if ($what eq 'process') {
    my ($pid, $start, $main) = split / /, $rest;
    return start_time($pid) eq $start || is_inhabited($identity, 'net/dev', $main);
  }
  my ($main, $path) = split / /, $rest, 2;
  # The name may go while there are processes.
  return $what ne 'file' || identity(stat $path) eq $identity || is_inhabited($identity, 'ns/net', $main);
}

# What is to be said of the text of a file: its beginning as it is now, nothing if it is missing, or why it cannot be read.
sub text_of {
  my ($path) = @_;
  # A FIFO in this place must not block us.
  sysopen(my $file, $path, O_RDONLY_NONBLOCK)
    or return $! == ENOENT || $! == ENOTDIR ? 'text ' : "unreadable $!";
  -f $file or return 'unreadable not a file';
  defined(sysread($file, my $text, TEXT_MAX)) or return "unreadable $!";
  # A line cut in two could read as another address.
  $text =~ s/[^\n]*\z// if length($text) == TEXT_MAX;
  return "text $text";
}

# Sees files and processes as they are outside. Gets one list: `socket IDENTITY PATH`, to be removed at our end if it is
# still this very one; `file IDENTITY MAIN PATH` and `process IDENTITY PID START MAIN`, for the word `gone` when that is gone; and
# `text - PATH`, to be told of.
sub tidy {
  my @things = map { [split / /, $_, 3] } split /\n/, receive();
  my $watching = grep { $_->[0] =~ /^(file|process)$/ } @things;
  my ($followed) = map { $_->[0] eq 'text' ? $_->[2] : () } @things;
  my $told = '';
  my $bits = '';
  vec($bits, 0, 1) = 1;
  $SIG{PIPE} = 'IGNORE';
  do {
    if ($watching && grep { !is_there(@$_) } @things) {
      syswrite(STDIN, 'gone');
      $watching = 0;
    }
    if (defined $followed && (my $now = text_of($followed)) ne $told) {
      syswrite(STDIN, $told = $now);
    }
  } until select(my $readable = $bits, undef, undef, $watching ? WATCH_SECONDS : defined $followed ? FOLLOW_SECONDS : undef);
  # What is readable is the end, or a word that it has come; our own end is the answer to that.
  for (@things) {
    my ($what, $identity, $path) = @$_;
    unlink($path) if $what eq 'socket' && identity(lstat $path) eq $identity && -S _;
  }
}

# struct mount_attr: what to set, what to clear, propagation, a user namespace.
sub restrict {
  my ($path, $flags) = @_;
  # MOUNT_ATTR_RDONLY … NOEXEC are the same bits. Before Linux 5.12 only the topmost mount can be had.
  kernel('mount_setattr', AT_FDCWD, $path, AT_RECURSIVE, pack('Q4', $flags, 0, 0, 0), 32)
    or kernel('mount', 'none', $path, 0, MS_REMOUNT | MS_BIND | $flags, 0) or die "$path: $!\n";
}

sub place {
  my ($path, $target, $flags) = @_;
  my $whole = '';
  for (split m{/}, substr($target, 1)) { mkdir($whole .= "/$_", 0755) }
  if (!-d $path) {
    rmdir($target);
    # Nothing may be open for writing there when it becomes read-only.
    put($target, '') or die "$path: $!\n";
  }
  kernel('mount', $path, $target, 0, MS_BIND | MS_REC, 0) or die "$path: $!\n";
  restrict($target, $flags);
}

# The new tree: what the lines of the order name, `read PATH` (data), `load PATH` (code), `link PATH` (a
# symlink as it is), `empty PATH` (a directory with nothing in it), `modules PATH` (code, at /node_modules), `process PID`
# (what /proc has of it).
sub close_tree {
  my (@order) = @_;
  # Something to mount on. What is below it we do not keep.
  my ($root) = grep { -d } qw(/sys/kernel /sys /mnt /tmp);
  kernel('mount', 'tmpfs', $root, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, 'mode=0755') or die "tmpfs: $!\n";
  for (@order) {
    my ($how, $path) = split / /, $_, 2;
    my $flags = MS_RDONLY | MS_NOSUID | MS_NODEV | ($how eq 'read' ? MS_NOEXEC : 0);
    if ($how eq 'process') {
      # Not all of /proc: other processes have a root directory too.
      place("/proc/$path", "$root/proc/$path", $flags | MS_NOEXEC);
      symlink($path, "$root/proc/self");
    }
    elsif ($how eq 'link') { symlink(readlink($path), "$root$path") }
    elsif ($how eq 'empty') { mkdir("$root$path", 0755) }
    else { place($path, $root . ($how eq 'modules' ? '/node_modules' : $path), $flags) }
  }
  mkdir("$root/.old", 0700);
  chdir($root) && kernel('pivot_root', '.', '.old') or die "pivot_root: $!\n";
  kernel('umount2', '/.old', MNT_DETACH) or die "umount: $!\n";
  rmdir('/.old');
  kernel('mount', 'none', '/', 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)
    or die "/: $!\n";
}

sub build {
  my @order = split /\n/, receive();
  eval { close_tree(@order); 1 } ? syswrite(STDIN, 'closed') : syswrite(STDIN, $@);
}

# What stays is CAP_NET_BIND_SERVICE: permitted, effective after exec(2) as root, in the bounding set.
sub drop_capabilities {
  my $mask = 1 << CAP_NET_BIND_SERVICE;
  for my $capability (0 .. 63) {
    next if $capability == CAP_NET_BIND_SERVICE;
    last if !kernel('prctl', PR_CAPBSET_DROP, $capability, 0, 0, 0);
  }
  # struct __user_cap_header_struct, version 3, and two of __user_cap_data_struct.
  return kernel('capset', pack('L2', 0x20080522, 0), pack('L6', $mask, $mask, $mask, 0, 0, 0));
}

# Whether BODY succeeds, tried in a process of its own: there is no way back from half of it.
sub succeeds {
  my ($body) = @_;
  my $child = fork;
  exit($body->() ? 0 : 1) if defined $child && $child == 0;
  return defined $child && waitpid($child, 0) == $child && $? == 0;
}

sub enter_mount_namespace {
  my ($privileged) = @_;
  my $inside = $privileged ? kernel('unshare', CLONE_NEWNS) : enter_user_namespace(CLONE_NEWNS);
  return $inside && kernel('mount', 'none', '/', 0, MS_REC | MS_SLAVE, 0);
}

# Landlock reaches only who comes after us, and so has to come before the threads. Clients of a unix datagram socket may
# have abstract names: those are to be answered.
sub keep_to_ourselves {
  my $scopes = LANDLOCK_SCOPE_SIGNAL;
  $scopes |= LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET if !grep { /unix:/ } @ARGV;
  # struct landlock_ruleset_attr: no right to files or ports is looked after.
  my $rules = result_of('landlock_create_ruleset', pack('Q3', 0, 0, $scopes), 24, 0);
  return if $rules < 0;
  kernel('landlock_restrict_self', $rules, 0);
  open(my $close, '<&=', $rules);
}

sub arrange {
  my ($main, $attach) = @_;
  defined($column = processor()) or return;
  my $privileged = $> == 0 && has_capability(CAP_SYS_ADMIN);
  # Without its power over permissions, root may be unable to read our own files.
  succeeds(sub {
    enter_mount_namespace($privileged) && drop_capabilities() && open(my $file, '<', $main);
  }) or return;
  my %end = (janitor => aside(janitor => \&tidy));
  $end{opener} = aside(opener => \&open_device) if $attach;
  enter_mount_namespace($privileged) or return;
  $end{holder} = aside(holder => \&hold) if !$attach;
  $end{builder} = aside(builder => \&build);
  # The system call filter refuses what it is for as well, if there is none to be had.
  kernel('unshare', CLONE_NEWIPC) if $attach;
  drop_capabilities() or return;
  if ($attach) {
    kernel('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    keep_to_ourselves();
  }
  return join(' ', map { "$_=$end{$_}" } sort keys %end);
}

sub have_opener {
  my (@device) = @_;
  defined($column //= processor()) or return;
  my $end = aside(opener => sub { open_device(@device) });
  $ENV{TSLIRP_LAUNCHER} = "opener=$end" if defined $end;
}

sub confine {
  my ($main, $attach) = @_;
  my $ends = arrange($main, $attach);
  if (defined $ends) { $ENV{TSLIRP_LAUNCHER} = $ends }
  else { have_opener() }
}

require(__FILE__ =~ s{[^/]*$}{$_}r) for qw(found.pl opener.pl);
1;
