# What our process does before it becomes Node: notes what it was started with, puts the broker (broker.pl) beside us, and
# gives up what a process with threads cannot give up any more (confine.pl). It knows no options; the programs here say what is to be:
#
#   perl launch.pl FOR HOW CLOSED EARLY NAME MAIN ARGUMENTS
#
# FOR      `run`: there will be a command, which is to find all as we have; `attach`: there will be none; empty: nothing is
#          to be served.
# HOW      Words: `confined`; `filtered` (there will be a system call filter); `background`: our caller waits until we are ready,
#          and then goes on without us; `syslog`: a socket to it is wanted; `changes`: who is root will be another user. Others
#          mean nothing.
# CLOSED   those of the descriptors 0 to 2 that were closed; they lead to /dev/null by now.
# EARLY    `PID INTERFACE`: a TAP that is to be there at once. Or empty.
# NAME     what we were called; MAIN: the program for Node.
#
# TSLIRP_BROKER says where the broker is, and what became of HOW: `DESCRIPTOR PID plain`, `confined`, or `refused`.
# TSLIRP_FOUND says what was closed, ignored and open, and variables that Node would obey are there under another name
# (src/app/found.ts).
#
# Perl, because it is there on every Debian (perl-base is essential), starts in 2 ms and can make any system call. No
# modules, to keep it so.
use strict;

BEGIN { require(__FILE__ =~ s{[^/]*$}{kernel.pl}r) }

sub O_CLOEXEC() { 0x80000 }
sub SOCK_DGRAM() { 2 }
sub SOCK_NONBLOCK() { 2048 }
sub SOCK_RAW() { 3 }
sub AF_NETLINK() { 16 }
sub NETLINK_ROUTE() { 0 }
# RTMGRP_LINK, and of both families RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE and so on.
sub NETWORK_GROUPS() { 0x551 }
# Bytes, reserved and not used for the most part: below that V8 ends the process in its own words, with some versions.
sub ADDRESS_SPACE() { 3 << 30 }
# Beside ourselves: four threads of Node (one of V8's helpers), and the broker or its child; a command, and a program that
# prepares for it. With fewer, Node waits for ever or ends in its own words.
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

# Our caller waits in this process, while another one, of a session of its own and with nothing of the caller's, goes on: returns
# there, with the descriptor by which it says that it is ready. What it says on standard error before that is passed on.
sub go_to_background {
  find_processor();
  pipe(my $ready, my $tell) && pipe(my $errors, my $say) or return;
  my $child = fork // return;
  if ($child == 0) {
    result_of('setsid');
    open(STDIN, '<', '/dev/null');
    open(STDOUT, '>', '/dev/null');
    open(STDERR, '>&', $say);
    return fcntl($tell, F_DUPFD, OUR_DESCRIPTORS);
  }
  close($tell);
  close($say);
  my %number = (HUP => 1, INT => 2, QUIT => 3, TERM => 15);
  for my $name (keys %number) {
    next if ($SIG{$name} // '') eq 'IGNORE';
    $SIG{$name} = sub {
      kill('TERM', $child);
      exit 128 + $number{$name};
    };
  }
  my $bits = '';
  vec($bits, fileno($_), 1) = 1 for $ready, $errors;
  my $is_ready;
  while (!defined $is_ready) {
    next if select(my $readable = $bits, undef, undef, undef) <= 0;
    $is_ready = sysread($ready, my $word, 1) if vec($readable, fileno($ready), 1);
    next if !vec($readable, fileno($errors), 1);
    if (sysread($errors, my $text, 65536)) { syswrite(STDERR, $text) }
    else { vec($bits, fileno($errors), 1) = 0 }
  }
  # What it said before that is there by now.
  pass_on($errors);
  exit 0 if $is_ready;
  waitpid($child, 0);
  pass_on($errors);
  exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
}

# What a pipe holds, to standard error.
sub pass_on {
  my ($pipe) = @_;
  my $bits = '';
  vec($bits, fileno($pipe), 1) = 1;
  while (select(my $readable = $bits, undef, undef, 0) > 0) {
    sysread($pipe, my $text, 65536) or return;
    syswrite(STDERR, $text);
  }
  return;
}

# A socket to the system's log: each line that is written there is a message.
sub connect_syslog {
  socket(my $log, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0) or return;
  connect($log, pack('S Z108', AF_UNIX, '/dev/log')) or return;
  return fcntl($log, F_DUPFD, OUR_DESCRIPTORS);
}

# Sockets by which the host's links, addresses and routes are asked for, and changes of them heard.
sub connect_routes {
  my @fds;
  for my $groups (0, NETWORK_GROUPS) {
    socket(my $socket, AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE) or return;
    bind($socket, pack('S x2 L2', AF_NETLINK, 0, $groups)) or return;
    push(@fds, fcntl($socket, F_DUPFD, OUR_DESCRIPTORS));
  }
  return join(',', @fds);
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
  my @descriptors = open_descriptors();
  my %told;
  if ($for ne '') {
    $told{ready} = go_to_background() if $how =~ /background/;
    $told{syslog} = connect_syslog() if $how =~ /syslog/;
    $told{routes} = connect_routes() if $how =~ /routes/;
  }
  my $mask = hex(substr(own('status', 'SigIgn'), -8));
  my @ignored = grep { $_ != SIGFPE && $mask >> $_ - 1 & 1 } 1 .. 31;
  my %found = (
    closed => $closed, ignored => join(',', @ignored), descriptors => join(',', @descriptors),
    files => own('limits', 'Max open files'), map { defined $told{$_} ? ($_ => $told{$_}) : () } keys %told,
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
    require(__FILE__ =~ s{[^/]*$}{confine.pl}r) if $how =~ /confined|filtered/;
    my $is = $how !~ /confined/ ? 'plain' : confine(scalar $how =~ /changes/, $main, @arguments) ? 'confined' : 'refused';
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
