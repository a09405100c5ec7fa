# What our process does before it becomes Node: notes what it was started with, puts the broker (broker.pl) beside us, and
# gives up what a process with threads cannot give up any more. It knows no options; the programs here say what is to be:
#
#   perl launch.pl FOR HOW CLOSED EARLY NAME MAIN ARGUMENTS
#
# FOR      `run`: there will be a command, which is to find all as we have; `attach`: there will be none; empty: nothing is
#          to be served.
# HOW      `confined`, `filtered` (there will be a system call filter), both, or something else for none of it.
# CLOSED   those of the descriptors 0 to 2 that were closed; they lead to /dev/null by now.
# EARLY    `PID INTERFACE`: a TAP that is to be there at once. Or empty.
# NAME     what we were called; MAIN: the program for Node.
#
# Confined, this process is
#   - in a mount namespace of our own (without the right to that: inside a user namespace of our own that maps only us),
#     in which nothing is changed yet. It can be had only before there are threads, but pivot_root(2), called by anybody
#     inside, moves the root of all its threads: the broker closes the tree when everything is open;
#   - of all capabilities with CAP_NET_BIND_SERVICE only, with no_new_privs, in an IPC namespace of our own, and where
#     Landlock can do it (Linux 6.12), with no signals and abstract unix sockets but to those who come after us.
# Where the namespace is not to be had, Node is started as it is, and tells if it must.
#
# TSLIRP_BROKER says where the broker is, and what became of HOW: `DESCRIPTOR PID plain`, `confined`, or `refused`.
# TSLIRP_FOUND says what was closed, ignored and open, and variables that Node would obey are there under another name
# (src/app/found.ts).
#
# Perl, because it is there on every Debian (perl-base is essential), starts in 2 ms and can make any system call. No
# modules, to keep it so.
use strict;

BEGIN { require(__FILE__ =~ s{[^/]*$}{kernel.pl}r) }

sub CLONE_NEWIPC() { 0x08000000 }
sub CAP_NET_BIND_SERVICE() { 10 }
sub CAP_SYS_ADMIN() { 21 }
sub PR_SET_NO_NEW_PRIVS() { 38 }
sub PR_SET_SECCOMP() { 22 }
sub SECCOMP_MODE_FILTER() { 2 }
sub IO_URING_SETUP() { 425 }
sub O_CLOEXEC() { 0x80000 }
sub LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET() { 1 }
sub LANDLOCK_SCOPE_SIGNAL() { 2 }
# Bytes, reserved and not used for the most part: below that V8 ends the process in its own words, with some versions.
sub ADDRESS_SPACE() { 3 << 30 }
# Beside ourselves: four threads of Node (one of V8's helpers), and the broker or its child; a command, and a program that prepares for it. With fewer,
# Node waits for ever or ends in its own words.
sub TASKS() { 5 }
sub TASKS_OF_COMMAND() { 2 }
# Of the threads with which V8 compiles and collects beside ours; Node's own number is four. More take processor time from the
# data plane's, and every start waits for them.
sub FOR_V8() { '--v8-pool-size=1' }
# Only below that it is looked whether there are so many left: it takes as many milliseconds.
sub FEW_PROCESSES() { 1024 }
# Which perl itself ignores.
sub SIGFPE() { 8 }
# Above what callers commonly hand us, and below 16: those Node does not pass on to programs that it starts.
sub OUR_DESCRIPTORS() { 10 }
# For Node and its libraries. Reading the certificates of one of them would take longer than the rest of the start.
sub FOR_NODE() { qr/^(NODE_\w+|UV_\w+|OPENSSL_CONF|SSL_CERT_FILE|SSL_CERT_DIR)$/ }

# The first field of that name in a file of /proc/self.
sub own {
  my ($file, $field) = @_;
  open(my $lines, '<', "/proc/self/$file") or return '';
  my ($value) = map { /^\Q$field\E:?\s+(\w+)/ ? $1 : () } <$lines>;
  return $value // '';
}

# Descriptors beyond the standard ones that a program started by us would have.
sub open_descriptors {
  return grep {
    open(my $file, '<', "/proc/self/fdinfo/$_");
    my ($flags) = map { /^flags:\s+(\d+)/ ? oct($1) : () } $file ? <$file> : ();
    # Perl's own are closed on exec.
    defined $flags && !($flags & O_CLOEXEC);
  } descriptors();
}

sub enter_mount_namespace {
  my ($privileged) = @_;
  my $inside = $privileged ? kernel('unshare', CLONE_NEWNS) : enter_user_namespace() && kernel('unshare', CLONE_NEWNS);
  return $inside && kernel('mount', 'none', '/', 0, MS_REC | MS_SLAVE, 0);
}

# Whether BODY succeeds, tried in a process of its own: there is no way back from half of it.
sub succeeds {
  my ($body) = @_;
  my $child = fork;
  exit($body->() ? 0 : 1) if defined $child && $child == 0;
  return defined $child && waitpid($child, 0) == $child && $? == 0;
}

# Whether so many processes more can be had at a time.
sub can_have {
  my ($count) = @_;
  pipe(my $wait, my $hold) or return 0;
  my @children;
  while (@children < $count) {
    my $child = fork;
    last if !defined $child;
    if ($child == 0) {
      close($hold);
      sysread($wait, my $end, 1);
      # No more than that: what the parent would do at its end is not ours.
      kill(SIGKILL, $$);
    }
    push(@children, $child);
  }
  close($hold);
  waitpid($_, 0) for @children;
  return @children == $count;
}

# Landlock reaches only who comes after us, and so has to come before the threads. Clients of a unix datagram socket may
# have abstract names, as peers of a link may: those are to be answered.
sub keep_to_ourselves {
  my $scopes = LANDLOCK_SCOPE_SIGNAL;
  $scopes |= LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET if !grep { /unix:|vfkit:/ } @_;
  # struct landlock_ruleset_attr: no right to files or ports is looked after.
  my $rules = result_of('landlock_create_ruleset', pack('Q3', 0, 0, $scopes), 24, 0);
  return if $rules < 0;
  kernel('landlock_restrict_self', $rules, 0);
  kernel('close', $rules);
  return;
}

# The event loops of Node 22 and later have a ring of io_uring each, if they can, and end the process when the kernel refuses
# one later. Our system call filter has to refuse it, because a ring would be a way around it: so there is to be none from
# the start. Sets no_new_privs, without which an ordinary user may have no filter.
sub without_rings {
  # struct sock_filter: the number of the call; ENOSYS (38) for io_uring_setup(2), and all others are allowed.
  my $filter = pack('(S C C L)4',
    0x20, 0, 0, 0, 0x15, 0, 1, IO_URING_SETUP, 0x06, 0, 0, 0x00050000 | 38, 0x06, 0, 0, 0x7fff0000);
  return kernel('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # With a struct sock_fprog.
    && kernel('prctl', PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pack('S x![P] P', 4, $filter), 0, 0);
}

sub confine {
  my ($main, @arguments) = @_;
  my $privileged = $> == 0 && hex(substr(own('status', 'CapEff'), -8)) >> CAP_SYS_ADMIN & 1;
  # Without its power over permissions, root may be unable to read our own files.
  my $possible = succeeds(sub {
    return enter_mount_namespace($privileged) && keep_capability(CAP_NET_BIND_SERVICE) && open(my $file, '<', $main);
  });
  return if !$possible;
  enter_mount_namespace($privileged) or return;
  # The system call filter refuses what it is for as well, if there is none to be had.
  kernel('unshare', CLONE_NEWIPC);
  keep_capability(CAP_NET_BIND_SERVICE) or return;
  kernel('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  keep_to_ourselves(@arguments);
  return 1;
}

# Puts a broker beside us, while we go on: our end of the socket and its PID. KEEPS: see there.
sub start_broker {
  my ($name, $keeps, $early, @signals) = @_;
  find_processor() or return;
  socketpair(my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, 0) or return;
  my $main = $$;
  my $child = fork;
  if (defined $child && $child == 0) {
    close($ours);
    # It ends when we do, and no sooner.
    $SIG{$_} = 'IGNORE' for qw(INT QUIT HUP TERM PIPE);
    require(__FILE__ =~ s{[^/]*$}{broker.pl}r);
    serve($theirs, $name, $keeps, $early, $main, @signals);
  }
  return ($ours, $child);
}

sub launch {
  my ($for, $how, $closed, $early, $name, $main, @arguments) = @_;
  if (!-e $main) {
    print STDERR "$name: $main is missing: build it with `npm run build`\n";
    exit 127;
  }
  my $space = own('limits', 'Max address space');
  if ($for ne '' && $space =~ /^\d+$/ && $space < ADDRESS_SPACE) {
    printf STDERR "%s: the limit of address space, %d MiB, is too low for Node: at least %d MiB (ulimit -v)\n",
      $name =~ s{.*/}{}r, $space >> 20, ADDRESS_SPACE >> 20;
    exit 1;
  }
  my $processes = own('limits', 'Max processes');
  my $tasks = TASKS + ($for eq 'run' ? TASKS_OF_COMMAND : 0);
  if ($for ne '' && $processes =~ /^\d+$/ && $processes < FEW_PROCESSES && !can_have($tasks)) {
    printf STDERR "%s: the limit of processes, %d, leaves too few for Node and its threads: %d beside those of this user (ulimit -u)\n",
      $name =~ s{.*/}{}r, $processes, $tasks + 1;
    exit 1;
  }
  my $mask = hex(substr(own('status', 'SigIgn'), -8));
  my @ignored = grep { $_ != SIGFPE && $mask >> $_ - 1 & 1 } 1 .. 31;
  my %found = (
    closed => $closed, ignored => join(',', @ignored), descriptors => join(',', open_descriptors()),
    files => own('limits', 'Max open files'),
  );
  # Ours (the first line of the programs); what was there before is put back.
  delete $ENV{PERL_BADLANG};
  my $directory = delete $ENV{TSLIRP_PWD};
  if (defined $directory) { $directory eq '' ? delete $ENV{PWD} : ($ENV{PWD} = $directory) }
  my $node = delete $ENV{TSLIRP_NODE} // 'node';
  $name =~ m{([^/]*)$};
  my ($link, $pid) = $for eq '' ? () : start_broker($1, $for eq 'run', $early, @ignored);
  if (defined $pid) {
    my $end = fcntl($link, F_DUPFD, OUR_DESCRIPTORS);
    my $is = $how !~ /confined/ ? 'plain' : confine($main, @arguments) ? 'confined' : 'refused';
    without_rings() if $how =~ /filtered/;
    $ENV{TSLIRP_BROKER} = "$end $pid $is";
  }
  else { $ENV{TSLIRP_BROKER} = 'unused' if $for eq '' }
  $ENV{TSLIRP_FOUND} = join(' ', map { "$_=$found{$_}" } sort keys %found);
  $ENV{"TSLIRP_KEPT_$_"} = delete $ENV{$_} for grep { $_ =~ FOR_NODE } keys %ENV;
  # Under the name that we were called by.
  exec { $node } $name, FOR_V8, $main, @arguments
    or print STDERR "$name: node cannot be started: $!; Node.js 20.19 or newer has to be in PATH\n";
  exit 127;
}

launch(@ARGV) if !caller;
1;
