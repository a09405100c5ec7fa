# What the process was started with, noted before anything of ours changes it, and before a runtime obeys it that is not
# what the user meant: TSLIRP_FOUND says what is closed, ignored and open, and variables that Node would obey are there
# under another name. src/app/found.ts reads both, and gives a command what was there.
use strict;

# For Node and its libraries. Reading the certificates of one of them would take longer than the rest of the start.
sub FOR_NODE() { qr/^(NODE_\w+|UV_\w+|OPENSSL_CONF|SSL_CERT_FILE|SSL_CERT_DIR)$/ }
# Which perl itself ignores.
sub SIGFPE() { 8 }
sub O_CLOEXEC() { 02000000 }

# The first field of that name in a file of /proc/self.
sub own {
  my ($file, $field) = @_;
  open(my $lines, '<', "/proc/self/$file") or return '';
  my ($value) = map { /^\Q$field\E:?\s+(\w+)/ ? $1 : () } <$lines>;
  return $value // '';
}

# Descriptors beyond the standard ones that a program started by us would have.
sub open_descriptors {
  opendir(my $directory, '/proc/self/fd') or return;
  my @numbers = grep { /^\d+$/ && $_ > 2 && $_ != fileno($directory) } readdir($directory);
  # Perl's own are closed on exec.
  return grep {
    open(my $file, '<', "/proc/self/fdinfo/$_");
    my ($flags) = map { /^flags:\s+(\d+)/ ? oct($1) : () } $file ? <$file> : ();
    defined $flags && !($flags & O_CLOEXEC);
  } @numbers;
}

sub note_what_is_found {
  my (@closed) = @_;
  my $mask = hex(substr(own('status', 'SigIgn'), -8));
  my @ignored = grep { $_ != SIGFPE && $mask >> $_ - 1 & 1 } 1 .. 31;
  my %found = (
    closed => join(',', @closed), ignored => join(',', @ignored), descriptors => join(',', open_descriptors()),
    files => own('limits', 'Max open files'),
  );
  $ENV{TSLIRP_FOUND} = join(' ', map { "$_=$found{$_}" } sort keys %found);
  $ENV{"TSLIRP_KEPT_$_"} = delete $ENV{$_} for grep { $_ =~ FOR_NODE } keys %ENV;
  # Ours (the first line), so that a locale that is not installed is no word of perl's.
  delete $ENV{PERL_BADLANG};
}

# The end of every program here.
sub become_node {
  my ($main) = @_;
  if (!-e $main) {
    print STDERR "$0: $main is missing: build it with `npm run build`\n";
    exit 127;
  }
  # Under the name that we were called by.
  exec { 'node' } $0, $main, @ARGV or print STDERR "$0: node cannot be started: $!; Node.js 20.19 or newer has to be in PATH\n";
  exit 127;
}

1;
