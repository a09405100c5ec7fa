# What our process does before it becomes Node: notes what it was started with, puts the broker (broker.pl) beside us, and
# gives up what a process with threads cannot give up any more (confine.pl). It knows no options; the programs here say what is to be:
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
# TSLIRP_BROKER says where the broker is, and what became of HOW: `DESCRIPTOR PID plain`, `confined`, or `refused`.
# TSLIRP_FOUND says what was closed, ignored and open, and variables that Node would obey are there under another name
# (src/app/found.ts).
#
# Perl, because it is there on every Debian (perl-base is essential), starts in 2 ms and can make any system call. No
# modules, to keep it so.
use strict;

BEGIN { require(__FILE__ =~ s{[^/]*$}{kernel.pl}r) }

sub O_CLOEXEC() { 0x80000 }
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
    require(__FILE__ =~ s{[^/]*$}{confine.pl}r) if $how =~ /confined|filtered/;
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
