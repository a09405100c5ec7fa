# What a command is for the broker (broker.pl, which loads this when there is to be one): the process that becomes it in
# namespaces of its own, and what it is to see there.
use strict;

sub O_CLOEXEC_NONBLOCK() { 0x80800 }
sub IN_MOVED_TO() { 0x80 }
sub IN_CREATE() { 0x100 }
sub CLONE_NEWUTS() { 0x4000000 }
sub CLONE_NEWIPC() { 0x8000000 }
sub CLONE_NEWPID() { 0x20000000 }
sub SIGCHLD() { 17 }

# As newuidmap(1) and newgidmap(1) take it: our own id is 0, and behind it come those that /etc/subuid or /etc/subgid gives
# to our user.
sub id_map {
  my ($kind, $own) = @_;
  my $name = getpwuid($>) // '';
  my @map = (0, $own, 1);
  my $next = 1;
  open(my $file, '<', "/etc/sub$kind") or return @map;
  while (<$file>) {
    my ($user, $first, $count) = /^([^:]+):(\d+):(\d+)$/ or next;
    next if $user ne $name && $user ne $>;
    push(@map, $next, $first, $count);
    $next += $count;
  }
  return @map;
}

# Maps all ids that are our user's for process PID; what goes wrong is written to standard output in one line.
sub map_all_ids {
  my ($pid) = @_;
  open(STDERR, '>&', \*STDOUT);
  for (['uid', $> + 0], ['gid', $) + 0]) {
    my ($kind, $own) = @$_;
    my @map = id_map($kind, $own);
    return syswrite(STDOUT, "/etc/sub$kind gives none to " . (getpwuid($>) // $>)) if @map == 3;
    my $status = system { "new${kind}map" } "new${kind}map", $pid, @map;
    return syswrite(STDOUT, "new${kind}map cannot be started (package uidmap)") if $status == -1;
    return if $status;
  }
  return;
}

# A user namespace in which we are root, and the other ids of our user are others; returns why not: an errno, or a line.
sub enter_with_all_ids {
  my $process = $$;
  pipe(my $entered, my $enter) or return $! + 0;
  # It stays outside, where the ids are.
  my $mapper = open(my $said, '-|') // return $! + 0;
  if ($mapper == 0) {
    close($enter);
    map_all_ids($process) if sysread($entered, my $word, 1);
    exit 0;
  }
  my $inside = kernel('unshare', CLONE_NEWUSER());
  my $errno = $! + 0;
  syswrite($enter, '.') if $inside;
  close($enter);
  my $fault = join(' ', map { s/\s+\z//r } <$said>);
  close($said);
  return $inside ? $fault : $errno;
}

# Becomes a command in user, network and mount namespaces of its own, killed when the broker ends. Descriptor REPORT gets
# the word `there` when it is in them, or `fault KIND ERRNO`, or `fault ids` and a line.
sub become_command {
  my ($broker, $report, $map, @words) = @_;
  my $say = sub { my ($line) = @_; return kernel('write', $report, "$line\n", length($line) + 1) };
  my $why = $map eq 'all' ? enter_with_all_ids() : '';
  return $say->("fault " . ($why =~ /\D/ ? 'ids' : 'user') . " $why") if $why ne '';
  my $fault = $map ne 'all' && !enter_user_namespace() ? 'user' : !kernel('unshare', CLONE_NEWNS()) ? 'mnt'
    : !kernel('unshare', CLONE_NEWNET()) ? 'net' : !kernel('mount', 'none', '/', 0, MS_REC() | MS_SLAVE(), 0) ? 'mnt' : '';
  return $say->("fault $fault " . ($! + 0)) if $fault ne '';
  kernel('prctl', PR_SET_PDEATHSIG(), SIGKILL(), 0, 0, 0);
  return if getppid() != $broker;
  $say->("there $$");
  exec { $words[0] } @words or return $say->('fault exec ' . ($! + 0));
}

# As fork, but in namespaces of its own and as the first process there; in a user namespace too if IS_ROOT is wanted.
sub fork_isolated {
  my ($is_root) = @_;
  my $flags = CLONE_NEWPID | CLONE_NEWNS() | CLONE_NEWNET() | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;
  return result_of('clone', $flags | ($is_root ? CLONE_NEWUSER() : 0), 0, 0, 0, 0);
}

# What `fork_isolated` has made becomes a command when it is told to. It is there beyond our end, whoever we are told to end by.
# REPORT gets the words that it gets in `become_command`.
sub become_isolated {
  my ($going, $report, $ids, $hostname, $path, @words) = @_;
  my $say = sub { my ($line) = @_; return syswrite($report, "$line\n") };
  return $say->('fault user ' . ($! + 0)) if $ids && !become_root(@$ids);
  # As the others see it.
  my $pid = readlink('/proc/self');
  kernel('mount', 'none', '/', 0, MS_REC() | MS_SLAVE(), 0) or return $say->('fault mnt ' . ($! + 0));
  kernel('mount', 'proc', '/proc', 'proc', MS_NOSUID() | MS_NODEV() | MS_NOEXEC(), 0) or $say->('proc ' . ($! + 0));
  kernel('sethostname', $hostname, length($hostname));
  # Root may ping, who is everybody there.
  put('/proc/sys/net/ipv4/ping_group_range', '0 0');
  $say->("there $pid");
  $say->('done');
  sysread($going, my $word, 3) or return;
  exec { $path } @words or return $say->('fault exec ' . ($! + 0));
}

# The host's files that the command sees others in place of. The kernel takes ours away when the host replaces its own by
# rename(2), in whatever namespace: so we keep what the command sees, and cover the new one too.
my @covers;
# Files of the command's namespaces, as they are before it can enter others.
my @namespaces;

# Looks what a command that is prepared sees. Returns a handle that becomes readable when the host may have replaced a file, or
# nothing.
sub keep_covers {
  my ($command) = @_;
  for my $path (qw(/etc/resolv.conf /etc/hosts)) {
    open(my $host, '<', $path) or next;
    # Without links, which would lead out of the command's view.
    my $place = readlink('/proc/self/fd/' . fileno($host));
    open(my $seen, '<', "/proc/$command/root$place") or next;
    next if identity(stat $seen) eq identity(stat $host);
    push(@covers, { path => $path, host => identity(stat $host), seen => $seen });
  }
  return if !@covers;
  for my $kind (qw(user mnt)) {
    open(my $file, '<', "/proc/$command/ns/$kind") or return;
    push(@namespaces, $file);
  }
  my $changes = result_of('inotify_init1', O_CLOEXEC_NONBLOCK);
  return if $changes < 0 || !open(my $handle, '<&=', $changes);
  watch_directories($handle);
  return $handle;
}

# Where files, or links to them, are renamed.
sub watch_directories {
  my ($changes) = @_;
  for (map { $$_{path} } @covers) {
    my $place = -l $_ ? readlink : $_;
    $place = "/etc/$place" if $place !~ m{^/};
    for my $directory ('/etc', $place =~ s{/[^/]*$}{}r) {
      kernel('inotify_add_watch', fileno($changes), $directory, IN_MOVED_TO | IN_CREATE);
    }
  }
  return;
}

sub has_covers { return @covers > 0 }

# Those of which the host has other files by now.
sub lost_covers {
  return grep {
    my $host = identity(stat $$_{path});
    my $is_lost = $host ne '' && $host ne $$_{host};
    $$_{host} = $host if $is_lost;
    $is_lost;
  } @covers;
}

# In a process that may be used up.
sub cover_again {
  my ($cover) = @_;
  my ($path, $seen) = @$cover{qw(path seen)};
  hide() or return;
  for (@namespaces) { kernel('setns', fileno($_), 0) or return }
  # The command may have something of its own there.
  return if identity(stat $path) ne $$cover{host};
  # A directory that nobody else has a use for.
  my $place = "/proc/$$/task";
  kernel('mount', 'tmpfs', $place, 'tmpfs', MS_NOSUID() | MS_NODEV(), 'mode=0755') or return;
  sysseek($seen, 0, 0);
  read($seen, my $text, -s $seen);
  put("$place/file", $text);
  chmod(oct('644'), "$place/file");
  kernel('mount', "$place/file", $path, 0, MS_BIND(), 0);
  kernel('umount2', $place, MNT_DETACH());
  return;
}

1;
